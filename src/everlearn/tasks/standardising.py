"""What standardising subtracts and divides by, gathered piece by piece."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from everlearn.errors import DataError

CHUNK = 1000
"""Images at a time, where all images of a split are looked at once."""


@dataclass(frozen=True)
class Statistics:
    """What standardising subtracts and divides by, a number a channel: `[C]`, float32 each."""

    mean: Tensor
    scale: Tensor


IMAGENET = Statistics(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
"""Of ImageNet's RGB values between 0 and 1, as networks trained on it, and on Places2, are usually given them."""


def pooled_statistics(pieces: Iterable[Tensor]) -> Statistics:
    """Mean mu and scale max(sigma, 1 / sqrt(n)) of each channel over pieces `[b, C, H, W]`, one in memory at a time.

    sigma is the population deviation over all n pixels of the channel; the floor keeps a channel of one single value
    from being divided by zero (Lee et al. 2019, as their code standardises CIFAR). Pieces are joined by their means
    and squared deviations (Chan et al. 1979): a sum of squares would lose what is small beside the mean.

    Raises:
        DataError: there is no piece.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for piece in pieces:
        pixels = piece.transpose(0, 1).flatten(1).to(torch.float64)
        more, own = pixels.shape[1], pixels.mean(1)
        deviation = pixels.var(1, correction=0) * more
        if count == 0:
            count, mean, squares = more, own, deviation
            continue
        apart = own - mean
        squares = squares + deviation + apart.square() * (count * more / (count + more))
        mean = mean + apart * (more / (count + more))
        count += more
    if count == 0:
        raise DataError("there are no images to take the mean and the deviation of; give at least one.")
    scale = (squares / count).sqrt().clamp_min(count**-0.5)
    # Rounded before use: the last bits of a float64 sum may differ between machines, those of float32 do not.
    return Statistics(mean.to(torch.float32), scale.to(torch.float32))


def standardise_images(images: Tensor, by: Statistics) -> Tensor:
    """x' = (x - mu) / scale for images `[N, C, H, W]`.

    Raises:
        DataError: the statistics are of another number of channels.
    """
    if images.shape[1] != len(by.mean):
        raise DataError(f"images of {images.shape[1]} channels cannot be standardised by {len(by.mean)} channels.")
    shape = (1, -1, 1, 1)
    # In place from here on: all images of a set are taken at once, and a third copy of them may not fit.
    return (images - by.mean.view(shape)).div_(by.scale.view(shape))
