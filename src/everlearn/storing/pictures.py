"""Images on their way to a learner: from files, Pillow or arrays to pixels, and from pixels to what a network sees."""

import io
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError, MissingDataError, UnknownNameError
from everlearn.storing.records import Preprocessing
from everlearn.tasks.arrays import images_from_array
from everlearn.tasks.folders import IMAGE_SUFFIXES, class_files
from everlearn.tasks.pixels import Fit, read_image, to_float
from everlearn.tasks.standardising import IMAGENET, Statistics, standardise_images
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.task import Split
from everlearn.tasks.transforms import statistics

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 250
"""Images that are decoded, and answered, at a time."""

Picture = Any
"""A path, or an image of Pillow."""
Pictures = Any
"""One picture or several, or an array or tensor `[N, C, H, W]`."""


def measured(split: Split, how: str) -> Preprocessing:
    """The preprocessing of a task whose training images these are.

    Raises:
        ConfigurationError: no such way to standardise, or ImageNet's for images that are not RGB.
    """
    _, channels, height, width = split.images.shape
    if how == "train":
        by = statistics(split.images)
    elif how == "imagenet":
        if channels != 3:
            raise ConfigurationError(f"ImageNet's values are of 3 channels, but these images have {channels}.")
        by = IMAGENET
    elif how == "none":
        by = Statistics(torch.zeros(channels), torch.ones(channels))
    else:
        raise UnknownNameError("way to standardise", how, ("train", "imagenet", "none"))
    return Preprocessing(
        channels=channels,
        height=height,
        width=width,
        mean=[float(x) for x in by.mean],
        scale=[float(x) for x in by.scale],
    )


def statistics_of(pre: Preprocessing) -> Statistics:
    """What a task's images are standardised by."""
    return Statistics(torch.tensor(pre.mean, dtype=torch.float32), torch.tensor(pre.scale, dtype=torch.float32))


def standardised(split: Split, pre: Preprocessing) -> Split:
    """A split as a network sees it.

    Raises:
        DataError: its images have another shape.
    """
    shape = tuple(split.images.shape[1:])
    if shape != (pre.channels, pre.height, pre.width):
        raise DataError(
            f"images of {pre.channels} x {pre.height} x {pre.width} (channels, height, width) are wanted, but they are "
            f"{' x '.join(map(str, shape))}."
        )
    by = statistics_of(pre)
    images = split.images
    made = images.standardised(by) if isinstance(images, StoredImages) else standardise_images(images, by)
    return Split(made, split.labels)


def pixel_batches(images: Pictures, pre: Preprocessing) -> Iterator[Tensor]:
    """Images as pixels, `[n, C, H, W]` float32, not yet standardised, some hundred at a time.

    Raises:
        DataError: an image that cannot be read, or an array of another shape.
    """
    if isinstance(images, np.ndarray | Tensor):
        yield from _array(images, pre).split(CHUNK)
        return
    several: Iterable[Any] = [images] if isinstance(images, str | Path) or hasattr(images, "convert") else images
    if not isinstance(several, Iterable):
        raise DataError(
            f"images are wanted as paths, images of Pillow or an array, one or several, but came as {images!r:.80}."
        )
    for part in _chunks(several):
        yield _decoded(part, pre)


def _chunks(images: Iterable[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    for image in images:
        part.append(image)
        if len(part) == CHUNK:
            yield part
            part = []
    if part:
        yield part


def _array(images: np.ndarray | Tensor, pre: Preprocessing) -> Tensor:
    if images.ndim != 4:
        raise DataError(f"arrays of images are wanted as [N, C, H, W], but one of shape {list(images.shape)} came.")
    pixels = images_from_array(images)
    if pixels.shape[1] != pre.channels:
        raise DataError(f"images of {pre.channels} channels are wanted, but an array of {list(images.shape)} came.")
    if not torch.isfinite(pixels).all():
        raise DataError("the array has pixels that are not finite numbers (NaN or infinity).")
    if tuple(pixels.shape[2:]) == (pre.height, pre.width):
        return pixels
    if str(images.dtype).rpartition(".")[2] != "uint8" or pre.channels not in (1, 3):
        raise DataError(
            f"images of {pre.height} x {pre.width} pixels are wanted, but the array has {pixels.shape[2]} x "
            f"{pixels.shape[3]}; resize them, or give 8-bit levels (uint8), which are resized as files are."
        )
    from PIL import Image

    levels = np.asarray(images).transpose(0, 2, 3, 1)
    return _decoded([Image.fromarray(one.squeeze(-1) if pre.channels == 1 else one) for one in levels], pre)


def _decoded(images: Sequence[Picture], pre: Preprocessing) -> Tensor:
    """Files or images of Pillow as pixels, `[n, C, H, W]`."""
    if pre.channels not in (1, 3):
        raise DataError(f"the task's images have {pre.channels} channels, which files have not; give an array.")
    fit, grey = Fit((pre.height, pre.width)), pre.channels == 1
    found = [read_image(*_source(image), grey, fit) for image in images]
    return to_float(np.stack(found))


def _source(image: Picture) -> tuple[Path | bytes, str]:
    if isinstance(image, str | Path):
        return Path(image), str(image)
    if isinstance(image, bytes):
        return image, "an image"
    if not hasattr(image, "convert"):
        raise DataError(
            f"an image is wanted as a path, an image of Pillow or an array, but came as {type(image).__name__}."
        )
    return _encoded(image), "an image of Pillow"


def _encoded(image: "Image") -> bytes:
    """An image of Pillow as a file's bytes, so that it comes to pixels in the very way of files."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        if upright.mode == "F":
            raise DataError("an image of Pillow has floating-point pixels of no known range; convert it.")
        upright = upright.convert("RGB")
    file = io.BytesIO()
    upright.save(file, "PNG", compress_level=0)
    return file.getvalue()


def find_pictures(names: Sequence[str]) -> list[Path]:
    """The image files that names stand for: files, folders (all images below them), patterns such as `*.jpg`.

    As when learning, files and folders whose names begin with a dot are passed over, unless they are named.

    Raises:
        MissingDataError: a name stands for nothing.
    """
    found: list[Path] = []
    for name in names:
        reason = ""
        try:
            some = _meant(Path(name).expanduser()) if name else []  # "" would be this folder
        except (ValueError, OSError, RuntimeError) as error:  # no pattern, too long, of a home that nobody has
            some, reason = [], f" ({error})"
        if not some:
            raise MissingDataError(
                f"{name or 'an empty name'} is no image, no folder that holds any, and no pattern that finds any"
                f"{reason}."
            )
        found += some
    return found


def _meant(path: Path) -> list[Path]:
    if path.is_dir():
        return _below(path, "**/*")
    if path.exists():
        return [path]
    return _below(Path(path.anchor), str(path.relative_to(path.anchor)))


def _below(root: Path, pattern: str) -> list[Path]:
    named = [part for part in Path(pattern).parts if part.startswith(".")]

    def shown(part: str) -> bool:
        return not part.startswith(".") or any(fnmatchcase(part, one) for one in named)

    images = (p for p in root.glob(pattern) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(p for p in images if all(map(shown, p.relative_to(root).parts)))


def folder_split(folder: Path, classes: Sequence[str], pre: Preprocessing, task: str) -> Split:
    """All images of a folder of class folders as one split, not standardised.

    Raises:
        MissingDataError: there is no such folder.
        DataError: it holds a class that the task does not have, or an image that cannot be read.
    """
    if not folder.is_dir():
        raise MissingDataError(f"there is no folder {folder}; give one that holds a folder of images for each class.")
    files = class_files(folder)
    unknown = sorted(set(files) - set(classes))
    if unknown:
        raise DataError(f"{folder} holds a class {unknown[0]!r}, but task {task!r} has {', '.join(classes)}.")
    labels = [classes.index(name) for name, pool in files.items() for _ in pool]
    paths = [path for pool in files.values() for path in pool]
    images = torch.cat(list(pixel_batches(paths, pre)))
    return Split(images, torch.tensor(labels))


def levels_of(images: Tensor) -> Tensor:
    """Pixels as the store keeps them: 8-bit levels where that loses nothing, else as they are."""
    levels = (images * 255).round().clamp(0, 255).to(torch.uint8)
    return levels if torch.equal(levels.to(torch.float32) / 255, images) else images
