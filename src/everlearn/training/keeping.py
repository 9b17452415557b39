"""What a stage leaves as it is (`Objective.still`): computed once for each image, not in every step and evaluation.

It is never saved: a run that goes on computes it again, of the same images side by side and so to the same bits.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import psutil
import torch
from torch import Tensor

from everlearn.methods.base import Batch, Objective
from everlearn.seeds import reseed
from everlearn.training.data import TrainingData
from everlearn.training.evaluation import Answers, at_a_time
from everlearn.training.parallel import world
from everlearn.training.precision import layers_in
from everlearn.training.settings import Training

KEPT = 2**29
"""Bytes that one stage of one task may keep of training images. The same everywhere: steps differ in the last bit where
they are not kept."""

LEAST, MOST = 2**29, 2**31
"""Bytes that it may keep of images that are evaluated, of which there are often ten times as many (`room`)."""

Rows = tuple[Tensor, ...]
"""What is still of some images, a row for each; nothing where it is not kept."""

Still = Callable[[Tensor], Rows]
Answer = Callable[[Rows, Callable[[], Tensor]], Tensor]


def keep(objective: Objective, images: Mapping[int, TrainingData], training: Training, seed: int) -> dict[int, Rows]:
    """What is still of the training images of a stage, by task; of each split all or nothing.

    Args:
        objective: of the stage.
        images: the training splits that it trains on, by their task; of augmented ones nothing can be kept.
        training: the precision of layers counts here.
        seed: of what is drawn, should the network not be at rest.
    """
    rows, left = dict[int, Rows](), KEPT
    if objective.still is None:
        return rows
    for task, split in images.items():
        rows[task] = _rows(objective.still, split, training, left, seed)
        left -= sum(tensor.nbytes for tensor in rows[task])
    return rows


def filled(objective: Objective, rows: Mapping[int, Rows]) -> Objective:
    """An objective whose batches bring what is kept of their task's images."""
    if not any(rows.values()):
        return objective

    def fill(batch: Batch) -> Batch:
        return replace(batch, kept=rows.get(batch.task, ()))

    steps = objective.steps
    return replace(
        objective,
        loss=lambda batch: objective.loss(fill(batch)),
        steps=None if steps is None else lambda batch: steps(fill(batch)),
    )


def _rows(still: Still, split: TrainingData, training: Training, limit: int, seed: int) -> Rows:
    """What is still of every image of a split; nothing if that is more than `limit` bytes."""
    device, count, done = split.labels.device, len(split.labels), 0
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        layers_in(training.precision, device),
    ):
        reseed(device, seed)
        one = still(split.take(slice(0, 1)))
        if sum(tensor.nbytes for tensor in one) * count > limit:
            return ()
        whole = tuple(_room(tensor, count) for tensor in one)
        for images, labels in split.batches(at_a_time(device)):
            for room, part in zip(whole, still(images), strict=True):
                room[done : done + len(labels)] = part
            done += len(labels)
    return whole


def _room(row: Tensor, count: int) -> Tensor:
    """Room for so many of a row, in its layout to the last stride: layers choose how to compute by it."""
    sides, strides = row.shape[1:], row.stride()[1:]
    spanned = 1 + sum((side - 1) * stride for side, stride in zip(sides, strides, strict=True))
    if spanned != sides.numel():
        return torch.empty((count, *sides), dtype=row.dtype, device=row.device)
    return torch.empty_strided((count, *sides), (spanned, *strides), dtype=row.dtype, device=row.device)


def room(device: torch.device) -> int:
    """Bytes for images that are evaluated: a quarter of what is free, had each core a process that keeps as many."""
    if world() > 1:
        return LEAST  # processes that train together need to keep the same
    on_a_gpu = device.type == "cuda"
    free: int = torch.cuda.mem_get_info(device)[0] if on_a_gpu else psutil.virtual_memory().available
    return min(max(free // (4 * (os.cpu_count() or 1)), LEAST), MOST)


class Known:
    """The answers of the task in training, from what is still of images (`Objective.answer`).

    What is still of a split is computed when the split is first evaluated, of the same images side by side as ever
    after, and so to the bits of what the network would answer; of images for which there is no room that is asked.

    Args:
        objective: of the stage.
        run: the network, for the task.
        room: bytes to keep it in, of as many images of each split, from its first on, as fit.
        train: what is kept of the training images already, computed in float32.
    """

    def __init__(self, objective: Objective, run: Callable[[Tensor], Tensor], room: int, train: Rows = ()) -> None:
        self._objective, self._run = objective, run
        self._kept: dict[str, Rows] = {"train": train}
        self._left = room

    def of(self, split: str, data: TrainingData) -> Answers | None:
        """The answers to a split; None where the network has to be run for them."""
        if self._objective.answer is None or self._objective.still is None:
            return None
        return partial(self._answers, self._objective.still, self._objective.answer, split, data)

    def _answers(
        self, still: Still, answer: Answer, split: str, data: TrainingData, size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        rows, count, done = self._kept.get(split, ()), len(data.labels), 0
        for cut in zip(*(tensor.split(size) for tensor in rows), strict=True):
            part = tuple(tensor.clone() for tensor in cut)  # where in memory a tensor begins may change its last bits
            places = slice(done, done + len(part[0]))
            yield answer(part, partial(data.take, places)), data.labels[places]
            done = places.stop
        rooms, held = tuple[Tensor, ...](), 0
        for images, labels in data.batches(size, done):
            after = done + len(labels)
            part = still(images) if done == 0 or after <= held else ()
            if done == 0:
                rooms = self._rooms(part, count, size)
                held = len(rooms[0]) if rooms else 0
            if after <= held:
                for place, tensor in zip(rooms, part, strict=True):
                    place[done:after] = tensor
            yield answer(part, partial(_same, images)) if part else self._run(images), labels
            done = after
        if rooms:
            self._kept[split] = rooms
            self._left -= sum(place.nbytes for place in rooms)

    def _rooms(self, part: Rows, count: int, size: int) -> Rows:
        """Room for a split of so many images, or for as many of its batches as there is left; of none nothing."""
        fit = self._left // max(1, sum(tensor[0].nbytes for tensor in part))
        count = count if count <= fit else fit // size * size
        return tuple(_room(tensor, count) for tensor in part) if count else ()


def _same(images: Tensor) -> Tensor:
    return images
