"""The stream `cifar100`: 10 tasks of 10 classes with 4 % of the training data (Lee et al. 2019, section 4).

Of every class 17 training and 3 validation images are drawn (170 and 30 a task); all 100 test images are
used.

Details that change the numbers:
  * `classes=random`, the paper's: the 100 classes are dealt out to the tasks at random, and the order of the
    tasks is part of that draw (App. B.1), so another seed gives other tasks in another order.
  * `classes=superclass`, the authors' code's: every task has one class of each of ten superclasses, tasks 1
    to 5 of one ten and tasks 6 to 10 of the other, in this fixed order. Tasks of one five are thus close
    relatives. The code also uses the same 200 images a task in all trials; give all trials one stream seed to
    do the same.
  * `standardise=split`, the authors': each split by its own statistics, the test images by those of the test
    images. `train` uses the training split's for all three; `none` leaves pixels in [0, 1].
  * A label is the class's position in its task's list.
  * `tasks=20-overlapping`, in the authors' code but not in the papers: between two of the ten tasks stands one of
    five classes of either, those at places 1, 3, 5, 7, 9 of the one and 2, 4, 6, 8, 10 of the next; the last leads
    back to the first. Every class is in two tasks, with the same images in both. With the authors' classes the ten
    come in the order 1, 6, 2, 7, 3, 8, 4, 9, 10, 5, as the authors have them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.draws import permutation
from everlearn.tasks.encoded import EncodedImages
from everlearn.tasks.hub import open_image_set, split_of
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.task import Task, TaskStream
from everlearn.tasks.transforms import Standardise, standardise_splits

HUB = "uoft-cs/cifar100"

SUPERCLASS_TASKS: tuple[tuple[int, ...], ...] = (
    (4, 1, 54, 9, 0, 5, 6, 3, 12, 8),
    (30, 32, 62, 10, 51, 20, 7, 42, 17, 13),
    (55, 67, 70, 16, 53, 25, 14, 43, 37, 48),
    (72, 73, 82, 28, 57, 84, 18, 88, 68, 58),
    (95, 91, 92, 61, 83, 94, 24, 97, 76, 90),
    (22, 23, 15, 34, 26, 2, 27, 36, 47, 41),
    (39, 33, 19, 63, 45, 11, 29, 50, 52, 69),
    (40, 49, 21, 64, 77, 35, 44, 65, 56, 81),
    (86, 60, 31, 66, 79, 46, 78, 74, 59, 85),
    (87, 71, 38, 75, 99, 98, 93, 80, 96, 89),
)
"""The authors' tasks, as fine labels. Tasks 1 to 5 take the superclasses aquatic mammals, fish, flowers, food
containers, fruit and vegetables, household furniture, insects, large carnivores, large man-made outdoor
things, vehicles 1; tasks 6 to 10 household electrical devices, large natural outdoor scenes, large omnivores
and herbivores, medium mammals, non-insect invertebrates, people, reptiles, small mammals, trees, vehicles 2:
of each the next class in alphabetical order."""

_ALTERNATING = (1, 6, 2, 7, 3, 8, 4, 9, 10, 5)
"""The order of the authors' ten tasks where twenty are made of them."""

_VALIDATION = 0.15
"""Of the images drawn, 3 of 20."""


def class_tasks(how: str, seed: int) -> tuple[tuple[int, ...], ...]:
    """The fine labels of each task's classes, ten tuples of ten; `how` is `random` or `superclass`."""
    if how == "superclass":
        return SUPERCLASS_TASKS
    order = permutation(100, seed, "cifar100", "classes").tolist()
    return tuple(tuple(order[start : start + 10]) for start in range(0, 100, 10))


def overlapping(tasks: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Twice as many tasks: after each one with every other class of it and the classes between of the next."""
    made: list[tuple[int, ...]] = []
    for place, task in enumerate(tasks):
        following = tasks[(place + 1) % len(tasks)]
        made += [task, tuple((following if k % 2 else task)[k] for k in range(len(task)))]
    return tuple(made)


def stream_classes(options: Mapping[str, Value], seed: int) -> tuple[tuple[int, ...], ...]:
    """The fine labels of each task's classes, by the stream's options."""
    how = str(options["classes"])
    ten = class_tasks(how, seed)
    if options.get("tasks", "10") == "10":
        return ten
    return overlapping([ten[number - 1] for number in _ALTERNATING] if how == "superclass" else ten)


def draw(pool: np.ndarray, fraction: float, seed: int, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows of one class.

    Args:
        pool: the class's rows in an order that does not depend on where the set came from.
        fraction: of the rows to draw; 15 % of what is drawn is for validation.
        seed: the stream's.
        label: the class's fine label.

    Raises:
        ConfigurationError: the fraction is so small that one of the two would be empty.
    """
    count = int(len(pool) * fraction + 0.5)
    validation = max(1, int(count * _VALIDATION + 0.5))
    if count < 2:
        raise ConfigurationError(
            f"fraction {fraction:g} of the {len(pool)} training images of fine label {label} leaves {count}, "
            "but a class needs one for training and one for validation; give a larger fraction."
        )
    drawn = pool[permutation(len(pool), seed, "cifar100", "images", label)[:count]]
    return drawn[: count - validation], drawn[count - validation :]


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream from `DIR/cifar100/` of the data folder, or from the hub without one.

    Raises:
        MissingDataError: the set is not there.
        DataError: it has other than 100 classes, or a file cannot be read.
        ConfigurationError: a fraction out of range.
    """
    fraction = float(options["fraction"])
    if not 0 < fraction <= 1:
        raise ConfigurationError(f"fraction is wanted above 0 and at most 1, but came as {fraction:g}.")
    sets = open_image_set("cifar100", HUB, "fine_label", data)
    train, test = sets["train"], sets["test"]
    if len(train.classes) != 100:
        raise DataError(f"{train.where} is wanted with 100 classes of fine_label, but has {len(train.classes)}.")
    drawn = [draw(pool, fraction, seed, label) for label, pool in enumerate(train.by_class())]
    tested = test.by_class()
    how = cast(Standardise, options["standardise"])
    tasks = tuple(
        _task(f"task-{number}", labels, train, test, drawn, tested, how)
        for number, labels in enumerate(stream_classes(options, seed), start=1)
    )
    return TaskStream("cifar100", seed, tasks, dict(options), INFO.about)


def _task(
    name: str,
    labels: tuple[int, ...],
    train: EncodedImages,
    test: EncodedImages,
    drawn: list[tuple[np.ndarray, np.ndarray]],
    tested: list[np.ndarray],
    how: Standardise,
) -> Task:
    splits = standardise_splits(
        split_of(train, [drawn[label][0] for label in labels]),
        split_of(train, [drawn[label][1] for label in labels]),
        split_of(test, [tested[label] for label in labels]),
        how,
    )
    return Task(name, tuple(train.classes[label] for label in labels), *splits)


def _outline(options: Mapping[str, Value]) -> Outline:
    return Outline((10,) * (10 if options.get("tasks", "10") == "10" else 20), (3, 32, 32))


INFO = StreamInfo(
    name="cifar100",
    about="CIFAR-100 in ten tasks with 4 % of the training data (Lee et al. 2019)",
    content="10 tasks of 10 classes (or 20 that overlap by half), 3 x 32 x 32",
    build=build,
    outline=_outline,
    options={
        "tasks": Option(
            "10",
            "ten of ten classes each, or twenty that share half of their classes",
            ("10", "20-overlapping"),
            quiet=True,
        ),
        "classes": Option(
            "random",
            "classes and task order drawn from the seed (paper), or the authors' list",
            ("random", "superclass"),
        ),
        "fraction": Option(0.04, "of the training images, 15 % of them for validation"),
        "standardise": Option(
            "split",
            "by the statistics of each split (authors), of the training split, or not",
            ("split", "train", "none"),
        ),
    },
    data="cifar100/train.parquet and test.parquet in the data folder, or the hub",
    hub=HUB,
    licence="free for research, with citation (Krizhevsky 2009)",
)
