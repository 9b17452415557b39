"""A lesson that was cut off goes on where it stopped: its state lies beside the generations until the next one counts.

    STORE/lesson-LESSON-CONTENT.safetensors

LESSON is a hash of all that decides the lesson's numbers, the generation that it begins from included, so that only the
same lesson goes on from the file. CONTENT is a hash of the file, which is whole or not used.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

from everlearn.errors import EverlearnError, StoreError
from everlearn.experiments.checkpoint import Position, pack_state, restore
from everlearn.experiments.files import write_whole
from everlearn.storing.reading import MAX_NUMBERS, parse_tensors, read_bytes, sha256
from everlearn.storing.records import Preprocessing, Value, versions
from everlearn.storing.store import LESSON, half_written, lesson_files, remove
from everlearn.tasks import fingerprint
from everlearn.tasks.task import Task, TaskStream
from everlearn.training.fit import Plan, State
from everlearn.training.settings import Training

_LETTERS = 16


def lesson_mark(
    manifest: str, numbers: str, task: Task, pre: Preprocessing, training: Training, options: Mapping[str, Value]
) -> str:
    """A hash of all that decides a lesson's numbers.

    Args:
        manifest: hash of the generation that it begins from.
        numbers: hash of those that the backbone comes with.
        task: its images not yet standardised.
        pre: how they will be.
        training: settings of the lesson.
        options: hyper-parameters that were given, to the learner or to the lesson.
    """
    told = {
        "manifest": manifest,
        "numbers": numbers,
        "images": fingerprint(TaskStream("lesson", 0, (task,))),
        "preprocessing": pre.model_dump(mode="json"),
        "training": asdict(training),
        "options": {name: str(value) for name, value in options.items()},
        "versions": versions(),
    }
    return sha256(json.dumps(told, sort_keys=True).encode())[:_LETTERS]


@dataclass(frozen=True)
class Bookmark:
    """Where the state of one lesson is kept while it lasts.

    Attributes:
        folder: of the store.
        lesson: the lesson's mark.
    """

    folder: Path
    lesson: str

    def found(self) -> bytes | None:
        """The content of the file to go on from; None where there is none, or none that is whole."""
        for path in self._own():
            with suppress(StoreError):
                content = read_bytes(path, MAX_NUMBERS)
                if path.name == self._name(content):
                    return content
        return None

    def resume(self, content: bytes, plan: Plan, state: State, known: int) -> bool:
        """Bring a fresh state, of a network without tasks, to where the lesson stood.

        Args:
            content: of the file.
            plan: of the lesson.
            state: to be thrown away if that cannot be done.
            known: how many tasks were known before the lesson.

        Returns:
            Whether it could be done: a hash finds accidents, and neither bad will nor another everlearn's file.
        """
        with suppress(EverlearnError, RuntimeError, ValueError, LookupError, TypeError, AssertionError):
            tensors = parse_tensors(content, self.folder / LESSON)
            position = Position.model_validate_json(_header(content))
            held = sum(tensor.numel() for tensor in tensors.values())
            if (
                [task.classes for task in position.tasks] == list(plan.classes)
                and position.phase in (known, known + 1)
                and sum(prod(shape) for task in position.tasks for shape in task.extra.values()) <= held
            ):
                restore(tensors, position, plan, state)
                return True
        return False

    def save(self, state: State) -> None:
        """Write a state in place of the one before.

        Raises:
            StoreError: the disk is full or cannot be written; the one before is kept.
        """
        remove(half_written(self.folder))
        content = pack_state(state, {})
        fresh = self.folder / self._name(content)
        write_whole(fresh, content)
        remove(path for path in self._own() if path != fresh)

    def _own(self) -> list[Path]:
        return [path for path in lesson_files(self.folder) if path.name.startswith(f"{LESSON}{self.lesson}-")]

    def _name(self, content: bytes) -> str:
        return f"{LESSON}{self.lesson}-{sha256(content)[:_LETTERS]}.safetensors"


def _header(content: bytes) -> str:
    """What `pack_state` wrote besides the tensors."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]["everlearn"]
