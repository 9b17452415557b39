"""A learner's folder: immutable generations, and one small file that says which counts.

    STORE/current                    names the generation, and the hash of its manifest
    STORE/generations/000001/        manifest.json, learner.json, numbers.safetensors, validation-0.safetensors
    STORE/lesson-...safetensors      where a lesson stands that is not over; storing/unfinished.py
    STORE/lock                       held by the one process that writes

Writing: a new generation is written beside the others, brought to the disk, read back, given its name; then `current`
is replaced at once. Whatever happens before leaves the old generation, whatever happens after the new one. Readers
take no lock: they read what `current` names, and look again if that was pruned meanwhile.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from everlearn.errors import StoreError
from everlearn.experiments.files import locked, write_whole
from everlearn.storing.reading import MAX_INDEX, MAX_JSON, MAX_NUMBERS, read_bytes, read_record, sha256
from everlearn.storing.records import SCHEMA, Current, FileRecord, LearnerRecord, Manifest

CURRENT, GENERATIONS, LOCK = "current", "generations", "lock"
MANIFEST, LEARNER, NUMBERS = "manifest.json", "learner.json", "numbers.safetensors"
FRESH = ".new"
LESSON = "lesson-"
_LOOKS = 50
_HELD: dict[Path, int] = {}
"""The lock file that this process holds of a learner's folder: its number on the disk, which no other has meanwhile."""


@dataclass(frozen=True)
class Generation:
    """One generation, its files checked against their hashes.

    Attributes:
        number: which.
        folder: where it lies.
        record: `learner.json`.
        files: the content of its other files, by name.
        manifest: SHA-256 of its manifest; of another folder put in the place of this one it is another, whatever the
            number.
    """

    number: int
    folder: Path
    record: LearnerRecord
    files: Mapping[str, bytes]
    manifest: str


@dataclass(frozen=True)
class Store:
    """A learner's folder."""

    folder: Path

    # ---------------------------------------------------------------- reading

    def exists(self) -> bool:
        """Whether a learner lies there."""
        return os.path.lexists(self.folder / CURRENT)

    def unused(self) -> bool:
        """Whether the folder holds nothing but what a creation left that was cut off."""
        return {entry.name for entry in self.folder.iterdir()} <= {LOCK, GENERATIONS, f".{CURRENT}.new"}

    def current(self) -> Current:
        """Which generation counts.

        Raises:
            StoreError: there is no learner, or the file is damaged.
        """
        path = self.folder / CURRENT
        if not self.exists():
            what = "holds no learner" if self.folder.is_dir() else "does not exist"
            raise StoreError(
                f"{self.folder} {what}; create one with everlearn.Learner.create, or `everlearn learn {self.folder} "
                "--task NAME --images FOLDER`."
            )
        found = read_record(read_bytes(path, MAX_INDEX), path, Current, SCHEMA)
        if found.generation not in found.manifests or found != found.sealed():
            raise StoreError(f"{path} is damaged: it is not as it was written.")
        return found

    def read(self, number: int | None = None) -> Generation:
        """Read a generation; without a number the one that counts.

        Raises:
            StoreError: there is no such generation, or a file of it is missing or not as it was written.
        """
        for _ in range(_LOOKS):
            current = self.current()
            wanted = current.generation if number is None else number
            if wanted not in current.manifests:
                kept = ", ".join(map(str, sorted(current.manifests)))
                raise StoreError(f"{self.folder} has no generation {wanted}; it keeps {kept}.")
            try:
                return self._read(wanted, current.manifests[wanted])
            except StoreError as error:
                # A writer may have pruned it since: then `current` names another.
                if self.current() != current:
                    continue
                if number is not None or len(current.manifests) == 1:
                    raise
                raise StoreError(
                    f"{error} `everlearn check {self.folder}` says which generations are whole; `everlearn rollback "
                    f"{self.folder} --to N` goes back to one."
                ) from None
        raise StoreError(f"{self.folder} changes faster than it can be read; try again.")

    def path(self, number: int) -> Path:
        """The folder of a generation."""
        return self.folder / GENERATIONS / f"{number:06d}"

    def manifest(self, number: int, digest: str) -> Manifest:
        """The manifest of a generation.

        Raises:
            StoreError: it is missing, or not the one that `current` names.
        """
        folder = self.path(number)
        for link in (folder.parent, folder):
            if link.is_symlink():
                raise StoreError(f"{link} is damaged: it is a link, and links are not followed.")
        path = folder / MANIFEST
        content = read_bytes(path, MAX_INDEX)
        if sha256(content) != digest:
            raise StoreError(f"{path} is damaged: it is not the one that {self.folder / CURRENT} names.")
        found = read_record(content, path, Manifest, SCHEMA)
        for name in (LEARNER, NUMBERS):
            if found.generation != number or name not in found.files:
                raise StoreError(f"{path} is damaged: it describes another generation, or lacks {name}.")
        return found

    def read_file(self, number: int, name: str, written: FileRecord) -> bytes:
        """The content of a file, as the manifest has it.

        Raises:
            StoreError: it is missing, or not as it was written.
        """
        path = self.path(number) / name
        most = MAX_JSON if name.endswith(".json") else MAX_NUMBERS
        content = read_bytes(path, most, exactly=written.bytes)
        if sha256(content) != written.sha256:
            raise StoreError(f"{path} is damaged: its content is not what was written (SHA-256).")
        return content

    def record(self, number: int) -> LearnerRecord:
        """The record alone of a generation that is kept.

        Raises:
            StoreError: its manifest or `learner.json` is missing, or not as it was written.
        """
        written = self.manifest(number, self.current().manifests[number]).files[LEARNER]
        content = self.read_file(number, LEARNER, written)
        return read_record(content, self.path(number) / LEARNER, LearnerRecord, SCHEMA)

    def _read(self, number: int, digest: str) -> Generation:
        manifest = self.manifest(number, digest)
        files = {name: self.read_file(number, name, written) for name, written in manifest.files.items()}
        folder = self.path(number)
        record = read_record(files.pop(LEARNER), folder / LEARNER, LearnerRecord, SCHEMA)
        return Generation(number, folder, record, files, digest)

    # ---------------------------------------------------------------- writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer for as long as it lasts.

        Raises:
            StoreError: another process, or another thread, is.
        """
        with locked(self.folder) as mine:
            if not mine:
                raise StoreError(
                    f"another process is changing {self.folder}; wait for it, or stop it. Predicting goes on meanwhile."
                )
            _HELD[self.folder] = os.stat(self.folder / LOCK).st_ino
            try:
                yield
            finally:
                del _HELD[self.folder]

    def write(self, record: LearnerRecord, files: Mapping[str, bytes]) -> int:
        """Write a generation and switch to it; return its number. To be called by the one writer.

        Raises:
            StoreError: it could not be written; the old generation is in place and counts.
        """
        before = self.current() if self.exists() else None
        number = before.generation + 1 if before else 1
        try:
            self._check_place()
            manifest = self._write_files(number, record, files)
            kept = {**(before.manifests if before else {}), number: manifest}
            kept = {n: kept[n] for n in sorted(kept)[-record.keep :]}
            self._check_place()
            current = Current(schema_version=SCHEMA, generation=number, manifests=kept).sealed()
            write_whole(self.folder / CURRENT, current.model_dump_json(indent=1).encode() + b"\n")
            _to_disk(self.folder)
        except (StoreError, OSError) as error:
            raise self._failed(number, before, error) from error
        self._remove_lessons()
        self.prune(current)
        return number

    def _check_place(self) -> None:
        """Raise `StoreError` where this is no longer the folder that was locked."""
        try:
            here = os.stat(self.folder / LOCK).st_ino
        except FileNotFoundError:
            here = None
        if here != _HELD.get(self.folder):
            raise StoreError(f"{self.folder} was moved, or replaced by another folder, or its lock was removed")

    def _write_files(self, number: int, record: LearnerRecord, files: Mapping[str, bytes]) -> str:
        """Write the files of a generation; return the hash of its manifest."""
        final = self.path(number)
        fresh = final.with_name(f"{FRESH}-{final.name}")
        for left in (fresh, final):  # what a writer left that was killed before the switch
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir(parents=True)
        contents = {LEARNER: record.model_dump_json(indent=1).encode() + b"\n", **files}
        if len(contents[LEARNER]) > MAX_JSON:
            raise StoreError(f"the record of {self.folder} has grown beyond {MAX_JSON:,} bytes")
        written = {name: FileRecord(bytes=len(c), sha256=sha256(c)) for name, c in contents.items()}
        manifest = Manifest(schema_version=SCHEMA, generation=number, files=written)
        contents[MANIFEST] = manifest.model_dump_json(indent=1).encode() + b"\n"
        for name, content in contents.items():
            write_whole(fresh / name, content)
        _to_disk(fresh)
        for name, content in contents.items():  # a torn write is found now, while the old generation still counts
            if read_bytes(fresh / name, MAX_NUMBERS) != content:
                raise StoreError(f"{fresh / name} does not hold what was written to it")
        for name, kind in ((LEARNER, LearnerRecord), (MANIFEST, Manifest)):  # nor may what nobody could read count
            read_record(contents[name], fresh / name, kind, SCHEMA)
        fresh.rename(final)
        _to_disk(final.parent)
        return sha256(contents[MANIFEST])

    def _failed(self, number: int, before: Current | None, error: Exception) -> StoreError:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        why = (cause.strerror if isinstance(cause, OSError) else None) or str(cause).rstrip(".")
        try:
            switched = self.exists() and self.current().generation == number
        except StoreError:
            switched = False
        if switched:
            return StoreError(
                f"generation {number} of {self.folder} is in place, but the disk did not confirm it: {why}."
            )
        for left in (self.path(number), self.path(number).with_name(f"{FRESH}-{number:06d}")):
            shutil.rmtree(left, ignore_errors=True)
        kept = f"generation {before.generation} is kept as it was" if before else "nothing was created"
        return StoreError(f"{self.folder} could not be written: {why}; {kept}.")

    def discard(self) -> None:
        """Take back a learner that was just created and has learned nothing."""
        with self.writing():
            (self.folder / CURRENT).unlink()
            self._remove_lessons()
            shutil.rmtree(self.folder / GENERATIONS, ignore_errors=True)
            (self.folder / LOCK).unlink()
        with suppress(OSError):  # the folder itself, unless it holds something of somebody else's
            self.folder.rmdir()

    def prune(self, current: Current) -> None:
        """Remove what is neither kept nor being written; what cannot be removed stays, and harms nothing."""
        folder = self.folder / GENERATIONS
        kept = {self.path(number).name for number in current.manifests}
        with suppress(OSError):
            for entry in folder.iterdir():
                if entry.name not in kept and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)

    def _remove_lessons(self) -> None:
        """Remove what unfinished lessons left; those of an older generation can never go on."""
        remove((*lesson_files(self.folder), *half_written(self.folder)))


def lesson_files(folder: Path) -> list[Path]:
    """Files of a store that hold where an unfinished lesson stands."""
    return sorted(folder.glob(f"{LESSON}*.safetensors"))


def half_written(folder: Path) -> list[Path]:
    """What a process left that was killed while it wrote such a file."""
    return sorted(folder.glob(f".{LESSON}*.new"))


def remove(files: Iterable[Path]) -> None:
    """Remove files; one that cannot be removed stays, and harms nothing."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _to_disk(folder: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
