"""Images that do not fit in memory: they stay encoded where they lie, and are decoded when they are asked for."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.pixels import Fit, Size, read_image, stack, to_float
from everlearn.tasks.standardising import CHUNK, Statistics, standardise_images


@runtime_checkable
class Source(Protocol):
    """Where encoded images lie: image files, or rows of a table (`everlearn.tasks.encoded.EncodedImages`)."""

    def decode(
        self, index: Sequence[int] | np.ndarray, grey: bool = False, size: Size | Fit | None = None
    ) -> np.ndarray:
        """The images at these positions: uint8, `[n, H, W]` if grey, else `[n, H, W, 3]`."""
        ...

    def digest(self, index: np.ndarray) -> str:
        """What identifies these images, in this order, without decoding them."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Image files in a folder.

    Attributes:
        root: the folder.
        files: paths in it.
    """

    root: Path
    files: tuple[str, ...]

    def decode(
        self, index: Sequence[int] | np.ndarray, grey: bool = False, size: Size | Fit | None = None
    ) -> np.ndarray:
        """The images at these positions: uint8, `[n, H, W]` if grey, else `[n, H, W, 3]`.

        Raises:
            DataError: a file is missing, empty or no image, or two differ in size and no size is given.
        """
        paths = [self.root / self.files[position] for position in index]
        names = [str(path) for path in paths]
        return stack([read_image(path, name, grey, size) for path, name in zip(paths, names, strict=True)], names)

    def digest(self, index: np.ndarray) -> str:
        """A SHA-256 over names, sizes and times of change: reading all files would take as long as an epoch.

        Raises:
            DataError: a file is missing.
        """
        whole = hashlib.sha256()
        for position in index:
            path = self.root / self.files[position]
            try:
                state = path.stat()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}.") from error
            whole.update(f"{self.files[position]}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return whole.hexdigest()

    def mark(self) -> str:
        """A SHA-256 that tells all these files, as they lie here, from others; files that are missing count as well.

        Unlike the digest it is another for each folder: files in two folders may have one name, size and time.
        """
        whole = hashlib.sha256(f"{self.root.resolve()}\n".encode())
        for name in self.files:
            try:
                state = (self.root / name).stat()
                whole.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
            except OSError as error:
                whole.update(f"{name}\0{error.errno}\n".encode())
        return whole.hexdigest()


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Stands in for the tensor of a split's images.

    What is decoded has 8-bit levels, so every pixel is a finite number; that needs no check here.

    Attributes:
        source: where the images lie.
        rows: which of them, in order: `[N]`, int64.
        fit: how they come to one size.
        grey: one channel instead of RGB.
        by: what they are standardised by, one after the other; empty: pixels in [0, 1].
    """

    source: Source
    rows: np.ndarray
    fit: Fit
    grey: bool = False
    by: tuple[Statistics, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, C, H, W; known before any image is decoded, as all come to one size."""
        return (len(self.rows), 1 if self.grey else 3, *self.fit.size)

    def take(self, index: Int64[Tensor, " b"]) -> Float32[Tensor, "b c h w"]:
        """Decode the images at these positions, on the CPU.

        Raises:
            DataError: one of them cannot be decoded; it is named.
        """
        images = to_float(self.source.decode(self.rows[index.cpu().numpy()], self.grey, self.fit))
        for by in self.by:
            images = standardise_images(images, by)
        return images

    def pieces(self) -> Iterator[Tensor]:
        """All images in order, 1,000 at a time."""
        for start in range(0, len(self), CHUNK):
            yield self.take(torch.arange(start, min(start + CHUNK, len(self))))

    def load(self) -> Float32[Tensor, "n c h w"]:
        """All images in memory."""
        images = torch.empty(self.shape)
        for number, piece in enumerate(self.pieces()):
            images[number * CHUNK :][: len(piece)] = piece
        return images

    def select(self, index: np.ndarray) -> "StoredImages":
        """Those at these positions, still encoded."""
        return replace(self, rows=self.rows[index])

    def standardised(self, by: Statistics) -> "StoredImages":
        """The same images, standardised when they are decoded.

        Raises:
            DataError: the statistics are of another number of channels.
        """
        if len(by.mean) != self.shape[1]:
            raise DataError(f"images of {self.shape[1]} channels cannot be standardised by {len(by.mean)} channels.")
        return replace(self, by=(*self.by, by))

    @cached_property
    def digest(self) -> str:
        """A SHA-256 that identifies what would be decoded, without decoding it."""
        whole = hashlib.sha256(self.source.digest(self.rows).encode())
        whole.update(repr((self.shape, self.fit, self.grey)).encode())
        for by in self.by:
            whole.update(np.concatenate([by.mean.numpy(), by.scale.numpy()]).astype("<f4").tobytes())
        return whole.hexdigest()


def sized(size: Size | None, what: str) -> Size:
    """The size, which images that are decoded as needed want.

    Raises:
        ConfigurationError: there is none.
    """
    if size is None:
        raise ConfigurationError(
            f"the images of {what} are to be decoded as needed, so their size must be known before; give it "
            "(--stream-option size=64x64: height x width)."
        )
    return size
