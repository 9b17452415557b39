"""A stream's images on the device, ready to be taken by index."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlearn.methods.base import Batch
from everlearn.seeds import generator
from everlearn.tasks.task import Split, TaskStream


@dataclass(frozen=True)
class Resident:
    """A split on the device.

    Attributes:
        pixels: images in the order in which they are taken: `[N, H, W, C]` if `last`, else `[N, C, H, W]`.
        labels: `[N]`.
        last: whether channels lie last in memory, which convolutions on a CPU want.
    """

    pixels: Tensor
    labels: Tensor
    last: bool

    def take(self, index: Int64[Tensor, " b"] | slice) -> Float[Tensor, " b c h w"]:
        """Images at these positions."""
        taken = self.pixels[index]
        return taken.permute(0, 3, 1, 2) if self.last else taken

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images and labels in order, in batches."""
        for start in range(0, len(self.labels), size):
            part = slice(start, start + size)
            yield self.take(part), self.labels[part]


def resident(split: Split, device: torch.device, last: bool) -> Resident:
    """Put a split on the device."""
    pixels = split.images.permute(0, 2, 3, 1) if last else split.images
    return Resident(pixels.contiguous().to(device), split.labels.to(device), last)


class StreamData:
    """All splits of a stream on the device: `data[task][split name]`."""

    def __init__(self, stream: TaskStream, device: torch.device, last: bool) -> None:
        self.tasks = [
            {name: resident(split, device, last) for name, split in task.splits().items()} for task in stream.tasks
        ]

    def __getitem__(self, task: int) -> dict[str, Resident]:
        return self.tasks[task]


def training_batches(data: Resident, batch: int, seed: int, task: int, epoch: int, start: int) -> Iterator[Batch]:
    """The batches of one epoch from the `start`-th on, in the order that the seed gives this epoch of this task.

    What is left after whole batches is dropped; a split smaller than a batch is one batch.
    """
    count = len(data.labels)
    size = min(batch, count)
    order = torch.randperm(count, generator=generator(seed, "order", task, epoch)).to(data.labels.device)
    for step in range(start, count // size):
        index = order[step * size : (step + 1) * size]
        yield Batch(data.take(index), data.labels[index], index, step)
