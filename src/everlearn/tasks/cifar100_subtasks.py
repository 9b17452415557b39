"""The stream `cifar100-subtasks`: CIFAR-100 in ten tasks of ten one-against-rest subtasks (Yoon et al. 2018, sec. 4).

"We considered each task as a set of 10 subtasks, each of which is a binary classification task on each class": a task
is multi-label, one yes or no for each of its ten classes. All 500 training and 100 test images of a class are used.

Details that change the numbers:
  * Every image of a task is of one of its ten classes; images of the other ninety are not among its rest.
  * `classes=ordered`: classes 1 to 10 of CIFAR-100's alphabetical order are the first task, and so on; `random`: dealt
    out by the seed. The paper does not say.
  * `validation`, 10 % by default, is taken out of the 500 training images, of each class alike; the paper has no
    validation images here.
  * `fraction` of what is left is trained on, of each class alike; a smaller one is part of a larger.
  * `standardise=train`: each task by its training images. The paper does not say.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.cifar100 import HUB
from everlearn.tasks.draws import parts, permutation
from everlearn.tasks.encoded import EncodedImages
from everlearn.tasks.hub import open_image_set, split_of
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.tasks.transforms import Standardise, standardise_splits

_Rows = list[np.ndarray]
"""For each class the rows of its images."""


def class_groups(how: str, seed: int) -> list[list[int]]:
    """The classes of each task, ten lists of ten; `how` is `ordered` or `random`."""
    order = permutation(100, seed, "cifar100-subtasks", "classes") if how == "random" else np.arange(100)
    return order.reshape(10, 10).tolist()


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream from `DIR/cifar100/` of the data folder, or from the hub without one.

    Raises:
        MissingDataError: the set is not there.
        DataError: it has other than 100 classes, too few images, or a file cannot be read.
        ConfigurationError: a share out of range.
    """
    _check(options)
    sets = open_image_set("cifar100", HUB, "fine_label", data)
    train, test = sets["train"], sets["test"]
    if len(train.classes) != 100:
        raise DataError(f"{train.where} is wanted with 100 classes of fine_label, but has {len(train.classes)}.")
    learned, kept = _divide(train, seed, float(options["validation"]), float(options["fraction"]))
    tested = test.by_class()
    how = cast(Standardise, options["standardise"])
    tasks = []
    for number, group in enumerate(class_groups(str(options["classes"]), seed), start=1):
        splits = standardise_splits(
            _split(train, learned, group), _split(train, kept, group), _split(test, tested, group), how
        )
        names = tuple(train.classes[label] for label in group)
        tasks.append(Task(f"task-{number}", names, *splits))
    return TaskStream("cifar100-subtasks", seed, tuple(tasks), dict(options), INFO.about)


def _check(options: Mapping[str, Value]) -> None:
    validation, fraction = float(options["validation"]), float(options["fraction"])
    if not 0 < validation < 1:
        raise ConfigurationError(f"validation is wanted above 0 and below 1, but came as {validation:g}.")
    if not 0 < fraction <= 1:
        raise ConfigurationError(f"fraction is wanted above 0 and at most 1, but came as {fraction:g}.")


def _divide(train: EncodedImages, seed: int, validation: float, fraction: float) -> tuple[_Rows, _Rows]:
    learned, kept = [], []
    for label, pool in enumerate(train.by_class()):
        what = f"class {train.classes[label]!r} of {train.where}"
        first, second = parts(len(pool), (1 - validation, validation), what, seed, "cifar100-subtasks", "images", label)
        learned.append(pool[first[: max(1, int(len(first) * fraction + 0.5))]])
        kept.append(pool[second])
    return learned, kept


def _split(images: EncodedImages, rows: _Rows, group: list[int]) -> Split:
    of_class = split_of(images, [rows[label] for label in group])
    return Split(of_class.images, torch.eye(len(group))[of_class.labels])


def _outline(options: Mapping[str, Value]) -> Outline:
    return Outline((10,) * 10, (3, 32, 32))


INFO = StreamInfo(
    name="cifar100-subtasks",
    about="CIFAR-100 in ten tasks, each of ten classes' one-against-rest subtasks (Yoon et al. 2018)",
    content="10 tasks of 10 labels, 3 x 32 x 32",
    build=build,
    outline=_outline,
    options={
        "classes": Option(
            "ordered", "ten after ten in alphabetical order, or dealt out by the seed", ("ordered", "random")
        ),
        "fraction": Option(1.0, "of the training images that validation leaves, of each class alike"),
        "validation": Option(0.1, "share of the training images that is set aside"),
        "standardise": Option(
            "train", "by each task's training split, each split by itself, or not", ("train", "split", "none")
        ),
    },
    data="cifar100/train.parquet and test.parquet in the data folder, or the hub",
    hub=HUB,
    licence="free for research, with citation (Krizhevsky 2009)",
)
