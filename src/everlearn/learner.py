"""A learner that lives on disk: teach it a new task next week, ask it today.

    learner = everlearn.Learner.create("vision", method="lwf", backbone="cifar", size=(32, 32))
    learner.learn("birds", "./birds")                                       # a folder of class folders, or a Task
    everlearn.open("vision").predict("unknown.jpg", task="birds")           # another process, another day

Every change makes a new generation, at once or not at all; see docs/storage.md.
"""

import signal
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from everlearn.experiments.execute import Progress, check_device
from everlearn.experiments.together import signals_heard
from everlearn.stopping import followed
from everlearn.storing.building import load_mind, pack_numbers
from everlearn.storing.creating import Wish, create
from everlearn.storing.forgetting import without
from everlearn.storing.going_back import go_back
from everlearn.storing.material import kept_name
from everlearn.storing.reader import Reader
from everlearn.storing.records import Effect, Event, Value, now, versions
from everlearn.storing.requests import Request, next_generation, prepare
from everlearn.storing.store import NUMBERS
from everlearn.storing.teaching import teach
from everlearn.storing.unfinished import Bookmark
from everlearn.tasks.task import Split, Task


@dataclass(frozen=True)
class Learned:
    """What came of learning a task.

    Attributes:
        task: that was learned.
        generation: that knows it.
        accuracy: of the task, by split.
        others: what happened to the tasks before.
        seconds: of training.
        warnings: what a person should know.
        resumed: epochs that were over already, when the lesson went on from where it had been cut off.
    """

    task: str
    generation: int
    accuracy: Mapping[str, float]
    others: Sequence[Effect]
    seconds: float
    warnings: Sequence[str]
    resumed: int = 0


class Learner(Reader):
    """A learner on disk, as it was when it was opened; `refresh` brings in what others did since.

    Arguments and errors as of `everlearn.open`.
    """

    _bookmark: Bookmark | None = None

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        method: str = "lwf",
        backbone: str = "cifar",
        options: Mapping[str, Value] | None = None,
        training: Mapping[str, Value] | None = None,
        size: tuple[int, int] | None = None,
        grey: bool = False,
        standardise: str = "train",
        seed: int = 0,
        keep: int = 5,
        device: str = "cpu",
    ) -> "Learner":
        """Make a learner that knows nothing yet.

        Args:
            folder: where it will lie; there is none yet, or it is empty.
            method: a name of `everlearn methods`, with a configuration if wanted, or `file.py:Name`.
            backbone: a name of the table of backbones, or `file.py:Name`.
            options: hyper-parameters of the method and its rule.
            training: settings of `everlearn.Training` that differ from those of the stream `folders`.
            size: height and width of all images; None: those of the first task.
            grey: one channel instead of three; needs a size.
            standardise: `train`: each task by its training images; `imagenet`: all by ImageNet's; `none`.
            seed: of every start, order and dropout.
            keep: generations that are kept.
            device: where it learns and predicts.

        Raises:
            ConfigurationError: something that does not exist or fit together, or a method that needs old images again.
            StoreError: the folder is in use, or cannot be written.
        """
        check_device(device)
        place = Path(folder).expanduser()
        wish = Wish(method, backbone, options or {}, training or {}, size, grey, standardise, seed, keep)
        code = create(place, wish)
        return cls(place, code.method, code.backbone, device)

    # ---------------------------------------------------------------- changing

    def learn(
        self,
        name: str,
        images: str | Path | Task,
        *,
        test: str | Path | None = None,
        validate: Mapping[str, str | Path | Split] | None = None,
        keep_validation: int = 0,
        accept_drop: float | None = None,
        training: Mapping[str, Value] | None = None,
        options: Mapping[str, Value] | None = None,
        size: tuple[int, int] | None = None,
        standardise: str | None = None,
        in_memory: bool = True,
    ) -> Learned:
        """Learn a task, beside those that are known; what is known changes at the end, at once or not at all.

        A lesson that was cut off is gone on with by the same call, and ends with the same numbers (on a CPU). Ctrl-C
        is heard at the next of many moments at which the lesson can be left, a second one at once.

        Args:
            name: of the task.
            images: a folder of class folders, which is divided as the stream `folders` divides it, or a task.
            test: a folder of test images; then those that were set aside for that train.
            validate: labelled images of old tasks to see what happens to them, by name: folders or splits.
            keep_validation: so many of the task's validation images are kept in the store, so that later lessons see
                what happens to it. Images are never kept otherwise.
            accept_drop: an old task with such images whose accuracy falls by more makes the lesson fail.
            training: settings of this lesson.
            options: hyper-parameters of this lesson; not those that shape the network.
            size: height and width of all images, before the first task; None: its images agree.
            standardise: as for `create`, for this task.
            in_memory: whether all images are decoded at once.

        Raises:
            EverlearnError: anything that a user can mend; the old generation counts and answers as before.
        """
        asked = Request(
            name, images, test, validate or {}, keep_validation, accept_drop, training or {}, options or {}, size,
            standardise, in_memory,
        )  # fmt: skip
        return followed(self.learning(asked), lambda step: None, signals_heard((signal.SIGINT,)))

    def learning(self, asked: Request) -> Generator[Progress, None, Learned]:
        """As `learn`, telling how far it is after each epoch and oftener; may be abandoned after any.

        Closing the generator keeps where the lesson stands; the same lesson then goes on from there.

        Raises:
            EverlearnError: as `learn`.
        """
        with self._store.writing():
            generation = self._store.read()
            mind = load_mind(generation, self._code)
            mind, lesson = prepare(mind, self._store, generation, self._code, asked)
            self._bookmark = lesson.bookmark
            taught = yield from teach(mind, lesson, self._device)
            number = self._store.write(*next_generation(mind, generation, asked, lesson, taught))
            self._see(self._store.read(number))
        return Learned(
            asked.name, number, taught.accuracy, taught.others, taught.seconds, taught.warnings, taught.resumed
        )

    @property
    def unfinished(self) -> bool:
        """Whether the last lesson that was begun through this object was cut off and can be gone on with."""
        return self._bookmark is not None and self._bookmark.found() is not None

    def forget(self, task: str) -> int:
        """Forget a task; all others answer as before. Return the new generation.

        Generations that are kept still know it, until later ones take their place.

        Raises:
            ConfigurationError: the learner knows no such task, or all tasks share one head.
            StoreError: the folder could not be written.
        """
        with self._store.writing():
            self.refresh()
            place, generation = self._place(task), self._generation
            mind = load_mind(generation, self._code)
            record = without(mind, place)
            event = Event(generation=generation.number + 1, what="forgot", when=now(), task=task, versions=versions())
            files = {name: c for name, c in generation.files.items() if name != kept_name(place)}
            files[NUMBERS] = pack_numbers(mind.network, mind.memory)
            number = self._store.write(record.model_copy(update={"history": [*record.history, event]}), files)
            self._see(self._store.read(number))
        return self.generation

    def rollback(self, to: int) -> int:
        """Make a new generation that is as an older one was, but for the history; return its number.

        Of the others nothing needs to be whole.

        Raises:
            StoreError: that generation is not kept or is damaged, or the folder could not be written.
        """
        self._see(go_back(self._store, self._code, to))
        return self.generation


def open(folder: str | Path, method: str | None = None, backbone: str | None = None, device: str = "cpu") -> Learner:
    """Open a learner.

    Args:
        folder: where it lies.
        method: `file.py:Name`, if its method comes from a file of the user's own.
        backbone: `file.py:Name`, if its backbone does.
        device: where it learns and predicts.

    Raises:
        StoreError: there is none, it is damaged, or it needs a file of the user's own that was not named.
        ConfigurationError: a device that this machine does not have.
    """
    return Learner(folder, method, backbone, device)
