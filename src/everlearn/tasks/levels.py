"""Images held as 8-bit levels, once for all tasks: a task says which of them are its own, and in which order its pixels
come. Ten permutations of MNIST are 55 MB so, and would be 2.2 GB as numbers that a network can take.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from everlearn.tasks.pixels import Fit, Size
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.task import Split


@dataclass(frozen=True, eq=False)
class Levels:
    """Grey images in memory; a source of `StoredImages`.

    Attributes:
        pixels: `[N, H, W]`, uint8; several of these may hold the same array.
        order: pixel k of what is taken, counted along the rows, is pixel `order[k]` of an image: `[H * W]`; None: the
            images as they are.
    """

    pixels: np.ndarray
    order: np.ndarray | None = None

    def decode(
        self, index: Sequence[int] | np.ndarray, grey: bool = False, size: Size | Fit | None = None
    ) -> np.ndarray:
        """The images at these positions: uint8, `[n, H, W]`; they are grey and of one size whatever is asked for."""
        # A copy even of a whole array: nobody who takes images can change them.
        taken = np.take(self.pixels, index, axis=0)
        if self.order is None:
            return taken
        return np.take(taken.reshape(len(taken), -1), self.order, axis=1).reshape(taken.shape)

    def digest(self, index: np.ndarray) -> str:
        """A SHA-256 over the pixels of these images as they lie here, and the order in which they are taken."""
        whole = hashlib.sha256(np.ascontiguousarray(self.pixels[index]).data)
        if self.order is not None:
            whole.update(self.order.astype("<i8").tobytes())
        return whole.hexdigest()


def levels_split(pixels: np.ndarray, labels: np.ndarray, rows: np.ndarray, order: np.ndarray | None = None) -> Split:
    """The images of these rows, `[N, 1, H, W]` in [0, 1] when they are taken.

    Args:
        pixels: of all rows, `[n, H, W]`, uint8; not copied.
        labels: of all rows.
        rows: which, in order.
        order: as of `Levels`.
    """
    height, width = pixels.shape[1:]
    images = StoredImages(Levels(pixels, order), rows, Fit((height, width)), grey=True)
    return Split(images, torch.from_numpy(labels[rows].astype(np.int64)))
