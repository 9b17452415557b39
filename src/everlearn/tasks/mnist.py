"""MNIST as 8-bit levels in memory, for the streams that are made from it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from everlearn.errors import DataError
from everlearn.tasks.encoded import EncodedImages
from everlearn.tasks.hub import open_image_set

HUB = "ylecun/mnist"
SIDE = 28
DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Digits:
    """Images of digits: `pixels` `[N, 28, 28]`, uint8, 0 where there is no ink; `labels` `[N]`, int64."""

    pixels: np.ndarray
    labels: np.ndarray


def read_mnist(data: Path | None) -> tuple[Digits, Digits]:
    """The training and the test images, from `DIR/mnist/` of the data folder, or from the hub without one.

    Each in the order of a hash of their pixels, so that any mirror of the set gives the same draws.

    Raises:
        MissingDataError: the set is not there.
        DataError: it is not of ten digits of 28 x 28 pixels, or a file cannot be read.
    """
    sets = open_image_set("mnist", HUB, "label", data)
    return _read(sets["train"]), _read(sets["test"])


def _read(images: EncodedImages) -> Digits:
    if len(images.classes) != len(DIGITS):
        raise DataError(f"{images.where} is wanted with the ten digits, but has {len(images.classes)} classes.")
    pixels = images.decode(np.arange(len(images.labels)), grey=True)
    if pixels.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{images.where} is wanted with images of {SIDE} x {SIDE} pixels, but has {pixels.shape[1]} x "
            f"{pixels.shape[2]}."
        )
    hashes = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
    # Images alike in every pixel are told apart by their labels.
    order = sorted(range(len(hashes)), key=lambda row: (hashes[row], int(images.labels[row])))
    return Digits(pixels[order], images.labels[order])
