"""Shapes are checked at run time in the tests: jaxtyping and beartype are switched on here and nowhere else."""

from collections.abc import Callable

import pytest
import torch

from everlearn.tasks.task import Split, Task, TaskStream

torch.set_num_threads(1)


def make_split(count: int, classes: int, seed: int, size: int = 8) -> Split:
    """Images whose class shows as the brighter of `classes` horizontal bands, in noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    images = 0.3 * torch.rand(count, 1, size, size, generator=random)
    for i, label in enumerate(labels.tolist()):
        rows = slice(label * size // classes, (label + 1) * size // classes)
        images[i, :, rows] += 0.7
    return Split(images, labels)


def make_tiny_stream(tasks: int = 3, classes: int = 2, train: int = 20) -> TaskStream:
    """Small tasks that a small network learns in a few epochs."""
    names = tuple(f"class {i}" for i in range(classes))
    return TaskStream(
        "tiny",
        0,
        tuple(
            Task(
                f"task {t + 1}",
                names,
                make_split(train, classes, 10 * t),
                make_split(8, classes, 10 * t + 1),
                make_split(12, classes, 10 * t + 2),
            )
            for t in range(tasks)
        ),
    )


@pytest.fixture
def tiny_stream() -> Callable[..., TaskStream]:
    return make_tiny_stream
