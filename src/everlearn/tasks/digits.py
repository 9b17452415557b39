"""The stream `digits`: scikit-learn's 1,797 handwritten digits of 8 x 8 grey levels, two classes a task.

Each digit's images (174 to 183) are divided once, at random: 40 % are the pool that training images are drawn
from, 20 % are for validation, 40 % for the test. All tasks share this division, so no task's test image is
another task's training image.

Details that change the numbers:
  * Pixels are the levels 0 .. 16 divided by 16; nothing is standardised.
  * `pairs`: task i tells digit 2i (label 0) from digit 2i + 1 (label 1), on all their validation and test
    images.
  * `one-against-rest`: task i tells all other digits (label 0) from digit i (label 1), half of the images
    each; the other nine digits have equal shares, as far as the number divides by nine.
  * A task has 40 training images by default, of about 142: few enough that there is something to gain from other
    tasks, and enough that the small network learns every task by itself.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.tasks.draws import parts, permutation
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.task import Split, Task, TaskStream

_FRACTIONS = (0.4, 0.2, 0.4)
_SPLITS = ("train", "validation", "test")
_Rows = list[np.ndarray]
"""For each digit the rows of its images, in random order."""


@functools.cache
def load_digits() -> Split:
    """All 1,797 images `[1797, 1, 8, 8]` in [0, 1] with labels 0 .. 9."""
    from sklearn.datasets import load_digits

    levels, labels = (torch.from_numpy(np.asarray(part)) for part in load_digits(return_X_y=True))
    return Split(levels.to(torch.float32).reshape(-1, 1, 8, 8) / 16, labels.to(torch.int64))


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream; no data folder is needed.

    Raises:
        ConfigurationError: `train` is odd, negative, or more than there is.
    """
    digits = load_digits()
    rows = _divide(digits, seed)
    make = _pair if options["tasks"] == "pairs" else _against_rest
    size = int(options["train"])
    most = 2 * min(len(pool) for pool in rows["train"])
    if size > most:
        raise ConfigurationError(f"train is at most {most} images a task, but came as {size}; 0 takes all.")
    if size < 0 or size % 2:
        raise ConfigurationError(f"train is wanted as an even number of images (0 for all), but came as {size}.")
    count = 5 if options["tasks"] == "pairs" else 10
    tasks = tuple(make(digits, rows, position, size // 2, seed) for position in range(count))
    return TaskStream("digits", seed, tasks, dict(options), INFO.about)


def _divide(digits: Split, seed: int) -> dict[str, _Rows]:
    labels = digits.labels.numpy()
    rows: dict[str, _Rows] = {split: [] for split in _SPLITS}
    for digit in range(10):
        pool = np.flatnonzero(labels == digit)
        for split, part in zip(
            _SPLITS, parts(len(pool), _FRACTIONS, f"digit {digit}", seed, "digits", digit), strict=True
        ):
            rows[split].append(pool[part])
    return rows


def _pair(digits: Split, rows: dict[str, _Rows], position: int, half: int, seed: int) -> Task:
    first, second = 2 * position, 2 * position + 1
    splits = []
    for split in _SPLITS:
        most = half or None if split == "train" else None
        splits.append(_split(digits, (rows[split][first][:most], rows[split][second][:most])))
    return Task(f"{first}-vs-{second}", (str(first), str(second)), *splits)


def _against_rest(digits: Split, rows: dict[str, _Rows], position: int, half: int, seed: int) -> Task:
    splits = []
    for split in _SPLITS:
        positives = rows[split][position][: half or None if split == "train" else None]
        rest = _rest(rows[split], position, seed, split)
        splits.append(_split(digits, (rest[: len(positives)], positives)))
    return Task(f"{position}-vs-rest", ("rest", str(position)), *splits)


def _rest(rows: _Rows, position: int, seed: int, split: str) -> np.ndarray:
    """The other digits' rows, dealt out: one of each digit in random order, then another of each, and on."""
    others = [digit for digit in range(10) if digit != position]
    order = [others[k] for k in permutation(len(others), seed, "digits", "rest", position, split)]
    shuffled = [
        rows[digit][permutation(len(rows[digit]), seed, "digits", "rest", position, split, digit)] for digit in order
    ]
    rounds = min(len(one) for one in shuffled)
    return np.stack([one[:rounds] for one in shuffled], axis=1).ravel()


def _split(digits: Split, rows: Sequence[np.ndarray]) -> Split:
    index = torch.from_numpy(np.concatenate(rows))
    labels = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(part) for part in rows]))
    assert isinstance(digits.images, Tensor)
    return Split(digits.images[index], labels)


def _outline(options: Mapping[str, Value]) -> Outline:
    return Outline((2,) * (5 if options["tasks"] == "pairs" else 10), (1, 8, 8))


INFO = StreamInfo(
    name="digits",
    about="scikit-learn's handwritten digits, two classes a task",
    content="5 tasks of 2 classes (or 10, one digit against the rest), 1 x 8 x 8",
    build=build,
    outline=_outline,
    options={
        "tasks": Option("pairs", "0-vs-1, 2-vs-3, ... or each digit against the rest", ("pairs", "one-against-rest")),
        "train": Option(40, "training images a task, half of each class; 0 for all (about 142)"),
    },
    data="comes with scikit-learn",
    hub=None,
    licence="CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
)
