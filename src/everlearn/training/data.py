"""A stream's images, ready to be taken by index: in memory on the device, or decoded ahead of the training.

Images that do not fit in memory are decoded by a few threads, some batches ahead. Threads rather than processes,
because Pillow decodes and resizes without holding Python's lock: there is nothing to send from process to process,
nothing to start, and an error comes back as itself. What is decoded depends on the order of the images alone, so the
batches are those of the same images in memory, bit for bit, and a resumed epoch goes on with the next.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlearn.methods.base import Batch
from everlearn.seeds import generator
from everlearn.tasks.ahead import ahead, cores
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.task import Split, TaskStream
from everlearn.training.settings import Training

AHEAD = 3
"""Batches that are decoded, or being decoded, before they are asked for; all that is held in memory."""


@dataclass(frozen=True)
class Resident:
    """A split on the device.

    Attributes:
        pixels: images in the order in which they are taken: `[N, H, W, C]` if `last`, else `[N, C, H, W]`.
        labels: `[N]`, or of a multi-label task `[N, classes]`.
        last: whether channels lie last in memory, which convolutions on a CPU want.
    """

    pixels: Tensor
    labels: Tensor
    last: bool

    def take(self, index: Int64[Tensor, " b"] | slice) -> Float[Tensor, " b c h w"]:
        """Images at these positions; copies, for a network may begin in place."""
        taken = self.pixels[index].clone() if isinstance(index, slice) else self.pixels[index]
        return taken.permute(0, 3, 1, 2) if self.last else taken

    def batches(self, size: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All images and labels from the `first` on in order, in batches."""
        for start in range(first, len(self.labels), size):
            part = slice(start, start + size)
            yield self.take(part), self.labels[part]


@dataclass(frozen=True)
class Streamed:
    """A split whose images are decoded when they are taken.

    Attributes:
        images: still encoded.
        labels: `[N]`, or of a multi-label task `[N, classes]`; on the device that images are brought to.
        last: whether channels lie last in memory.
    """

    images: StoredImages
    labels: Tensor
    last: bool

    def take(self, index: Int64[Tensor, " b"] | slice) -> Float[Tensor, " b c h w"]:
        """Images at these positions, on the device.

        Raises:
            DataError: one of them cannot be decoded.
        """
        if isinstance(index, slice):
            index = torch.arange(len(self.labels))[index]
        return self._place(self.images.take(index))

    def batches(self, size: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All images and labels from the `first` on in order, in batches that are decoded ahead."""
        whole = torch.arange(len(self.labels))
        parts = [slice(start, start + size) for start in range(first, len(whole), size)]
        for part, images in zip(parts, self.ahead([whole[part] for part in parts]), strict=True):
            yield images, self.labels[part]

    def ahead(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images of each of these batches in turn, decoded in the background."""
        for images in decode_ahead(self.images.take, indices):
            yield self._place(images)

    def _place(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.last else torch.contiguous_format
        return images.to(self.labels.device, memory_format=layout)


TrainingData = Resident | Streamed


def decode_ahead(decode: Callable[[Tensor], Tensor], indices: Iterable[Tensor]) -> Iterator[Tensor]:
    """`decode` of each index in turn, called in threads and at most `AHEAD` calls before its turn."""
    # One core is left to the training, which waits for nothing else.
    return ahead(decode, indices, max(1, min(AHEAD, cores() - 1)), AHEAD)


def on_device(split: Split, device: torch.device, last: bool) -> TrainingData:
    """Put a split on the device; of images that are decoded as needed the labels alone."""
    if isinstance(split.images, StoredImages):
        return Streamed(split.images, split.labels.to(device), last)
    pixels = split.images.permute(0, 2, 3, 1) if last else split.images
    return Resident(pixels.contiguous().to(device), split.labels.to(device), last)


def lies_last(training: Training, device: torch.device) -> bool:
    """Whether channels lie last in memory.

    If the settings say so; but for layers in float32 the libraries of a GPU would first bring every image and every
    weight into the other layout, in every step.
    """
    wanted = training.memory_format == "channels_last"
    return wanted and (device.type == "cpu" or training.precision == "bfloat16")


class StreamData:
    """All splits of a stream on the device: `data[task][split name]`; a split that a task lacks is left out."""

    def __init__(self, stream: TaskStream, device: torch.device, last: bool) -> None:
        self.tasks = [
            {name: on_device(split, device, last) for name, split in task.splits().items()} for task in stream.tasks
        ]

    def __getitem__(self, task: int) -> dict[str, TrainingData]:
        return self.tasks[task]


def training_batches(
    data: TrainingData,
    batch: int,
    seed: int,
    task: int,
    epoch: int,
    start: int,
    limit: int | None = None,
    together: int = 1,
) -> Iterator[Batch]:
    """The batches of one epoch from the `start`-th on, in the order that the seed gives this epoch of this task.

    What is left after whole batches is dropped; a split smaller than a batch is one batch. Of `limit` images (at
    least 1), where that is given, the first in this epoch's order.

    Args:
        data: the training split.
        batch: images at a time.
        seed: of the order.
        task: whose the images are.
        epoch: of the whole run.
        start: batches that are done.
        limit: how many images make the epoch; None for all.
        together: batches whose images are taken at once, and given as one; the last are as many as are left.
    """
    order = torch.randperm(len(data.labels), generator=generator(seed, "order", task, epoch))[:limit]
    size = min(batch, len(order))
    steps = range(start, len(order) // size, together)
    parts = [slice(step * size, min(step + together, len(order) // size) * size) for step in steps]
    # On the device before they are asked for: what lies there is taken by an index that lies there too.
    there = _without_waiting(order, data.labels.device)
    indices = [there[part] for part in parts]
    taken = data.ahead([order[part] for part in parts]) if isinstance(data, Streamed) else map(data.take, indices)
    for step, index, images in zip(steps, indices, taken, strict=True):
        yield Batch(images, data.labels[index], index, step, task)


def _without_waiting(order: Tensor, device: torch.device) -> Tensor:
    """The order on the device. A GPU copies what lies in pinned memory when it comes to it; for other memory it is
    waited for until it has done all that it was asked for before."""
    return order.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else order.to(device)
