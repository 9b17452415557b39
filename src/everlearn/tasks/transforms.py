"""Changes to all images of a split: standardising, resizing, greying."""

from typing import Literal

import torch
from torch import Tensor

from everlearn.errors import DataError
from everlearn.tasks.standardising import CHUNK, Statistics, pooled_statistics, standardise_images
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.task import Split

Standardise = Literal["split", "train", "none"]


def statistics(images: Tensor | StoredImages) -> Statistics:
    """Mean and scale of each channel of `[N, C, H, W]`, as `pooled_statistics`; stored images are decoded once."""
    return pooled_statistics(images.pieces() if isinstance(images, StoredImages) else images.split(CHUNK))


def standardise(images: Tensor | StoredImages, by: Statistics) -> Tensor | StoredImages:
    """x' = (x - mu) / scale for images `[N, C, H, W]`; for stored ones when they are decoded.

    Raises:
        DataError: the statistics are of another number of channels.
    """
    return images.standardised(by) if isinstance(images, StoredImages) else standardise_images(images, by)


def standardise_splits(train: Split, validation: Split, test: Split, how: Standardise) -> tuple[Split, Split, Split]:
    """Standardise a task's splits; images that are decoded as needed are decoded once, for their statistics.

    Args:
        train: the training split.
        validation: the validation split.
        test: the test split.
        how: `split`: each by its own statistics; `train`: all by those of the training split; `none`: not at
            all.
    """
    if how == "none":
        return train, validation, test
    shared = statistics(train.images) if how == "train" else None

    def done(split: Split) -> Split:
        return Split(standardise(split.images, shared or statistics(split.images)), split.labels)

    return done(train), done(validation), done(test)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images `[N, C, H, W]` to height and width `size`: bilinear, antialiased, the aspect ratio not kept."""
    return torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def grey(images: Tensor) -> Tensor:
    """Images `[N, 3, H, W]` to one channel of luma: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); one channel
    stays.

    Raises:
        DataError: neither three channels nor one.
    """
    channels = images.shape[1]
    if channels == 1:
        return images
    if channels != 3:
        raise DataError(f"images of 3 channels (or 1) can be made grey, but these have {channels}.")
    return (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
