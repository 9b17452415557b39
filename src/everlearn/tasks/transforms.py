"""Changes to all images of a split: standardising, resizing, greying."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from everlearn.errors import DataError
from everlearn.tasks.task import Split

Standardise = Literal["split", "train", "none"]


@dataclass(frozen=True)
class Statistics:
    """What standardising subtracts and divides by, a number a channel: `[C]`, float32 each."""

    mean: Tensor
    scale: Tensor


def statistics(images: Tensor) -> Statistics:
    """Mean mu and scale max(sigma, 1 / sqrt(n)) of each channel of `[N, C, H, W]`.

    sigma is the population deviation over the n = N H W pixels of the channel; the floor keeps a channel of
    one single value from being divided by zero (Lee et al. 2019, as their code standardises CIFAR).
    """
    pixels = images.transpose(0, 1).flatten(1).to(torch.float64)
    mean = pixels.mean(1)
    scale = pixels.std(1, correction=0).clamp_min(pixels.shape[1] ** -0.5)
    # Rounded before use: the last bits of a float64 sum may differ between machines, those of float32 do not.
    return Statistics(mean.to(torch.float32), scale.to(torch.float32))


def standardise(images: Tensor, by: Statistics) -> Tensor:
    """x' = (x - mu) / scale for images `[N, C, H, W]`.

    Raises:
        DataError: the statistics are of another number of channels.
    """
    if images.shape[1] != len(by.mean):
        raise DataError(f"images of {images.shape[1]} channels cannot be standardised by {len(by.mean)} channels.")
    shape = (1, -1, 1, 1)
    return (images - by.mean.view(shape)) / by.scale.view(shape)


def standardise_splits(train: Split, validation: Split, test: Split, how: Standardise) -> tuple[Split, Split, Split]:
    """Standardise a task's splits.

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
