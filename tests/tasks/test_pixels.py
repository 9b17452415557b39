"""Files of every kind to pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks import pixels as pixels_module
from everlearn.tasks.pixels import parse_size, read_image, stack, to_float
from tests.tasks.made import encode, noise


def saved(image: Image.Image, kind: str = "PNG", exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({} if exif is None else {"exif": exif}))
    return buffer.getvalue()


def test_pixels_are_those_that_were_written(tmp_path: Path) -> None:
    pixels = noise(1, (4, 7, 3))
    (tmp_path / "a.png").write_bytes(encode(pixels))
    assert np.array_equal(read_image(tmp_path / "a.png", "a"), pixels)
    assert np.array_equal(read_image(encode(pixels, "WEBP"), "a"), pixels)


def test_grey_is_luma_to_the_nearest_level() -> None:
    pixels = noise(2, (3, 3, 3))
    luma = pixels.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(read_image(encode(pixels), "a", grey=True) - luma).max() <= 0.51
    assert np.array_equal(read_image(encode(pixels[..., 0]), "a")[..., 2], pixels[..., 0])


def test_a_photograph_is_turned_upright() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the top left corner goes to the top right
    upright = read_image(saved(Image.fromarray(pixels), "PNG", exif), "a")
    assert upright.shape == (3, 2, 3)
    assert upright[0, 1].tolist() == [255, 255, 255]
    assert upright.sum() == 3 * 255


def test_sixteen_bit_levels_are_scaled_not_clipped() -> None:
    levels = np.array([[0, 256, 257, 25700, 65535]], dtype=np.uint16)
    assert read_image(saved(Image.fromarray(levels)), "a", grey=True).tolist() == [[0, 0, 1, 100, 255]]


def test_palettes_and_transparency_become_plain_colour() -> None:
    see_through = np.dstack([noise(3, (2, 2, 3)), np.array([[0, 255], [128, 7]], np.uint8)])
    assert np.array_equal(read_image(saved(Image.fromarray(see_through)), "a"), see_through[..., :3])
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    palette.info["transparency"] = b"\x00\x80"
    assert read_image(saved(palette), "a").tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_resizing_takes_height_then_width() -> None:
    assert read_image(encode(noise(4, (9, 9, 3))), "a", size=(2, 5)).shape == (2, 5, 3)


@pytest.mark.parametrize("damage", ["half", "words", "bad header", "bad chunk", "empty", "float", "avif"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    pixels = noise(5, (40, 40, 3))
    good = encode(pixels)
    data = {
        "avif": encode(pixels, "AVIF").replace(b"pitm", b"xxxx"),  # a decoder that raises a RuntimeError
        "half": good[: len(good) // 2],
        "words": b"not an image",
        "bad header": good[:12] + b"\0\0\0\0" + good[16:],
        "bad chunk": good[:36] + b"\0" + good[37:],  # the length of the pixel data, in the bytes 33 to 36
        "empty": b"",
        "float": saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"),
    }[damage]
    file = tmp_path / "cat.png"
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"^{file} (cannot be read as an image|is empty)") as caught:
        read_image(file, str(file))
    assert "BytesIO" not in str(caught.value)
    assert str(caught.value).endswith("replace it or take it out.")
    assert ("empty (0 bytes)" in str(caught.value)) == (damage == "empty")
    assert ("floating-point" in str(caught.value)) == (damage == "float")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^x.png cannot be read: No such file"):
        read_image(tmp_path / "x.png", "x.png")


def test_two_sizes_are_named_with_their_files() -> None:
    with pytest.raises(DataError, match=r"^a has 2 x 3 pixels but c has 3 x 2; resize all to one size"):
        stack([noise(0, (2, 3)), noise(1, (2, 3)), noise(2, (3, 2))], ["a", "b", "c"])


def test_stacked_pixels_become_floats() -> None:
    pixels = noise(6, (2, 3, 4, 3))
    images = to_float(pixels)
    assert images.shape == (2, 3, 3, 4)
    assert images[1, 2, 0, 3] == np.float32(pixels[1, 0, 3, 2]) / np.float32(255)
    assert to_float(pixels[..., 0]).shape == (2, 1, 3, 4)


def test_sizes_are_read() -> None:
    assert parse_size("64x48") == (64, 48)
    assert parse_size("32") == (32, 32)
    assert parse_size("") is None


@pytest.mark.parametrize("text", ["0", "4x", "4x5x6", "big", "-3", "4.5", "16385", "8x99999999999", "9" * 5000])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="size is wanted as height x width"):
        parse_size(text)


def test_a_damaged_tiff_that_asks_for_more_than_there_can_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    good = saved(Image.fromarray(noise(5, (24, 20, 3))), "TIFF")
    place = int.from_bytes(good[4:8], "little")
    count = int.from_bytes(good[place : place + 2], "little")
    raised = 0
    for entry in range(count):
        # Each field of the directory in turn as large as it can be.
        start = place + 2 + 12 * entry
        for kept in (4, 8):
            bad = good[: start + kept] + b"\xff" * (12 - kept) + good[start + 12 :]
            try:
                read_image(bad, "cat.tif", size=(8, 8))
            except DataError as error:
                raised += str(error).startswith("cat.tif cannot be read as an image")
    assert raised

    def overflow(*_: object) -> None:
        raise OverflowError("Python int too large to convert to C ssize_t")

    monkeypatch.setattr(pixels_module, "pixels_of", overflow)
    with pytest.raises(DataError, match=r"^cat.tif cannot be read as an image \(Python int too large"):
        read_image(good, "cat.tif")
