"""What a stage leaves as it is (`Objective.still`): computed once for each training image, not in every step.

It is never saved: a run that goes on computes it again, of the same images side by side and so to the same bits.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from everlearn.methods.base import Batch, Objective
from everlearn.training.data import TrainingData
from everlearn.training.precision import layers_in
from everlearn.training.settings import Training

KEPT = 2**29
"""Bytes that one stage of one task may keep."""

PART = 2**26
"""Bytes that are computed at a time, and at most `IMAGES` images."""

IMAGES = 250


def keeping(objective: Objective, images: Mapping[int, TrainingData], training: Training) -> Objective:
    """An objective whose batches bring what is still, as far as it can be kept.

    Args:
        objective: of a stage; it is given back as it is where it says of nothing that it is still.
        images: the training splits that it trains on, by their task; of augmented ones nothing can be kept.
        training: the precision of layers counts here.
    """
    if objective.still is None:
        return objective
    rows, left = dict[int, tuple[Tensor, ...]](), KEPT
    for task, split in images.items():
        kept = _rows(objective, split, training, left)
        if kept is not None:
            rows[task] = kept
            left -= sum(tensor.nbytes for tensor in kept)

    def filled(batch: Batch) -> Batch:
        if batch.task not in rows or not batch.plain:
            return batch
        return replace(batch, still=tuple(tensor[batch.index] for tensor in rows[batch.task]))

    steps = objective.steps
    return replace(
        objective,
        loss=lambda batch: objective.loss(filled(batch)),
        steps=None if steps is None else lambda batch: steps(filled(batch)),
    )


def _rows(objective: Objective, split: TrainingData, training: Training, limit: int) -> tuple[Tensor, ...] | None:
    """What is still of every image of a split, or None if that is more than `limit` bytes."""
    assert objective.still is not None
    with torch.no_grad(), layers_in(training.precision, split.labels.device):
        size = sum(tensor.nbytes for tensor in objective.still(split.take(slice(0, 1))))
        if size * len(split.labels) > limit:
            return None
        at_once = max(1, min(IMAGES, PART // max(size, 1)))
        parts = [objective.still(images) for images, _ in split.batches(at_once)]
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
