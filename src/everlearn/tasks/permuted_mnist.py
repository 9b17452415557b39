"""The stream `permuted-mnist`: MNIST ten times, its pixels in another order each time (Yoon et al. 2018, App. A.1).

All tasks have the same images and labels; a task has one permutation for all its images. Images lie in memory once,
as 8-bit levels (55 MB), and are permuted when they are taken.

Details that change the numbers:
  * The split is the authors': 55,000 images for training, 5,000 for validation, 10,000 for the test. Which 5,000 of
    the 60,000 are for validation is drawn from the seed without regard to classes; the authors' TensorFlow took the
    first 5,000 of MNIST's file, an order that mirrors of the set do not keep.
  * The first task is permuted as well, as in the authors' code; `permute_first=false` leaves it as MNIST.
  * Pixels are in [0, 1]; nothing is standardised.
  * `train` and `test` take the first so many of an order drawn from the seed, so that more contain the fewer.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from everlearn.errors import ConfigurationError
from everlearn.tasks.draws import permutation
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.levels import levels_split
from everlearn.tasks.mnist import DIGITS, HUB, SIDE, Digits, read_mnist
from everlearn.tasks.task import Task, TaskStream


def pixel_order(seed: int, task: int, first: bool = True) -> np.ndarray | None:
    """Where each pixel of a task comes from, `[784]`; None where images stay as they are.

    Args:
        seed: the stream's.
        task: its number, from 0.
        first: whether task 0 is permuted as well.
    """
    return permutation(SIDE * SIDE, seed, "permuted-mnist", "pixels", task) if task or first else None


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream from `DIR/mnist/` of the data folder, or from the hub without one.

    Raises:
        MissingDataError: the set is not there.
        DataError: it is not MNIST, or a file cannot be read.
        ConfigurationError: a number of tasks or images that cannot be had.
    """
    _check_tasks(options)
    train, test = read_mnist(data)
    rows = _rows(train, test, seed, options)
    tasks = []
    for number in range(int(options["tasks"])):
        order = pixel_order(seed, number, bool(options["permute_first"]))
        splits = [
            levels_split(digits.pixels, digits.labels, rows[name], order)
            for name, digits in (("train", train), ("validation", train), ("test", test))
        ]
        tasks.append(Task(f"permutation-{number + 1}", DIGITS, *splits))
    return TaskStream("permuted-mnist", seed, tuple(tasks), dict(options), INFO.about)


def _check_tasks(options: Mapping[str, Value]) -> None:
    if int(options["tasks"]) < 1:
        raise ConfigurationError(f"tasks is wanted as at least 1, but came as {options['tasks']}.")


def _rows(train: Digits, test: Digits, seed: int, options: Mapping[str, Value]) -> dict[str, np.ndarray]:
    """The rows of each split, the validation images first of MNIST's training images in their drawn order."""
    aside = int(options["validation"])
    if not 1 <= aside < len(train.labels):
        raise ConfigurationError(
            f"validation is wanted as 1 to {len(train.labels) - 1} of MNIST's training images, but came as {aside}."
        )
    drawn = permutation(len(train.labels), seed, "permuted-mnist", "images")
    tested = permutation(len(test.labels), seed, "permuted-mnist", "test")
    pools = {"train": drawn[aside:], "test": tested}
    rows = {"validation": np.sort(drawn[:aside])}
    for name, pool in pools.items():
        count = int(options[name])
        if not 0 <= count <= len(pool):
            raise ConfigurationError(f"{name} is wanted as 1 to {len(pool)} images, or 0 for all, but came as {count}.")
        rows[name] = np.sort(pool[: count or None])
    return rows


def _outline(options: Mapping[str, Value]) -> Outline:
    _check_tasks(options)
    return Outline((len(DIGITS),) * int(options["tasks"]), (1, SIDE, SIDE))


INFO = StreamInfo(
    name="permuted-mnist",
    about="MNIST with its pixels in another order for each task (Yoon et al. 2018)",
    content="10 tasks of 10 classes, 1 x 28 x 28",
    build=build,
    outline=_outline,
    options={
        "tasks": Option(10, "permutations", later=True),
        "permute_first": Option(True, "whether the first task is permuted too (authors), or is MNIST as it is"),
        "train": Option(0, "training images of each task; 0 for all that validation leaves (55,000)"),
        "validation": Option(5000, "of MNIST's 60,000 training images set aside"),
        "test": Option(0, "test images of each task; 0 for all (10,000)"),
    },
    data="mnist/train.parquet and test.parquet in the data folder, or the hub",
    hub=HUB,
    licence="CC BY-SA 3.0",
)
