"""Some of a task's images, drawn at random: a split often lies class by class, so that its first are no sample."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from everlearn.methods.base import Images


def some_of(images: Images, most: int, size: int, random: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels in batches: all in order, or of more than `most` so many that are drawn.

    Args:
        images: of a task.
        most: how many; 0: all.
        size: of a batch.
        random: of the draw.
    """
    if not 0 < most < len(images.labels):
        yield from images.batches(size)
        return
    chosen = torch.randperm(len(images.labels), generator=random)[:most].to(images.labels.device)
    for start in range(0, most, size):
        part = chosen[start : start + size]
        yield images.take(part), images.labels[part]
