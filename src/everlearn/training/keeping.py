"""What a stage leaves as it is (`Objective.still`): computed once for each image, not in every step and evaluation.

It is never saved: a run that goes on computes it again, of the same images side by side and so to the same bits.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from everlearn.methods.base import Batch, Objective
from everlearn.seeds import reseed
from everlearn.training.data import TrainingData
from everlearn.training.evaluation import Answers
from everlearn.training.precision import layers_in
from everlearn.training.settings import Training

KEPT = 2**29
"""Bytes that one stage of one task may keep of training images, and as many again of images that are evaluated."""

PART = 2**26
"""Bytes that are computed at a time, and at most `IMAGES` images."""

IMAGES = 250

Still = Callable[[Tensor], tuple[Tensor, ...]]
Answer = Callable[[tuple[Tensor, ...]], Tensor]


def keeping(objective: Objective, images: Mapping[int, TrainingData], training: Training, seed: int) -> Objective:
    """An objective whose batches bring what is still, of each split all or nothing.

    Args:
        objective: of a stage; it is given back as it is where it says of nothing that it is still.
        images: the training splits that it trains on, by their task; of augmented ones nothing can be kept.
        training: the precision of layers counts here.
        seed: of what is drawn, should the network not be at rest.
    """
    if objective.still is None:
        return objective
    rows, left = dict[int, tuple[Tensor, ...]](), KEPT
    for task, split in images.items():
        kept = _rows(objective, split, training, left, seed)
        rows[task] = kept
        left -= sum(tensor.nbytes for tensor in kept)

    def filled(batch: Batch) -> Batch:
        return replace(batch, kept=rows.get(batch.task, ()))

    steps = objective.steps
    return replace(
        objective,
        loss=lambda batch: objective.loss(filled(batch)),
        steps=None if steps is None else lambda batch: steps(filled(batch)),
    )


def _rows(objective: Objective, split: TrainingData, training: Training, limit: int, seed: int) -> tuple[Tensor, ...]:
    """What is still of every image of a split; nothing if that is more than `limit` bytes."""
    assert objective.still is not None
    device, count, done = split.labels.device, len(split.labels), 0
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        layers_in(training.precision, device),
    ):
        reseed(device, seed)
        one = objective.still(split.take(slice(0, 1)))
        size = sum(tensor.nbytes for tensor in one)
        if size * count > limit:
            return ()
        whole = tuple(_room(tensor, count) for tensor in one)
        for images, labels in split.batches(max(1, min(IMAGES, PART // max(size, 1)))):
            for room, part in zip(whole, objective.still(images), strict=True):
                room[done : done + len(labels)] = part
            done += len(labels)
    return whole


def _room(row: Tensor, count: int) -> Tensor:
    """Room for so many of a row, in its layout."""
    last = row.ndim == 4 and row.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((count, *row.shape[1:]), dtype=row.dtype, device=row.device, memory_format=layout)


class Known:
    """The answers of the task in training, where they need what is still alone (`Objective.answer`).

    What is still of a split is computed when the split is first evaluated, of the same images side by side as ever
    after, and so to the bits of what the network would answer.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._kept = dict[str, tuple[Tensor, ...]]()
        self._left = KEPT

    def of(self, split: str, data: TrainingData) -> Answers | None:
        """The answers to a split; None where the network has to be run for them."""
        if self._objective.answer is None or self._objective.still is None:
            return None
        return partial(self._answers, self._objective.still, self._objective.answer, split, data)

    def _answers(
        self, still: Still, answer: Answer, split: str, data: TrainingData, size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if split in self._kept:
            parts = zip(*(tensor.split(size) for tensor in self._kept[split]), strict=True)
            yield from ((answer(part), labels) for part, labels in zip(parts, data.labels.split(size), strict=True))
            return
        rooms, done = tuple[Tensor, ...](), 0
        for images, labels in data.batches(size):
            part, after = still(images), done + len(labels)
            if done == 0 and sum(tensor[0].nbytes for tensor in part) * len(data.labels) <= self._left:
                rooms = tuple(_room(tensor, len(data.labels)) for tensor in part)
            for room, tensor in zip(rooms, part, strict=bool(rooms)):
                room[done:after] = tensor
            yield answer(part), labels
            done = after
        if rooms:
            self._kept[split] = rooms
            self._left -= sum(room.nbytes for room in rooms)
