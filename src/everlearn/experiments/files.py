"""Writing so that a crash at any moment leaves either the old file or the new one, and errors that people can read."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from everlearn.errors import StoreError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing below `path` into a `StoreError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk that holds {path} is full; free some space and run the same command again: "
                "finished runs and checkpoints are kept."
            ) from error
        raise StoreError(f"{path} could not be written: {error.strerror or error}.") from error


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file at once: it has the old content or the new, whatever happens.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    with explained(path):
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a folder for this process alone; gives False if another has it. The lock ends with the process."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file: BinaryIO = (folder / "lock").open("wb")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
