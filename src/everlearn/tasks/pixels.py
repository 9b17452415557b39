"""Image files, or their bytes, to pixels.

Pillow, datasets and scikit-learn are imported inside the functions that need them, here and in the whole
package: each takes up to a second and a half, which a run on data from elsewhere would pay for nothing.
"""

import io
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
"""Height and width."""
MAX_SIDE = 16_384
"""Pixels of a side at most."""

_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, RuntimeError, LookupError, TypeError, ArithmeticError, struct.error
)  # fmt: skip
"""What Pillow's decoders raise for damaged files: a SyntaxError for a PNG, a RuntimeError for an AVIF, an OverflowError
for a TIFF."""


@dataclass(frozen=True)
class Fit:
    """How an image of any size comes to a fixed one.

    Attributes:
        size: height and width that it comes to.
        resize: height and width that it is resized to first; its middle is then cut out. None: as `size`.
        keep: whether the aspect ratio is kept: `resize` is then covered, and what stands over is cut off.

    Raises:
        ConfigurationError: what it is resized to is smaller than what is cut out of it.
    """

    size: Size
    resize: Size | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        if self.resize is not None and (self.resize[0] < self.size[0] or self.resize[1] < self.size[1]):
            raise ConfigurationError(
                f"images resized to {self.resize[0]} x {self.resize[1]} are too small to cut {self.size[0]} x "
                f"{self.size[1]} out of; give a larger size to resize to."
            )

    def apply(self, image: "Image") -> "Image":
        """Resize (bilinear, antialiased) and cut out the middle."""
        from PIL.Image import Resampling

        height, width = self.resize or self.size
        if self.keep:
            factor = max(height / image.height, width / image.width)
            height, width = max(height, round(image.height * factor)), max(width, round(image.width * factor))
        image = image.resize((width, height), Resampling.BILINEAR)
        if (height, width) == self.size:
            return image
        top, left = (height - self.size[0]) // 2, (width - self.size[1]) // 2
        return image.crop((left, top, left + self.size[1], top + self.size[0]))


def parse_size(text: str) -> Size | None:
    """Height and width from "32x48" or, for a square, "32"; None from "".

    Raises:
        ConfigurationError: it is neither.
    """
    if not text:
        return None
    sides = text.lower().split("x")
    sides = sides * 2 if len(sides) == 1 else sides
    # Eight digits are enough to see that it is too much.
    numbers = [int(side[:8]) if side.isdecimal() else 0 for side in sides]
    if len(numbers) != 2 or not all(1 <= number <= MAX_SIDE for number in numbers):
        raise ConfigurationError(
            f'size is wanted as height x width in pixels ("64x64" or "64"), at most {MAX_SIDE:,} each, but came as '
            f"{text!r:.80}."
        )
    return numbers[0], numbers[1]


def read_image(source: Path | bytes, what: str, grey: bool = False, size: Size | Fit | None = None) -> np.ndarray:
    """The pixels of one image: uint8, `[H, W]` if grey, else `[H, W, 3]`.

    Turned upright as its EXIF tag says; transparency is dropped; of an animation the first image is taken;
    16-bit grey levels are scaled to 8 bits.

    Args:
        source: a file, or a file's bytes.
        what: how an error names it.
        grey: one channel (luma, ITU-R BT.601) instead of RGB.
        size: height and width to resize to (bilinear, antialiased, the aspect ratio not kept), or how to come to
            them.

    Raises:
        DataError: it is empty or cannot be decoded.
    """
    from PIL import Image

    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise DataError(f"{what} cannot be read: {error.strerror}.") from error
    if not data:
        raise DataError(f"{what} is empty (0 bytes); replace it or take it out.")
    try:
        # What Pillow only warns of is either harmless or raises an error further on.
        with unwarned(), Image.open(io.BytesIO(data), formats=_formats(data)) as opened:
            return pixels_of(opened, grey, size)
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        # Pillow's own words for an unknown format name a memory address; ours name the file.
        reason = "it is no image of a known format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise DataError(f"{what} cannot be read as an image ({reason}); replace it or take it out.") from error


def pixels_of(opened: "Image", grey: bool = False, size: Size | Fit | None = None) -> np.ndarray:
    """As `read_image`, of an image that Pillow has opened; it may raise whatever Pillow's decoders raise."""
    from PIL import ImageOps

    ImageOps.exif_transpose(opened, in_place=True)
    image = _convert(opened, "L" if grey else "RGB")
    if size is not None:
        image = (size if isinstance(size, Fit) else Fit(size)).apply(image)
    return np.asarray(image)


def _formats(data: bytes) -> list[str] | None:
    """WebP is known by its head; Pillow would try seven other formats before, which takes longer than decoding."""
    return ["WEBP"] if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


_lock = threading.Lock()
_reading = 0
_filters = ExitStack()


@contextmanager
def unwarned() -> Iterator[None]:
    """Ignore warnings until the last of the threads that decode has left.

    The filters of warnings are one list for all threads: were each to restore what it found, the last could restore
    what another had set.
    """
    global _reading
    with _lock:
        _reading += 1
        if _reading == 1:
            _filters.enter_context(warnings.catch_warnings(action="ignore"))
    try:
        yield
    finally:
        with _lock:
            _reading -= 1
            if _reading == 0:
                _filters.close()


def _convert(image: "Image", mode: str) -> "Image":
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range")
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit levels at 255 and so turn nearly everything white.
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert(mode)


def stack(images: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """One uint8 array `[N, H, W]` or `[N, H, W, 3]` of images as `read_image` gives them.

    Raises:
        DataError: two of them differ in size; it names both.
    """
    first = images[0].shape
    for image, name in zip(images, names, strict=True):
        if image.shape != first:
            raise DataError(
                f"{names[0]} has {first[0]} x {first[1]} pixels but {name} has {image.shape[0]} x "
                f"{image.shape[1]}; resize all to one size (--stream-option size=64x64: height x width)."
            )
    return np.stack(images)


def to_float(pixels: np.ndarray) -> Tensor:
    """uint8 `[N, H, W]` or `[N, H, W, C]` to float32 `[N, C, H, W]` in [0, 1]."""
    tensor = torch.from_numpy(pixels)
    tensor = tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)
    return tensor.contiguous().to(torch.float32) / 255
