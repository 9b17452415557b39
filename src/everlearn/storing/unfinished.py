"""A lesson that was cut off goes on where it stopped: its state lies beside the generations until the next one counts.

    STORE/lesson-LESSON-CONTENT.safetensors

LESSON is a hash of all that decides the lesson's numbers, the generation that it begins from included, so that only the
same lesson goes on from the file. CONTENT is a hash of the file, which is whole or not used.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from everlearn.errors import StoreError
from everlearn.experiments.checkpoint import pack_state
from everlearn.experiments.files import write_whole
from everlearn.storing.reading import MAX_NUMBERS, read_bytes, sha256
from everlearn.storing.records import Preprocessing, Value, versions
from everlearn.storing.store import LESSON, lesson_files
from everlearn.tasks import fingerprint
from everlearn.tasks.task import Task, TaskStream
from everlearn.training.fit import State
from everlearn.training.settings import Training

_LETTERS = 16


def lesson_mark(manifest: str, task: Task, pre: Preprocessing, training: Training, options: Mapping[str, Value]) -> str:
    """A hash of all that decides a lesson's numbers.

    Args:
        manifest: hash of the generation that it begins from.
        task: its images not yet standardised.
        pre: how they will be.
        training: settings of the lesson.
        options: hyper-parameters that were given, to the learner or to the lesson.
    """
    told = {
        "manifest": manifest,
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

    def found(self) -> Path | None:
        """The file to go on from; None where there is none, or none that is whole."""
        for path in lesson_files(self.folder):
            with suppress(StoreError):
                if path.name == self._name(read_bytes(path, MAX_NUMBERS)):
                    return path
        return None

    def save(self, state: State) -> None:
        """Write a state in place of the one before.

        Raises:
            StoreError: the disk is full or cannot be written; the one before is kept.
        """
        content = pack_state(state, {})
        fresh = self.folder / self._name(content)
        write_whole(fresh, content)
        for path in lesson_files(self.folder):
            if path != fresh:
                path.unlink(missing_ok=True)

    def _name(self, content: bytes) -> str:
        return f"{LESSON}{self.lesson}-{sha256(content)[:_LETTERS]}.safetensors"
