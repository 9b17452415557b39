"""One more task for a learner whose old tasks' images are gone: the loop of `training/fit.py`, entered at that task.

The old tasks are in the network and in the method's memory, and have no data. Epochs count on from where the learner
stands, so that a learner taught task by task ends with the numbers of one run over all of them.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor

from everlearn.errors import StoreError
from everlearn.experiments.execute import CHECKPOINT_SECONDS, Progress
from everlearn.experiments.together import is_first
from everlearn.methods.base import Memory, Method
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.seeds import derive, generator
from everlearn.storing.building import Mind, fresh_network
from everlearn.storing.pictures import standardised, statistics_of
from everlearn.storing.records import Effect, LearnerRecord, Preprocessing, TaskRecord
from everlearn.storing.unfinished import Bookmark
from everlearn.tasks.standardising import standardise_images
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.training.data import StreamData, lies_last, on_device
from everlearn.training.evaluation import Score, evaluate
from everlearn.training.fit import Plan, State, Tick, learn
from everlearn.training.parallel import check_network, world
from everlearn.training.precision import exact
from everlearn.training.settings import Training

PROBES = 100
"""Images of the new task on which it is seen whether old tasks' answers move."""


@dataclass(frozen=True)
class Lesson:
    """What is to be learned, and how.

    Attributes:
        task: its pixels not yet standardised.
        pre: how they will be.
        method: with the options of this lesson.
        training: settings of this lesson.
        validation: images of old tasks by position, not standardised.
        accept_drop: by how much such a task's accuracy may fall; None: by any amount.
        bookmark: where its state is kept while it lasts; None: nowhere.
    """

    task: Task
    pre: Preprocessing
    method: Method
    training: Training
    validation: Mapping[int, Split]
    accept_drop: float | None = None
    bookmark: Bookmark | None = None


@dataclass(frozen=True)
class Taught:
    """What came of a lesson.

    Attributes:
        network: of all tasks.
        memory: the method's.
        epochs: of all tasks.
        worked: epochs of this lesson, those of all attempts.
        resumed: how many of them were over when it went on from where it had been cut off.
        seconds: of training.
        accuracy: of the new task, by split.
        others: what happened to the old tasks.
        warnings: what the method had doubts about, and what could not be watched.
    """

    network: LifelongNetwork
    memory: Memory
    epochs: int
    worked: int
    resumed: int
    seconds: float
    accuracy: dict[str, float]
    others: list[Effect]
    warnings: list[str]


def teach(mind: Mind, lesson: Lesson, device: str) -> Generator[Progress, None, Taught]:
    """Learn one task; the network and the memory of `mind` are changed, which is to be thrown away on an error.

    A lesson with a bookmark goes on from it, and keeps its state there once a minute and where it is abandoned.

    Raises:
        StoreError: an old task would fall by more than is accepted, or the training came to no finite numbers.
        ConfigurationError: several processes are to train a backbone with batch normalisation, or steps are to be
            recorded of a device that cannot.
    """
    assert mind.network is not None
    network, record = mind.network.to(device), mind.record
    if world() > 1:
        check_network(network)
    before = _Watch(network, record, lesson)
    plan, state = _begun(mind, lesson, network)
    network, resumed = state.network, state.worked
    yield from _trained(plan, state, lesson.bookmark)
    network.eval().requires_grad_(False)
    if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values() if t.is_floating_point()):
        raise StoreError(
            f"training {lesson.task.name!r} came to numbers that are not finite; give a lower rate (--rate). Nothing "
            "was changed."
        )
    others, doubts = before.compared(network)
    accuracy = {
        name: score(network, len(record.tasks), split, lesson.pre).accuracy
        for name, split in lesson.task.splits().items()
        if name != "train"
    }
    return Taught(
        network, state.memory, state.epochs, state.worked, resumed, round(state.training_seconds, 3), accuracy, others,
        state.warnings + doubts,
    )  # fmt: skip


def _begun(mind: Mind, lesson: Lesson, network: LifelongNetwork) -> tuple[Plan, State]:
    """The plan, and the state at the lesson's begin or where it was cut off."""
    record, task, known = mind.record, lesson.task, len(mind.record.tasks)
    old = tuple(Task(f"old {place}", ("0", "1")) for place in range(known))
    shown = {name: standardised(split, lesson.pre) for name, split in task.splits().items()}
    new = Task("new", task.classes, shown["train"], shown["validation"], shown["test"])
    stream = TaskStream("lesson", record.seed, (*old, new))
    data = StreamData(stream, network.device, lies_last(lesson.training, network.device))
    classes = [*network.classes, len(task.classes)]
    plan = Plan(lesson.method, data, classes, lesson.training, derive(record.seed, "trial"), known, done=record.epochs)
    warnings: list[str] = []
    if lesson.bookmark is not None and (content := lesson.bookmark.found()):
        assert mind.backbone is not None
        state = State(fresh_network(lesson.method, mind.backbone, record.seed).to(network.device))
        if lesson.bookmark.resume(content, plan, state, known):
            return plan, state
        warnings.append("what was kept of this lesson could not be gone on with; it began anew.")
    memory = {name: tensor.to(network.device) for name, tensor in mind.memory.items()}
    return plan, State(network, memory, phase=known, epochs=record.epochs, warnings=warnings)


def _trained(plan: Plan, state: State, bookmark: Bookmark | None) -> Iterator[Progress]:
    """Train to the end; what is in the way of keeping the state meanwhile is a warning, and no more."""
    total, saved, told = plan.work(state.network), monotonic(), False
    if not is_first():
        bookmark = None  # of processes that train together one keeps what all go on from
    for event in learn(plan, state):
        if not isinstance(event, Tick):
            continue
        if bookmark is not None and monotonic() - saved >= CHECKPOINT_SECONDS:
            try:
                bookmark.save(state)
            except StoreError as error:
                if not told:
                    state.warnings.append(f"where the lesson stood could not be kept meanwhile: {error}")
                told = True
            saved = monotonic()
        try:
            yield Progress(event.epochs, total)
        except GeneratorExit:
            if bookmark is not None:
                with suppress(StoreError):
                    bookmark.save(state)
            raise


class _Watch:
    """What old tasks answered before a lesson, to be compared with what they answer after it."""

    def __init__(self, network: LifelongNetwork, record: LearnerRecord, lesson: Lesson) -> None:
        self._lesson = lesson
        self._tasks = {place: task for place, task in enumerate(record.tasks) if not task.forgotten}
        validation = lesson.task.validation
        assert validation is not None
        index = torch.arange(min(PROBES, len(validation)))
        self._probes = taken(validation, index).images
        self._scores = self._measured(network)
        self._answers = self._asked(network)

    def _measured(self, network: LifelongNetwork) -> dict[int, Score]:
        watched = self._lesson.validation
        return {t: score(network, t, split, self._tasks[t].preprocessing) for t, split in watched.items()}

    def _asked(self, network: LifelongNetwork) -> dict[int, Tensor]:
        images = self._probes
        assert isinstance(images, Tensor)
        return {place: _probabilities(network, place, task, images) for place, task in self._tasks.items()}

    def compared(self, network: LifelongNetwork) -> tuple[list[Effect], list[str]]:
        """What happened to each old task, and doubts.

        Raises:
            StoreError: one fell by more than is accepted.
        """
        after, answers = self._measured(network), self._asked(network)
        effects: list[Effect] = []
        unwatched: list[str] = []
        for place, task in self._tasks.items():
            was, now = self._scores.get(place), after.get(place)
            moved = float((answers[place] - self._answers[place]).abs().max())
            images = len(self._lesson.validation[place]) if place in self._lesson.validation else 0
            effects.append(
                Effect(
                    task=task.name,
                    before=was and was.accuracy,
                    after=now and now.accuracy,
                    images=images,
                    moved=moved,
                )
            )
            if was is None and moved > 0:
                unwatched.append(task.name)
        self._refuse(effects)
        if unwatched and self._lesson.accept_drop is not None:
            names = ", ".join(unwatched)
            return effects, [f"the answers of {names} moved, and there are no validation images to see how they fared."]
        return effects, []

    def _refuse(self, effects: list[Effect]) -> None:
        accept = self._lesson.accept_drop
        for effect in effects:
            if accept is None or effect.before is None or effect.after is None:
                continue
            if effect.before - effect.after > accept + 1e-12:
                raise StoreError(
                    f"{self._lesson.task.name!r} was not learned: the accuracy of {effect.task!r} would fall from "
                    f"{effect.before:.4f} to {effect.after:.4f}, by more than the {accept:g} that is accepted. Nothing "
                    "was changed; try another method, or fewer epochs."
                )


def score(network: LifelongNetwork, task: int, split: Split, pre: Preprocessing) -> Score:
    """How well a task is known.

    Raises:
        DataError: images of another shape, or a label that names no class.
    """
    classes = network.classes[task]
    seen = standardised(split, pre)
    # Through a task, which checks labels and pixels.
    Task("split", tuple(map(str, range(classes))), test=seen)
    found = evaluate(network, task, on_device(seen, network.device, False))
    network.eval()
    return found


@torch.no_grad()
def _probabilities(network: LifelongNetwork, place: int, task: TaskRecord, images: Tensor) -> Tensor:
    network.eval()
    shown = standardise_images(images, statistics_of(task.preprocessing)).to(network.device)
    with exact(network.device):
        return likelihood(network(shown, place), task.multi_label)


def likelihood(logits: Tensor, multi_label: bool) -> Tensor:
    """Probabilities of logits: softmax, or of a multi-label task each label's own."""
    return logits.sigmoid() if multi_label else logits.softmax(1)


def taken(split: Split, index: Tensor) -> Split:
    """Some of a split, in memory."""
    images = split.images.take(index) if isinstance(split.images, StoredImages) else split.images[index]
    return Split(images, split.labels[index])


def some_of(split: Split, count: int, seed: int) -> Split:
    """So many of a split at random; all, if it has fewer."""
    order = torch.randperm(len(split), generator=generator(seed, "kept validation"))
    return taken(split, order[:count].sort().values)
