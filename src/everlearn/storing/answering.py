"""What a learner answers: labels with probabilities, and, where no task is named, which task is the most plausible.

The rule: of each task t with classes 1 .. K the certainty is

    c_t(x) = 1 - H(p_t(x)) / log K        H the entropy of the task's probabilities; of a multi-label task the mean of
                                          1 - H(p) / log 2 over its labels

so that tasks of few and of many classes can be compared: 0 says nothing, 1 is sure. The answer is the task with the
largest certainty; `sure` is by how much it leads. No network was trained to tell tasks apart: docs/storage.md has how
often the rule is right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from everlearn.errors import StoreError
from everlearn.storing.pictures import Pictures, pixel_batches, statistics_of
from everlearn.storing.records import TaskRecord
from everlearn.storing.teaching import likelihood
from everlearn.tasks.standardising import standardise_images
from everlearn.training.precision import exact


@dataclass(frozen=True)
class Prediction:
    """What a learner says of one image.

    Attributes:
        task: that answers.
        label: the most probable class.
        probability: of that class.
        probabilities: of every class of the task.
        tasks: the certainty of every task, where none was named; empty otherwise.
        sure: by how much the answering task's certainty leads; None where a task was named, or there is only one.
    """

    task: str
    label: str
    probability: float
    probabilities: dict[str, float]
    tasks: dict[str, float]
    sure: float | None = None


def answer(
    asked: Sequence[TaskRecord], network: Callable[[str], nn.Module], images: Pictures, named: bool
) -> list[Prediction]:
    """Labels with probabilities, some hundred images at a time.

    Args:
        asked: the task that was named, or all.
        network: gives the plain network of a task.
        images: as `everlearn.Learner.predict` takes them.
        named: whether the task was.

    Raises:
        DataError: an image that cannot be read.
        StoreError: a network does not take the images that its record speaks of.
    """
    answers: list[Prediction] = []
    for pixels in pixel_batches(images, asked[0].preprocessing):
        try:
            found = [probabilities(network(task.name), task, pixels) for task in asked]
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreError(f"the learner's numbers do not fit its network ({reason}).") from None
        answers += predictions(asked[0], found[0]) if named else plausible(asked, found)
    return answers


@torch.inference_mode()
def probabilities(network: nn.Module, task: TaskRecord, pixels: Tensor) -> Tensor:
    """Of each image the probability of each class, `[n, classes]`; `pixels` as `pixel_batches` gives them."""
    shown = standardise_images(pixels, statistics_of(task.preprocessing))
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with exact(device):
        return likelihood(network(shown.to(device)), task.multi_label).cpu()


def predictions(task: TaskRecord, found: Tensor) -> list[Prediction]:
    """The answers of a task that was named."""
    return [_prediction(task, row, {}, None) for row in found.tolist()]


def plausible(tasks: Sequence[TaskRecord], found: Sequence[Tensor]) -> list[Prediction]:
    """The answers of the most plausible task, image by image."""
    certain = torch.stack([certainty(p, task.multi_label) for task, p in zip(tasks, found, strict=True)], 1)
    answers: list[Prediction] = []
    rows = [p.tolist() for p in found]
    for image, scores in enumerate(certain.tolist()):
        best = max(range(len(tasks)), key=scores.__getitem__)
        named = {task.name: score for task, score in zip(tasks, scores, strict=True)}
        rest = [score for place, score in enumerate(scores) if place != best]
        sure = scores[best] - max(rest) if rest else None
        answers.append(_prediction(tasks[best], rows[best][image], named, sure))
    return answers


def certainty(found: Tensor, multi_label: bool) -> Tensor:
    """c_t of each image, `[n]`, from probabilities `[n, classes]`."""
    if multi_label:
        both = torch.stack([found, 1 - found])
        return 1 - torch.special.entr(both).sum(0).mean(1) / log(2)
    return 1 - torch.special.entr(found).sum(1) / log(found.shape[1])


def _prediction(task: TaskRecord, row: list[float], named: dict[str, float], sure: float | None) -> Prediction:
    best = max(range(len(row)), key=row.__getitem__)
    each = dict(zip(task.classes, row, strict=True))
    return Prediction(task.name, task.classes[best], row[best], each, named, sure)
