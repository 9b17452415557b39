"""What a learner writes about itself, as JSON.

    STORE/current                         which generation counts (`Current`)
    STORE/generations/000003/manifest.json      its files with their hashes (`Manifest`)
    STORE/generations/000003/learner.json       what was learned, and how (`LearnerRecord`)

Files of a newer schema are refused. When the schema changes, a function named after the step will upgrade older ones.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from everlearn.networks.parts import TaskStructure
from everlearn.tasks.pixels import MAX_SIDE
from everlearn.training.settings import Training

SCHEMA = 1

Value = str | int | float | bool

NAMED = "at most 200 printable characters without spaces around them"
"""What the name of a task or of a class consists of."""


def is_name(text: object) -> bool:
    """Whether a task or a class may be called so."""
    return isinstance(text, str) and text.isprintable() and text == text.strip() and len(text) <= 200


def _printable(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"a name needs to be of {NAMED}")
    return text


def _plain(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", name) or ".." in name:
        raise ValueError("a file's name needs to be plain, without a path")
    return name


Name = Annotated[str, AfterValidator(_printable)]
FileName = Annotated[str, AfterValidator(_plain)]
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=1, le=999_999)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Current(_Record):
    """`current`: replaced at once, it switches from one generation to the next.

    Attributes:
        schema_version: of the file.
        generation: the one that counts.
        manifests: SHA-256 of the manifest of each generation that is kept.
        seal: SHA-256 of the above, so that damage of this file is found as well.
    """

    schema_version: int
    generation: Number
    manifests: dict[Number, Sha]
    seal: str = ""

    def sealed(self) -> "Current":
        """The same with its seal."""
        text = f"{self.schema_version} {self.generation} {sorted(self.manifests.items())}"
        return self.model_copy(update={"seal": hashlib.sha256(text.encode()).hexdigest()})


class FileRecord(_Record):
    """A file of a generation."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha


class Manifest(_Record):
    """`manifest.json`: the files of a generation."""

    schema_version: int
    generation: Number
    files: dict[FileName, FileRecord]


class Preprocessing(_Record):
    """What is done to a task's images before its network sees them.

    Pixels are in [0, 1] (8-bit levels over 255; numbers that a user gave as floating point are taken as they are), of
    `channels` x `height` x `width` (files are resized to that: bilinear, antialiased, the aspect ratio not kept), then
    `(x - mean) / scale` for each channel.
    """

    channels: Side
    height: Side
    width: Side
    mean: list[Finite]
    scale: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]

    @model_validator(mode="after")
    def _fits(self) -> "Preprocessing":
        if not len(self.mean) == len(self.scale) == self.channels:
            raise ValueError("mean and scale need a number for each channel")
        return self


class TaskRecord(_Record):
    """A task that was learned.

    Attributes:
        name: unique among those that are not forgotten; empty once it is.
        classes: their names, in the order of the head's outputs; empty once it is forgotten.
        structure: of its part of the network.
        preprocessing: of its images.
        multi_label: whether an image may be of several classes.
        generation: the first that knew it.
        images: how many it was learned from, by split.
        accuracy: when it was learned, by split.
        kept: images of its validation split that the store keeps.
        forgotten: whether its head and its names are gone.
    """

    name: Name
    classes: list[Name]
    structure: TaskStructure
    preprocessing: Preprocessing
    multi_label: bool = False
    generation: Number
    images: dict[str, int] = {}
    accuracy: dict[str, Finite] = {}
    kept: int = 0
    forgotten: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "TaskRecord":
        if len(self.classes) != (0 if self.forgotten else self.structure.classes):
            raise ValueError("a task needs a name for each class")
        return self


class Effect(_Record):
    """What learning a task did to an older one.

    Attributes:
        task: the older one.
        before: its accuracy on validation images, if there are any.
        after: the same afterwards.
        images: how many such images there were.
        moved: the largest change of any of its probabilities, over images of the new task; 0: it answers as before.
    """

    task: str
    before: Finite | None = None
    after: Finite | None = None
    images: int = 0
    moved: Finite


class Event(_Record):
    """One step of a learner's history, which made one generation.

    Attributes:
        generation: that it made.
        what: was done.
        when: ISO 8601, UTC.
        task: that it was done to.
        training: settings of this lesson that differ from the learner's.
        options: hyper-parameters of this lesson that differ from the learner's.
        epochs: that were trained.
        seconds: of training.
        accuracy: of the task, by split.
        others: what happened to the tasks before.
        warnings: what the method had doubts about.
        to: the generation that was gone back to.
        versions: of everlearn and torch.
    """

    generation: Number
    what: Literal["created", "learned", "forgot", "rolled back"]
    when: str
    task: str = ""
    training: dict[str, Value] = {}
    options: dict[str, Value] = {}
    epochs: int = 0
    seconds: Finite = 0.0
    accuracy: dict[str, Finite] = {}
    others: list[Effect] = []
    warnings: list[str] = []
    to: int | None = None
    versions: dict[str, str] = {}


class LearnerRecord(_Record):
    """`learner.json`: everything of a learner that is no tensor.

    Attributes:
        schema_version: of the file.
        method: a name of `everlearn methods`, with or without a configuration, or `file.py:Name`.
        backbone: a name of the table of backbones, or `file.py:Name`.
        options: hyper-parameters of the method and its rule that differ from their defaults.
        training: settings of the loop for each task, unless a lesson says otherwise.
        seed: of every start, order and dropout.
        code: hashes of the user's own files, by `method` and `backbone`.
        numbers: hash of the numbers that the backbone came with; empty if they do not count.
        image_shape: channels, height, width of every task's images; None until the first task, or as created.
        standardise: how tasks are standardised unless a lesson says otherwise.
        keep: generations that are kept.
        epochs: that all tasks took; later tasks count on from here.
        tasks: in the order in which they were learned.
        history: what was done, oldest first.
    """

    schema_version: int
    method: str
    backbone: str
    options: dict[str, Value] = {}
    training: Training
    seed: int = 0
    code: dict[Literal["method", "backbone"], str] = {}
    numbers: str = ""
    image_shape: tuple[Side, Side, Side] | None = None
    standardise: Literal["train", "imagenet", "none"] = "train"
    keep: Annotated[int, Field(ge=1, le=1000)] = 5
    epochs: Annotated[int, Field(ge=0)] = 0
    tasks: list[TaskRecord] = []
    history: list[Event] = []

    @model_validator(mode="after")
    def _fits(self) -> "LearnerRecord":
        names = [task.name for task in self.tasks if not task.forgotten]
        if len(set(names)) < len(names) or "" in names:
            raise ValueError("every task needs a name of its own")
        shapes = {(p.channels, p.height, p.width) for p in (task.preprocessing for task in self.tasks)}
        if shapes - {self.image_shape}:
            raise ValueError("all tasks need images of the learner's shape")
        if {name for name in ("method", "backbone") if ".py:" in getattr(self, name)} != set(self.code):
            raise ValueError("a file of the user's own needs its hash")
        return self


def lasting(history: Sequence[Event]) -> list[Event]:
    """What made a learner what it is, oldest first: without what was gone back over."""
    kept: list[Event] = []
    latest: int | None = None  # of what was done before counts what had been done by this generation
    for event in reversed(history):
        if latest is not None and event.generation > latest:
            continue
        if event.to is not None:
            latest = event.to
        else:
            kept.append(event)
    return kept[::-1]


def versions() -> dict[str, str]:
    """What a lesson is done with."""
    return {"everlearn": version("everlearn"), "torch": version("torch")}


def now() -> str:
    """The time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
