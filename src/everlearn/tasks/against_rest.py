"""One class against the rest: a two-class task a class, over one set of images that all tasks share.

Details that change the numbers:
  * Label 1 is the class, label 0 any other.
  * `balance=all`: every task is trained on all images. `equal`: on those of its class and as many of the others, of
    which each class has an equal share, as far as the number divides. Validation and test images are always all.
"""

from collections.abc import Sequence

import numpy as np
import torch

from everlearn.tasks.draws import permutation
from everlearn.tasks.info import Option
from everlearn.tasks.pairs import subset
from everlearn.tasks.task import Split, Task

BALANCE = Option("all", "images of the rest to train on: all, or as many as of the class", ("all", "equal"))


def against_rest(classes: Sequence[str], splits: Sequence[Split], balance: str, seed: int, stream: str) -> list[Task]:
    """A task for each class, in their order.

    Args:
        classes: names of the labels.
        splits: training, validation and test images, labelled by class. Tasks hold these images, not copies.
        balance: `all` or `equal`.
        seed: of the draw of the rest.
        stream: a word of that draw.
    """
    train, validation, test = splits
    tasks = []
    for label, name in enumerate(classes):
        learned = train
        if balance == "equal":
            learned = subset(train, _balanced(train.labels.numpy(), label, len(classes), seed, stream))
        told = (_told(split, label) for split in (learned, validation, test))
        tasks.append(Task(f"{name}-vs-rest", ("rest", name), *told))
    return tasks


def _told(split: Split, label: int) -> Split:
    return Split(split.images, (split.labels == label).to(torch.int64))


def _balanced(labels: np.ndarray, label: int, classes: int, seed: int, stream: str) -> np.ndarray:
    """Positions of the class's images and of as many others, dealt out: one of each other class in turn."""
    own = np.flatnonzero(labels == label)
    others = [other for other in range(classes) if other != label]
    rank, turn = np.full(len(labels), len(labels)), np.zeros(len(labels), dtype=np.int64)
    for place, other in enumerate(permutation(len(others), seed, stream, "rest", label)):
        pool = np.flatnonzero(labels == others[other])
        rank[pool] = permutation(len(pool), seed, stream, "rest", label, others[other])
        turn[pool] = place
    dealt = np.lexsort((turn, rank))[: min(len(own), len(labels) - len(own))]
    return np.sort(np.concatenate([own, dealt]))
