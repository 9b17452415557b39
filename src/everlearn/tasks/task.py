"""A task, and a stream of tasks: what a learner is given, one after the other.

Shapes: N images, C channels, H x W pixels. Images are float32; labels are int64, 0 .. number of classes - 1,
and count within the task. Everything is checked when a task is made, so nothing later needs to check again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One part of a task's data.

    Attributes:
        images: `[N, C, H, W]`, floating point. What comes from a user is checked by `Task`, with words for people.
        labels: `[N]`, int64, indices into the task's classes.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]


@dataclass(frozen=True)
class Task:
    """One classification task.

    Attributes:
        name: unique within its stream.
        classes: the names of the classes; a label is a position in this tuple.
        train: what is learned from.
        validation: what choices are made on.
        test: what is reported.

    Raises:
        DataError: a split is empty, shapes disagree, a label names no class, a pixel is not a finite number.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(f"task {self.name!r} needs at least two classes, but has {list(self.classes)}.")
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"task {self.name!r} names a class twice: {list(self.classes)}.")
        for name, split in self.splits().items():
            _check(f"the {name} split of task {self.name!r}", split, len(self.classes))
        shapes = {name: tuple(split.images.shape[1:]) for name, split in self.splits().items()}
        if len(set(shapes.values())) > 1:
            raise DataError(f"the splits of task {self.name!r} hold images of different shapes: {shapes}.")

    def splits(self) -> Mapping[str, Split]:
        """The three splits by name, in the order train, validation, test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class TaskStream:
    """Tasks in the order in which they are learned.

    Attributes:
        name: the stream's name, as on the command line.
        seed: the seed every random draw of the stream came from.
        tasks: in order; all of one image shape.
        options: what else it was made with; with `name` and `seed` it determines the stream.
        about: one sentence for people.

    Raises:
        ConfigurationError: no task, or two of one name.
        DataError: the tasks' images differ in shape.
    """

    name: str
    seed: int
    tasks: tuple[Task, ...]
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    about: str = ""

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names:
            raise ConfigurationError(f"stream {self.name!r} holds no task; give it at least one.")
        if len(set(names)) < len(names):
            raise ConfigurationError(f"two tasks of stream {self.name!r} have one name; the names are {names}.")
        shapes = {task.name: task.image_shape for task in self.tasks}
        if len(set(shapes.values())) > 1:
            raise DataError(f"the tasks of stream {self.name!r} differ in image shape: {shapes}; resize them to one.")

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of every image of the stream."""
        return self.tasks[0].image_shape


def _check(what: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(
            f"{what} needs floating-point images [N, C, H, W], but has {images.dtype} {list(images.shape)}."
        )
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise DataError(f"{what} needs int64 labels [N], but came as {labels.dtype} {list(labels.shape)}.")
    if len(images) != len(labels):
        raise DataError(f"{what} has {len(images)} images but {len(labels)} labels.")
    if len(labels) == 0:
        raise DataError(f"{what} is empty; every split needs at least one image.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        raise DataError(f"{what} has the label {bad}, but its {classes} classes are labelled 0 to {classes - 1}.")
    # A sum is one pass without a temporary; only a bad one pays for finding the image.
    if not torch.isfinite(images.sum(dtype=torch.float64)):
        bad_images = (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten().tolist()
        raise DataError(f"{what} has pixels that are not finite numbers (NaN or infinity) in image {bad_images[:5]}.")
