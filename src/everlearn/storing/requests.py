"""From what a person asks a learner to learn to the lesson, and from what came of it to the next generation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.plan import settings
from everlearn.methods.base import Method
from everlearn.methods.catalogue import option_names
from everlearn.storing.building import Code, Mind, check_method, lesson_method, new_mind, pack_numbers
from everlearn.storing.material import kept_name, lesson_task, pack_kept, preprocessing, watched
from everlearn.storing.records import NAMED, Event, LearnerRecord, TaskRecord, Value, is_name, now, versions
from everlearn.storing.store import NUMBERS, Generation, Store
from everlearn.storing.teaching import Lesson, Taught, some_of
from everlearn.storing.unfinished import Bookmark, lesson_mark
from everlearn.tasks.task import Split, Task
from everlearn.training.augmentation import check_augmentation
from everlearn.training.settings import warn_of_unread


@dataclass(frozen=True)
class Request:
    """A task that is to be learned; what is None or empty is as the learner has it.

    Attributes:
        name: of the task.
        images: a folder of class folders, or a task.
        test: a folder of test images.
        validate: images of old tasks to watch, by name.
        keep_validation: how many of the task's validation images the store keeps.
        accept_drop: by how much an old task's accuracy may fall.
        training: settings of this lesson.
        options: hyper-parameters of this lesson.
        size: height and width of all images; only before the first task.
        standardise: how.
        in_memory: whether all images are decoded at once.
    """

    name: str
    images: str | Path | Task
    test: str | Path | None = None
    validate: Mapping[str, str | Path | Split] = field(default_factory=dict[str, str | Path | Split])
    keep_validation: int = 0
    accept_drop: float | None = None
    training: Mapping[str, Value] = field(default_factory=dict[str, Value])
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    size: tuple[int, int] | None = None
    standardise: str | None = None
    in_memory: bool = True


def prepare(mind: Mind, store: Store, generation: Generation, code: Code, asked: Request) -> tuple[Mind, Lesson]:
    """The learner that the lesson changes, and the lesson.

    Args:
        mind: the learner, as the generation has it.
        store: where it lies.
        generation: the one that counts.
        code: the user's own files.
        asked: what is to be learned.

    Raises:
        ConfigurationError: what is asked for does not exist or does not fit the learner.
        DataError: images that cannot be learned from.
    """
    record = mind.record
    _check_request(record, asked)
    training = settings(record.training, asked.training)
    warn_of_unread(asked.training, [training])
    if training.protocol != "lifelong":
        raise ConfigurationError("a learner on disk learns task after task, under the protocol lifelong alone.")
    check_augmentation(training.augment)
    task = lesson_task(record, asked.name, asked.images, asked.test, asked.size, asked.in_memory)
    check_names(task.name, task.classes)
    if mind.network is None:
        mind = new_mind(record.model_copy(update={"image_shape": task.image_shape}), code)
        assert mind.backbone is not None
        mind.record = mind.record.model_copy(update={"numbers": mind.backbone.fingerprint()})
    check_options(mind.method, asked.options)
    method = lesson_method(mind, code, asked.options, training.epochs)
    pre = preprocessing(task, asked.standardise or record.standardise)
    manifest = store.current().manifests[generation.number]
    mark = lesson_mark(manifest, mind.record.numbers, task, pre, training, {**record.options, **asked.options})
    bookmark = Bookmark(store.folder, mark)
    return mind, Lesson(task, pre, method, training, watched(generation, asked.validate), asked.accept_drop, bookmark)


def check_names(task: object, classes: Iterable[object]) -> None:
    """Raise `ConfigurationError` unless a task and its classes may be called so; after the training it is too late."""
    if task == "" or not is_name(task):
        raise ConfigurationError(
            f"a task is wanted with a name, of {NAMED}, but the name came as {task!r:.80}; give it another one."
        )
    for name in classes:
        if not is_name(name):
            raise ConfigurationError(
                f"classes are wanted with names of {NAMED}, but task {task!r} has {name!r:.80}; rename it, or its "
                "folder."
            )


def _check_request(record: LearnerRecord, asked: Request) -> None:
    check_names(asked.name, ())
    known = [task.name for task in record.tasks if not task.forgotten]
    if asked.name in known:
        raise ConfigurationError(
            f"the learner knows a task {asked.name!r} already; give the new one another name, or forget that one."
        )
    for name in asked.validate:
        if name not in known:
            raise UnknownNameError("task to validate", name, known)
    if asked.accept_drop is not None and not 0 <= asked.accept_drop <= 1:
        raise ConfigurationError(f"accept_drop needs a number from 0 to 1, but came as {asked.accept_drop}.")
    check_count(asked.keep_validation)


def check_count(count: object) -> None:
    """Raise `ConfigurationError` for what is no number of images to keep."""
    if not isinstance(count, int) or count < 0:
        raise ConfigurationError(f"keep_validation needs a whole number of at least 0, but came as {count!r}.")


def check_options(method: Method, options: Mapping[str, Value]) -> None:
    """Raise `UnknownNameError` if the method has no such option."""
    for option in options:
        if option not in (known := option_names(method)):
            raise UnknownNameError("option of this method", option, known)


def check_new(mind: Mind) -> None:
    """Raise `ConfigurationError` if a learner's method cannot live on disk."""
    record = mind.record
    check_options(mind.method, record.options)
    if record.training.protocol != "lifelong":
        raise ConfigurationError("a learner on disk learns task after task, under the protocol lifelong alone.")
    check_augmentation(record.training.augment)
    check_method(mind.method, record.method, 0, 100, record.training.epochs)


def next_generation(
    mind: Mind, generation: Generation, asked: Request, lesson: Lesson, taught: Taught
) -> tuple[LearnerRecord, dict[str, bytes]]:
    """The record and the files of the generation that knows the task."""
    number, place = generation.number + 1, len(mind.record.tasks)
    structures = taught.network.structures
    tasks = [t.model_copy(update={"structure": s}) for t, s in zip(mind.record.tasks, structures[:place], strict=True)]
    kept = dict(generation.files)
    validation = lesson.task.validation
    assert validation is not None
    if asked.keep_validation:
        some = some_of(validation, asked.keep_validation, mind.record.seed)
        kept[kept_name(place)] = pack_kept(some)
    task = TaskRecord(
        name=lesson.task.name, classes=list(lesson.task.classes), structure=structures[place], preprocessing=lesson.pre,
        multi_label=lesson.task.multi_label, generation=number, accuracy=taught.accuracy,
        images={name: len(split) for name, split in lesson.task.splits().items()},
        kept=min(asked.keep_validation, len(validation)),
    )  # fmt: skip
    event = Event(
        generation=number, what="learned", when=now(), task=task.name, training=dict(asked.training),
        options=dict(asked.options), epochs=taught.worked, seconds=taught.seconds, accuracy=taught.accuracy,
        others=taught.others, warnings=taught.warnings, versions=versions(),
    )  # fmt: skip
    history = [*mind.record.history, event]
    update = {"tasks": [*tasks, task], "epochs": taught.epochs, "history": history}
    kept[NUMBERS] = pack_numbers(taught.network, taught.memory)
    return mind.record.model_copy(update=update), kept
