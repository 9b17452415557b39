"""Random changes to images: of the kind that was asked for, the same from the same seed, within bounds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.tasks import Split, StoredImages
from everlearn.tasks.pixels import Fit
from everlearn.tasks.stored import ImageFiles
from everlearn.training import augmentation as module
from everlearn.training.augmentation import Augmentation, augmentation
from everlearn.training.data import TrainingData, on_device
from tests.tasks.made import write_images

pytest.importorskip("kornia", reason="kornia is not installed; pip install everlearn[augment]")
CPU = torch.device("cpu")


def split(channels: int = 3, side: int = 16, last: bool = True) -> TrainingData:
    """Standardised: numbers below 0 and above 1, another range for each channel."""
    images = torch.rand(12, channels, side, side, generator=torch.Generator().manual_seed(0))
    images = images * torch.arange(2, 2 + channels).view(-1, 1, 1) - 1
    return on_device(Split(images, torch.arange(12) % 2), CPU, last)


def made(text: str, data: TrainingData) -> Augmentation:
    change = augmentation(text, data)
    assert change is not None
    return change


@pytest.mark.parametrize("text", ["crop", "flip", "colour", "crop+flip+colour", "colour+crop"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [True, False])
def test_the_same_seed_gives_the_same_images_of_the_same_shape(text: str, channels: int, last: bool) -> None:
    data = split(channels, last=last)
    images = data.take(slice(0, 8))
    before = images.clone()
    found = []
    for change in (made(text, data), made(text, data)):  # nothing is remembered from one to the next
        for seed in (5, 5, 6):
            torch.manual_seed(seed)
            found.append(change(images))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(images, before)
    assert found[0].shape == images.shape
    assert found[0].dtype == torch.float32
    assert found[0].is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def test_crops_are_of_the_padded_image() -> None:
    data = split()
    images = data.take(slice(0, 12))
    torch.manual_seed(0)
    found = made("crop", data)(images)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))  # an eighth of 16
    places = set()
    for image, crop in zip(padded, found, strict=True):
        [place] = [(y, x) for y in range(5) for x in range(5) if torch.equal(image[:, y : y + 16, x : x + 16], crop)]
        places.add(place)
    assert len(places) > 3


def test_about_half_are_flipped() -> None:
    data = split()
    images = data.take(torch.arange(12).repeat(20))
    torch.manual_seed(0)
    found = made("flip", data)(images)
    flipped = [torch.equal(new, old.flip(2)) for new, old in zip(found, images, strict=True)]
    assert all(flip or torch.equal(new, old) for flip, new, old in zip(flipped, found, images, strict=True))
    assert 90 < sum(flipped) < 150  # of 240


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_within_the_training_splits_bounds(channels: int) -> None:
    data = split(channels)
    images = data.take(slice(0, 12))
    torch.manual_seed(0)
    found = made("colour", data)(images)
    low, high = (torch.stack([part(images[:, c]) for c in range(channels)]) for part in (torch.amin, torch.amax))
    assert (found.amin((0, 2, 3)) >= low - 1e-5).all()
    assert (found.amax((0, 2, 3)) <= high + 1e-5).all()
    moved = (found - images).abs().mean((1, 2, 3))
    assert (moved > 1e-3).all()
    assert moved.max() < 0.8


def test_colours_do_not_depend_on_how_images_are_standardised() -> None:
    """Another affine map a channel changes what arrives, but not the picture that is made of it."""
    data = split()
    mean, scale = torch.tensor([1.0, -2.0, 3.0]).view(-1, 1, 1), torch.tensor([2.0, 0.5, 1.5]).view(-1, 1, 1)
    images = data.take(slice(0, 12))
    other = on_device(Split((images - mean) / scale, data.labels), CPU, True)
    torch.manual_seed(3)
    here = made("colour", data)(images)
    torch.manual_seed(3)
    there = made("colour", other)(other.take(slice(0, 12)))
    torch.testing.assert_close(there * scale + mean, here, rtol=0, atol=1e-4)


def test_a_channel_of_one_value_stays_finite() -> None:
    data = on_device(Split(torch.full((4, 3, 8, 8), 2.0), torch.tensor([0, 1, 0, 1])), CPU, True)
    assert torch.isfinite(made("crop+flip+colour", data)(data.take(slice(0, 4)))).all()


def test_bounds_of_stored_images_come_from_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, {"cat": 20})
    files = ImageFiles(tmp_path, tuple(f"cat/{number}.png" for number in range(20)))
    data = on_device(Split(StoredImages(files, np.arange(20), Fit((8, 8))), torch.arange(20) % 2), CPU, True)
    asked: list[int] = []
    take = StoredImages.take

    def noted(self: StoredImages, index: torch.Tensor) -> torch.Tensor:
        asked.extend(index.tolist())
        return take(self, index)

    monkeypatch.setattr(StoredImages, "take", noted)
    monkeypatch.setattr(module, "SAMPLE", 5)
    assert augmentation("colour", data) is not None
    assert asked == [0, 0, 4, 8, 12, 16]  # the first tells the shape


def test_what_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    data = split()
    assert augmentation("", data) is None
    with pytest.raises(UnknownNameError, match=r"no augmentation named 'color'; did you mean colour\?"):
        augmentation("crop+color", data)
    with pytest.raises(ConfigurationError, match="images of 1 or 3 channels can be changed, but these have 2"):
        augmentation("colour", split(2))
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    with pytest.raises(ConfigurationError, match=r"not installed; install it with: pip install everlearn\[augment\]$"):
        augmentation("flip", data)
    assert augmentation("", data) is None


def test_kornia_is_imported_only_when_asked_for() -> None:
    code = "import sys, everlearn.training.augmentation; print('kornia' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_but_the_global_generator_is_drawn_from() -> None:
    """With the generator put back, the next draw is as if there had been none in between."""
    data = split()
    change = made("crop+flip+colour", data)
    torch.manual_seed(1)
    change(data.take(slice(0, 8)))
    second = change(data.take(slice(0, 8)))
    torch.manual_seed(1)
    np.random.seed(0)
    change(data.take(slice(0, 8)))
    assert torch.equal(change(data.take(slice(0, 8))), second)
