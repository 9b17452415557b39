"""The stream `planted`: made images of which it is known what tasks have in common, low-level or high-level filters.

An image is a mixture of 16 latent maps of 8 x 8 pixels. One of them, the task's, is cut into four cells of 4 x 4, and
in each cell stands a ring: eight numbers of +1 or -1 around a pixel, at one of four places. Three of the four rings
are of the kind that tells the class; the fourth is of a kind that tells nothing.

    z[k] = rings for k = the task's map, 0 otherwise        x[c] = 2 (sum over k of A[c, k] z[k] + noise)

A is an orthogonal matrix (Hadamard's, its rows and columns permuted and signed). So a network needs a low-level filter
that finds the task's map among the mixed channels (a 1 x 1 convolution does), and high-level filters that tell the
kinds of ring apart (3 x 3).

    shared=low    every task's rings stand in one map; the kinds of ring are drawn for each task
    shared=high   the kinds of ring are the same for all tasks; each task's rings stand in a map of its own

Details that change the numbers:
  * Seven kinds of ring, the rows of Hadamard's matrix but the first, with signs and an order around the pixel that are
    drawn once (`high`) or for each task (`low`). Four are the classes, three tell nothing.
  * The filters that find two maps are orthogonal; those that find one are what a rectifier leaves of it, the positive
    or the negative part.
  * Noise is a sum of four uniform numbers, of deviation 0.3 before the factor 2. Everything is computed from whole
    numbers, so that images are the same on every machine.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from everlearn.errors import ConfigurationError
from everlearn.seeds import Word, derive
from everlearn.tasks.draws import permutation
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.task import Split, Task, TaskStream

MAPS, SIDE, CELL, CLASSES = 16, 8, 4, 4
RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
"""Rows and columns around the pixel in the middle, in order."""
NOISE = 0.3
SIZES = {"train": 128, "validation": 200, "test": 400}
_RINGS = 3
"""Rings of an image that tell its class."""

Numbers = NDArray[np.int64]


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream; no data folder is needed.

    Raises:
        ConfigurationError: fewer than one task, or more than there are maps.
    """
    count = int(options["count"])
    if not 1 <= count <= MAPS:
        raise ConfigurationError(f"planted has 1 to {MAPS} tasks, one a map, but count came as {count}.")
    classes = tuple(f"ring {i + 1}" for i in range(CLASSES))
    tasks = [
        Task(f"task-{t + 1}", classes, *(_split(seed, str(options["shared"]), t, name) for name in SIZES))
        for t in range(count)
    ]
    return TaskStream("planted", seed, tuple(tasks), dict(options), INFO.about)


def mixing(seed: int) -> Numbers:
    """4 A, `[16 channels, 16 maps]`, numbers of +1 and -1: A is orthogonal."""
    rows, columns = (permutation(MAPS, seed, "planted", side) for side in ("rows", "columns"))
    return _hadamard(MAPS)[rows][:, columns] * _signs(MAPS, seed, "planted", "signs")[:, None]


def rings(seed: int, shared: str, task: int) -> Numbers:
    """The task's kinds of ring, `[7, 8]`, numbers of +1 and -1 in the order of `RING`; the first four are classes."""
    words: tuple[Word, ...] = ("planted", "rings", *(() if shared == "high" else (task,)))
    kinds, around = permutation(7, seed, *words, "kinds"), permutation(8, seed, *words, "around")
    return _hadamard(8)[1:][kinds][:, around] * _signs(7, seed, *words, "signs")[:, None]


def map_of(shared: str, task: int) -> int:
    """The map that the task's rings stand in."""
    return 0 if shared == "low" else task


def _split(seed: int, shared: str, task: int, name: str) -> Split:
    count, words = SIZES[name], ("planted", task, name)
    labels = np.arange(count) % CLASSES
    cells = np.argsort(_raw((count, 4), seed, *words, "cells"), axis=1, kind="stable")  # [N, 4]
    offsets = (_raw((count, 4, 2), seed, *words, "offsets") % 2).astype(np.int64)
    idle = CLASSES + (_raw((count,), seed, *words, "idle") % (7 - CLASSES)).astype(np.int64)
    kinds, rows = rings(seed, shared, task), np.arange(count)
    latent = np.zeros((count, SIDE, SIDE), dtype=np.int64)
    for j in range(4):
        kind = labels if j < _RINGS else idle
        top = CELL * (cells[:, j] // 2) + offsets[:, j, 0]
        left = CELL * (cells[:, j] % 2) + offsets[:, j, 1]
        for place, (down, right) in enumerate(RING):
            latent[rows, top + down, left + right] = kinds[kind, place]
    mixed = mixing(seed)[:, map_of(shared, task)][None, :, None, None] * latent[:, None] / 4
    uniform = _raw((4, count, MAPS, SIDE, SIDE), seed, *words, "noise") >> np.uint64(48)  # 0 .. 65535
    noise = uniform.astype(np.int64).sum(0) - 2 * 65535  # deviation 65536 / sqrt(3), about
    images = 2 * (mixed + noise * (NOISE / 37837))
    return Split(torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels))


def _hadamard(side: int) -> Numbers:
    """Sylvester's matrix, whose rows are orthogonal."""
    matrix = np.ones((1, 1), dtype=np.int64)
    while len(matrix) < side:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _signs(count: int, seed: int, *words: Word) -> Numbers:
    return 1 - 2 * (_raw((count,), seed, *words) >> np.uint64(63)).astype(np.int64)


def _raw(shape: tuple[int, ...], seed: int, *words: Word) -> NDArray[np.uint64]:
    """Bits that numpy promises for all its versions."""
    return np.random.PCG64(derive(seed, *words)).random_raw(int(np.prod(shape))).reshape(shape)


def _outline(options: Mapping[str, Value]) -> Outline:
    return Outline((CLASSES,) * int(options["count"]), (MAPS, SIDE, SIDE))


INFO = StreamInfo(
    name="planted",
    about="made images whose tasks share low-level filters, or high-level ones, and nothing else",
    content="11 tasks of 4 classes, 16 x 8 x 8",
    build=build,
    outline=_outline,
    options={
        "shared": Option(
            "low", "what the tasks have in common: low-level filters, or high-level ones", ("low", "high")
        ),
        "count": Option(11, "tasks, at most 16"),
    },
    data="made on the spot",
    hub=None,
    licence="none needed",
)
