"""What a server says, as pydantic models: they are the OpenAPI description, and make the JSON."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field
from torch import Tensor

from everlearn.serving.current import Loaded
from everlearn.storing.answering import Prediction, certainty, plausible, predictions
from everlearn.storing.records import TaskRecord

DIGITS = 6
"""Decimals of probabilities."""


class Mistake(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="one sentence")


class TaskAbout(BaseModel):
    """A task that the learner knows."""

    name: str
    classes: list[str] = Field(description="in the order of the network's outputs")
    multi_label: bool = Field(description="whether an image may be of several classes; then each has its own yes or no")
    size: list[int] = Field(description="channels, height, width that images are brought to")
    images: dict[str, int] = Field(description="how many it was learned from, by split")
    accuracy: dict[str, float] = Field(description="when it was learned, by split")
    generation: int = Field(description="the first that knew it")


class Tasks(BaseModel):
    """What the learner knows."""

    generation: int = Field(description="that answers")
    tasks: list[TaskAbout]


class TaskAnswer(BaseModel):
    """What one task says of an image."""

    task: str
    label: str = Field(description="the most probable class")
    probability: float = Field(description="of that class")
    probabilities: dict[str, float] = Field(description="the most probable first; `top` says how many")
    certainty: float = Field(description="0: the task cannot tell its classes apart; 1: it is sure")


class ImageAnswer(BaseModel):
    """What the learner says of an image."""

    name: str = Field(description="of the file")
    task: str = Field(description="that was asked, or the most plausible")
    label: str
    probability: float
    probabilities: dict[str, float]
    sure: float | None = Field(
        description="by how much the answering task's certainty leads; null if a task was named, or there is one only"
    )
    answers: list[TaskAnswer] = Field(description="of every task, the most certain first; empty where one was named")


class Answers(BaseModel):
    """An answer for each image, in their order."""

    generation: int = Field(description="that answered")
    images: list[ImageAnswer]


class Health(BaseModel):
    """How the server is."""

    alive: bool
    generation: int = Field(description="that answers")
    on_disk: int | None = Field(description="the generation that counts in the store; null if that cannot be read")
    up_to_date: bool = Field(description="whether they are the same")
    problem: str | None = Field(description="why a newer generation was not taken")


def tasks_of(loaded: Loaded) -> Tasks:
    """What the learner knows."""
    return Tasks(generation=loaded.generation, tasks=[_about(task) for task in loaded.tasks.values()])


def _about(task: TaskRecord) -> TaskAbout:
    pre = task.preprocessing
    return TaskAbout(
        name=task.name,
        classes=task.classes,
        multi_label=task.multi_label,
        size=[pre.channels, pre.height, pre.width],
        images=task.images,
        accuracy=task.accuracy,
        generation=task.generation,
    )


def answers_of(
    loaded: Loaded, names: Sequence[str], found: Mapping[str, Tensor], named: bool, top: int | None
) -> Answers:
    """The answers for some images.

    Args:
        loaded: the generation that answered.
        names: of the images.
        found: the probabilities of each task that was asked, `[n, classes]`.
        named: whether one was named.
        top: of how many classes the probabilities are said; None: all.
    """
    tasks = [loaded.tasks[name] for name in found]
    if named:
        best, every = predictions(tasks[0], found[tasks[0].name]), [list[TaskAnswer]() for _ in names]
    else:
        best = plausible(tasks, list(found.values()))
        every = _every(tasks, found, top)
    images = [
        ImageAnswer.model_construct(
            name=name, task=one.task, label=one.label, probability=round(one.probability, DIGITS),
            probabilities=_top(one, top), sure=None if one.sure is None else round(one.sure, DIGITS), answers=others,
        )
        for name, one, others in zip(names, best, every, strict=True)
    ]  # fmt: skip
    return Answers.model_construct(generation=loaded.generation, images=images)


def _every(tasks: Sequence[TaskRecord], found: Mapping[str, Tensor], top: int | None) -> list[list[TaskAnswer]]:
    """Of each image what each task says, the most certain first."""
    columns = [
        [
            TaskAnswer.model_construct(
                task=one.task, label=one.label, probability=round(one.probability, DIGITS),
                probabilities=_top(one, top), certainty=round(certain, DIGITS),
            )
            for one, certain in zip(
                predictions(task, found[task.name]), certainty(found[task.name], task.multi_label).tolist(), strict=True
            )
        ]
        for task in tasks
    ]  # fmt: skip
    return [sorted(row, key=lambda answer: -answer.certainty) for row in map(list, zip(*columns, strict=True))]


def _top(one: Prediction, top: int | None) -> dict[str, float]:
    best = sorted(one.probabilities.items(), key=lambda pair: -pair[1])[:top]
    return {name: round(p, DIGITS) for name, p in best}
