"""A task, and a stream of tasks: what a learner is given, one after the other.

Shapes: N images, C channels, H x W pixels. Images are float32; labels are int64, 0 .. number of classes - 1,
and count within the task. Everything is checked when a task is made, so nothing later needs to check again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.stored import StoredImages

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One part of a task's data.

    Attributes:
        images: `[N, C, H, W]`, float32, or images that are decoded as needed. What comes from a user is
            checked by `Task`, with words for people.
        labels: `[N]`, int64, indices into the task's classes; of a multi-label task `[N, classes]`, float32, 1
            where an image is of a class and 0 where it is not.
    """

    images: Tensor | StoredImages
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    @property
    def multi_label(self) -> bool:
        """Whether an image may be of several classes, or of none."""
        return self.labels.ndim == 2


@dataclass(frozen=True)
class Task:
    """One classification task.

    Attributes:
        name: unique within its stream.
        classes: the names of the classes; a label is a position in this tuple.
        train: what is learned from; None of a task that a trained network comes with, whose images are gone.
        validation: what choices are made on; None as well.
        test: what is reported; None where such a task cannot be measured.
        multi_label: whether an image may be of several classes; of a task without images as told, of others as its
            labels are.

    Raises:
        DataError: a split is empty, shapes disagree, a label names no class, a pixel is not a finite number, there
            are training images without validation and test images.
    """

    name: str
    classes: tuple[str, ...]
    train: Split | None = None
    validation: Split | None = None
    test: Split | None = None
    multi_label: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.train is not None and (self.validation is None or self.test is None):
            raise DataError(f"task {self.name!r} has training images, so it needs validation and test images too.")
        kinds = {split.multi_label for split in self.splits().values()}
        if len(kinds) > 1:
            raise DataError(f"the splits of task {self.name!r} hold labels of two kinds; make them all of one.")
        if kinds:
            object.__setattr__(self, "multi_label", kinds.pop())
        if len(self.classes) < (1 if self.multi_label else 2):
            raise DataError(f"task {self.name!r} needs at least two classes, but has {list(self.classes)}.")
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"task {self.name!r} names a class twice: {list(self.classes)}.")
        for name, split in self.splits().items():
            _check(f"the {name} split of task {self.name!r}", split, len(self.classes))
        shapes = {name: tuple(split.images.shape[1:]) for name, split in self.splits().items()}
        if len(set(shapes.values())) > 1:
            raise DataError(f"the splits of task {self.name!r} hold images of different shapes: {shapes}.")

    def splits(self) -> Mapping[str, Split]:
        """The splits that there are by name, in the order train, validation, test."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in every.items() if split is not None}

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Channels, height, width; None of a task without images."""
        for split in self.splits().values():
            channels, height, width = split.images.shape[1:]
            return channels, height, width
        return None


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
        shapes = {task.name: shape for task in self.tasks if (shape := task.image_shape) is not None}
        if not shapes:
            raise ConfigurationError(f"stream {self.name!r} holds no image; give it a task that has some.")
        if len(set(shapes.values())) > 1:
            raise DataError(f"the tasks of stream {self.name!r} differ in image shape: {shapes}; resize them to one.")

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of every image of the stream."""
        return next(shape for task in self.tasks if (shape := task.image_shape) is not None)


def _check(what: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    if isinstance(images, Tensor) and (images.ndim != 4 or images.dtype != torch.float32):
        raise DataError(
            f"{what} needs floating-point images [N, C, H, W] of 32 bits, but has {images.dtype} "
            f"{list(images.shape)}; everlearn.tasks.images_from_array makes such of others."
        )
    if labels.ndim == 2:
        _check_multi_label(what, labels, classes)
    elif labels.ndim != 1 or labels.dtype != torch.int64:
        raise DataError(
            f"{what} needs int64 labels [N] (or, of a multi-label task, float32 [N, classes]), but came as "
            f"{labels.dtype} {list(labels.shape)}."
        )
    if len(images) != len(labels):
        raise DataError(f"{what} has {len(images)} images but {len(labels)} labels.")
    if len(labels) == 0:
        raise DataError(f"{what} is empty; every split needs at least one image.")
    low, high = int(labels.min()), int(labels.max())
    if labels.ndim == 1 and (low < 0 or high >= classes):
        bad = low if low < 0 else high
        raise DataError(f"{what} has the label {bad}, but its {classes} classes are labelled 0 to {classes - 1}.")
    if isinstance(images, Tensor):
        _check_finite(what, images)


def _check_finite(what: str, images: Tensor) -> None:
    # One pass without a temporary, which NaN and infinity both show in; only a bad one pays for finding the image.
    if images.numel() and not torch.isfinite(torch.stack(torch.aminmax(images))).all():
        bad_images = (~torch.isfinite(images)).flatten(1).any(1).nonzero().flatten().tolist()
        raise DataError(f"{what} has pixels that are not finite numbers (NaN or infinity) in image {bad_images[:5]}.")


def _check_multi_label(what: str, labels: Tensor, classes: int) -> None:
    if labels.dtype != torch.float32 or labels.shape[1] != classes:
        raise DataError(
            f"{what} needs float32 labels [N, {classes}], one column a class, but came as {labels.dtype} "
            f"{list(labels.shape)}."
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise DataError(f"{what} needs labels of 0 and 1, an image being of a class or not, but has others.")
