"""`everlearn check`: everything that is wrong with a store, each with the file that it is wrong with."""

from dataclasses import dataclass
from pathlib import Path

import torch

from everlearn.errors import EverlearnError, StoreError
from everlearn.plugins import is_plugin
from everlearn.storing.building import Code, load_mind
from everlearn.storing.material import watched
from everlearn.storing.reading import read_record
from everlearn.storing.records import SCHEMA, Current, LearnerRecord
from everlearn.storing.store import CURRENT, GENERATIONS, LEARNER, LOCK, MANIFEST, Generation, Store, lesson_files


@dataclass(frozen=True)
class Checked:
    """What a check came to.

    Attributes:
        generations: that were looked at.
        damage: a sentence for each thing that is wrong.
        notes: what is odd and harms nothing.
    """

    generations: tuple[int, ...]
    damage: tuple[str, ...]
    notes: tuple[str, ...]


def check(folder: str | Path, code: Code | None = None) -> Checked:
    """Look at every file of a store.

    Raises:
        StoreError: there is no learner, or the file that names its generations is damaged.
    """
    store, code = Store(Path(folder)), code or Code()
    current = store.current()
    damage: list[str] = []
    notes = _strangers(store, current)
    for number, digest in sorted(current.manifests.items()):
        damage += _damage(store, number, digest, code)
    return Checked(tuple(sorted(current.manifests)), tuple(damage), tuple(notes))


def _damage(store: Store, number: int, digest: str, code: Code) -> list[str]:
    try:
        manifest = store.manifest(number, digest)
    except StoreError as error:
        return [str(error)]
    damage: list[str] = []
    files: dict[str, bytes] = {}
    for name, written in manifest.files.items():
        try:
            files[name] = store.read_file(number, name, written)
        except StoreError as error:
            damage.append(str(error))
    folder = store.path(number)
    strange = sorted({entry.name for entry in folder.iterdir()} - {*manifest.files, MANIFEST})
    damage += [f"{folder / name} is none of the generation's files." for name in strange]
    if damage:
        return damage
    try:
        record = read_record(files.pop(LEARNER), folder / LEARNER, LearnerRecord, SCHEMA)
        _answers(Generation(number, folder, record, files, digest), code)
    except EverlearnError as error:
        damage.append(str(error))
    return damage


def _answers(generation: Generation, code: Code) -> None:
    """Build the network and ask it once for each task.

    Raises:
        StoreError: it cannot be built or does not answer.
    """
    record = generation.record
    watched(generation, {})
    plugins = [kind for kind in ("method", "backbone") if is_plugin(getattr(record, kind))]
    if any(getattr(code, kind) is None for kind in plugins):
        return  # its files are whole; what they mean only the user's own file can tell
    network = load_mind(generation, code).network
    for place, task in enumerate(record.tasks):
        pre = task.preprocessing
        try:
            assert network is not None
            with torch.inference_mode():
                found = network(torch.zeros(1, pre.channels, pre.height, pre.width), place)
            wanted = task.structure.classes if task.forgotten else len(task.classes)
            fits = tuple(found.shape) == (1, wanted)
        except (RuntimeError, AssertionError, KeyError, IndexError):
            fits = False
        if not fits:
            raise StoreError(f"{generation.folder} is damaged: its numbers do not fit the network of task {place + 1}.")


def _strangers(store: Store, current: Current) -> list[str]:
    """Entries of the folders that are none of the learner's."""
    inside = store.folder / GENERATIONS
    known = {store.path(number).name for number in current.manifests}
    found = [entry for entry in inside.iterdir() if entry.name not in known] if inside.is_dir() else []
    lessons = lesson_files(store.folder)
    ours = {CURRENT, GENERATIONS, LOCK, *(path.name for path in lessons)}
    found += [entry for entry in store.folder.iterdir() if entry.name not in ours]
    return [
        f"{entry} is of no generation that counts: a save that was cut off left it, or somebody put it there."
        for entry in sorted(found)
    ] + [
        f"{path} is where a lesson stood; if none is going on, the same `everlearn learn` goes on from it."
        for path in lessons
    ]
