"""What cameras, scanners and the web leave in a folder of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everlearn.errors import DataError
from everlearn.tasks import task_from_folder
from everlearn.tasks.listed import IMAGE_SUFFIXES
from everlearn.tasks.pixels import read_image
from tests.tasks.made import write_images

RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def near(image: np.ndarray, colour: tuple[int, int, int], by: int = 12) -> bool:
    return bool((np.abs(image.astype(int) - colour) <= by).all())


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_inks_become_colours(tmp_path: Path, name: str) -> None:
    """CMYK as a printer's files have it: no cyan, all magenta and yellow is red, not its opposite."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / name)
    assert near(read_image(tmp_path / name, "a"), (255, 0, 0), 20)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50)
    with Image.open(tmp_path / name) as opened:
        assert getattr(opened, "n_frames", 1) == 3
    assert near(read_image(tmp_path / name, "a"), RED)


def test_of_a_scan_of_many_pages_the_first_is_taken(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (16, 16), colour) for colour in (BLUE, RED)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    assert near(read_image(tmp_path / "a.tiff", "a"), BLUE, 0)


@pytest.mark.parametrize(
    ("mode", "value", "wanted"),
    [("1", 1, (255,) * 3), ("LA", (90, 0), (90,) * 3), ("RGBA", (*RED, 0), RED), ("L", 90, (90,) * 3)],
)
def test_other_kinds_of_pixels(tmp_path: Path, mode: str, value: int, wanted: tuple[int, int, int]) -> None:
    Image.new(mode, (4, 4), value).save(tmp_path / "a.png")
    assert near(read_image(tmp_path / "a.png", "a"), wanted, 0)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_grey(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.array([[0, 257, 25700, 65535]], np.uint16)).save(tmp_path / name)
    assert read_image(tmp_path / name, "a", grey=True).tolist() == [[0, 1, 100, 255]]


def test_a_photograph_is_upright_before_it_is_resized(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), RED)
    wide.paste(BLUE, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 8  # shown turned by 90 degrees counter-clockwise: the left side comes to the bottom
    wide.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg", "a", size=(8, 4))
    assert image.shape == (8, 4, 3)
    assert near(image[:3], RED)
    assert near(image[5:], BLUE)


def test_a_name_does_not_make_an_image(tmp_path: Path) -> None:
    """A file counts by its content: a PNG that is called .jpg is read, a page of HTML is not."""
    write_images(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "0.jpg")
    task_from_folder(tmp_path)
    (tmp_path / "cat" / "1.png").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"cat/1.png cannot be read as an image \(it is no image of a known format\)"):
        task_from_folder(tmp_path)


def test_what_counts_as_an_image_can_be_read_here() -> None:
    Image.init()
    assert set(Image.registered_extensions()) >= IMAGE_SUFFIXES
