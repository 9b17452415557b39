"""Colour images held as 8-bit levels, once for all tasks that take some of them: a quarter of what numbers that a
network can take would need. A task may see them through noise and with its channels exchanged (`Disguise`).

The noise is in whole levels and looked up for 16 random bits a level, so that it is the same on every machine.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from everlearn.seeds import derive
from everlearn.tasks.pixels import Fit, Size
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.task import Split


@dataclass(frozen=True)
class Disguise:
    """How a task sees images.

    Attributes:
        mean: of the Gaussian noise, as a share of the pixels' range.
        deviation: of the noise; 0: all pixels move by the mean.
        channels: output channel i is channel `channels[i]` of the image, after the noise.
        seed: of the noise, with the image's position: an image looks the same each time.
    """

    mean: float = 0.0
    deviation: float = 0.0
    channels: tuple[int, int, int] = (0, 1, 2)
    seed: int = 0

    def of(self, image: np.ndarray, position: int) -> np.ndarray:
        """One image `[H, W, 3]`, uint8, in disguise; levels stay within 0 and 255."""
        if self.mean or self.deviation:
            bits = np.random.PCG64(derive(self.seed, "noise", position)).random_raw(-(-image.size // 4))
            steps = noise_levels(self.mean, self.deviation)[bits.astype("<u8").view("<u2")[: image.size]]
            image = np.clip(image + steps.reshape(image.shape), 0, 255).astype(np.uint8)
        return image[:, :, list(self.channels)]


@functools.cache
def noise_levels(mean: float, deviation: float) -> np.ndarray:
    """Levels to add for each of 65,536 equally likely draws, int16: the quantiles of the normal distribution."""
    from scipy.special import ndtri

    middles = (np.arange(65536) + 0.5) / 65536
    return np.rint(255 * (mean + deviation * ndtri(middles))).astype(np.int16)


@dataclass(frozen=True, eq=False)
class ColourLevels:
    """Colour images in memory; a source of `StoredImages`.

    Attributes:
        pixels: `[N, H, W, 3]`, uint8; several of these may hold the same array.
        disguise: how they are seen; None: as they are.
    """

    pixels: np.ndarray
    disguise: Disguise | None = None

    def decode(
        self, index: Sequence[int] | np.ndarray, grey: bool = False, size: Size | Fit | None = None
    ) -> np.ndarray:
        """The images at these positions: uint8, `[n, H, W, 3]`; colour, and of one size, whatever is asked for."""
        if self.disguise is None:
            return np.take(self.pixels, index, axis=0)
        return np.stack([self.disguise.of(self.pixels[position], int(position)) for position in index])

    def digest(self, index: np.ndarray) -> str:
        """A SHA-256 over the pixels of these images as they lie here, and how they are seen."""
        whole = hashlib.sha256(np.ascontiguousarray(self.pixels[index]).data)
        if self.disguise is not None:
            whole.update(repr((self.disguise, [int(position) for position in index])).encode())
        return whole.hexdigest()


def colours_split(pixels: np.ndarray, rows: Sequence[np.ndarray], disguise: Disguise | None = None) -> Split:
    """The images of these rows, class after class, `[N, 3, H, W]` in [0, 1] when they are taken.

    Args:
        pixels: of all rows, `[n, H, W, 3]`, uint8; not copied.
        rows: `rows[k]` are the rows of label k.
        disguise: how they are seen.
    """
    height, width = pixels.shape[1:3]
    images = StoredImages(ColourLevels(pixels, disguise), np.concatenate(rows), Fit((height, width)))
    return Split(images, class_labels(rows))


def class_labels(rows: Sequence[np.ndarray]) -> torch.Tensor:
    """Label k for each of `rows[k]`, one class after the other: int64."""
    return torch.from_numpy(np.repeat(np.arange(len(rows)), [len(part) for part in rows]).astype(np.int64))
