"""Decoded images kept on disk, so that every epoch but the first run's first reads them at the speed of memory.

One file holds all images of a task's folder, whatever the seed divides: `NAME-KEY.npy`, an array `[N, H, W]` or
`[N, H, W, 3]` of 8-bit levels (which `numpy.load` opens) and behind it the images' hashes, 0 where one could not be
decoded. KEY is a hash of the folder's path, of the files' names, sizes and times of change, of the size and colour
asked for, and of Pillow's version: whatever changes the pixels gives another file. A file is written under another name
and renamed when it is whole; of several processes that want it, one makes it and the others wait.

Images are read, not mapped: mapped pages would count as the process's memory, and a fault would stop all its threads.
What was read lately the operating system keeps, as far as there is memory that nobody else needs.
"""

import fcntl
import hashlib
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from everlearn.errors import DataError
from everlearn.tasks.paths import folder_name
from everlearn.tasks.pixels import Fit, Size
from everlearn.tasks.readable import decode_each, pixel_hash
from everlearn.tasks.stored import ImageFiles, Source

_VERSION = 1


@dataclass(frozen=True, eq=False)
class Cached:
    """Decoded images in a file; a source of `StoredImages`.

    Attributes:
        source: what they were decoded from, which also says what they are (`digest`).
        file: where they lie.
        offset: of the first image in the file.
        shape: `[N, H, W]` or `[N, H, W, 3]`.
        hashes: `[N]`, uint64; 0 where an image could not be decoded.
    """

    source: Source
    file: Path
    offset: int
    shape: tuple[int, ...]
    hashes: np.ndarray

    def decode(
        self, index: Sequence[int] | np.ndarray, grey: bool = False, size: Size | Fit | None = None
    ) -> np.ndarray:
        """The images at these positions; they are of the size and colour that they were decoded to.

        Raises:
            DataError: the file is gone or was cut short.
        """
        rows = np.asarray(index, dtype=np.int64)
        taken = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        each = int(np.prod(self.shape[1:]))
        flat = taken.reshape(-1).data
        # Images that follow one another come in one piece.
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1).tolist()
        for start, end in pairwise([*starts, len(rows)]):
            self._read(flat[start * each : end * each], self.offset + int(rows[start]) * each)
        return taken

    def _read(self, into: memoryview, place: int) -> None:
        # No call reads more than 2 GiB at once, and any may read less than was asked for.
        while len(into):
            count = os.preadv(self._descriptor, [into], place)
            if count == 0:
                raise DataError(f"the cache {self.file} was cut short; delete it, and it is made again.")
            into, place = into[count:], place + count

    def digest(self, index: np.ndarray) -> str:
        """That of the images that it was made of: a run is the same with a cache and without."""
        return self.source.digest(index)

    @cached_property
    def _descriptor(self) -> int:
        try:
            number = os.open(self.file, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"the cache {self.file} cannot be read: {error.strerror}.") from error
        weakref.finalize(self, os.close, number)
        return number


def cached(source: ImageFiles, grey: bool, size: Size, folder: Path) -> Cached:
    """The images of a source from a cache folder; they are decoded and put there if they are not.

    Args:
        source: of the images; the file's name begins with that of its folder.
        grey: one channel instead of RGB.
        size: that all are brought to.
        folder: the cache folder; made if it is missing.

    Raises:
        DataError: the folder cannot be written, or its disk is too small.
    """
    count = len(source.files)
    file = folder / f"{folder_name(source.root)}-{_key(source, grey, size)}.npy"
    shape = (count, *size) if grey else (count, *size, 3)
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(file.with_suffix(".lock")):
            found = _open(source, file, shape)
            if found is None:
                _check_space(folder, shape)
                _write(file, shape, source, grey, size)
                found = _open(source, file, shape)
    assert found is not None
    return found


def _key(source: ImageFiles, grey: bool, size: Size) -> str:
    import PIL

    what = (_VERSION, source.mark(), len(source.files), grey, size, PIL.__version__)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _open(source: Source, file: Path, shape: tuple[int, ...]) -> Cached | None:
    """The file as it lies there, or None if it is none of ours or not whole."""
    try:
        with file.open("rb") as stream:
            np.lib.format.read_magic(stream)
            found, _, kind = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
            if found != shape or kind != np.uint8:
                return None
            stream.seek(offset + int(np.prod(shape)))
            hashes = np.load(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return Cached(source, file, offset, shape, hashes) if hashes.shape == shape[:1] else None


def _write(file: Path, shape: tuple[int, ...], source: Source, grey: bool, size: Size) -> None:
    part, hashes = file.with_suffix(".part"), np.zeros(shape[0], dtype=np.uint64)
    empty = np.zeros(shape[1:], dtype=np.uint8)
    try:
        with part.open("wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for row, image in enumerate(_shown(decode_each(source, shape[0], grey, size), shape[0], file)):
                hashes[row] = pixel_hash(image)
                out.write(np.ascontiguousarray(empty if isinstance(image, DataError) else image).data)
            np.save(out, hashes, allow_pickle=False)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _shown(images: Iterator[np.ndarray | DataError], count: int, file: Path) -> Iterator[np.ndarray | DataError]:
    """The same, with a bar on a terminal: minutes pass where there are many."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    about = f"decoding into {file.parent}"
    yield from track(images, about, count, console=console, transient=True, disable=not console.is_terminal)


def _check_space(folder: Path, shape: tuple[int, ...]) -> None:
    wanted, free = int(np.prod(shape)) + 8 * shape[0], shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"the decoded images take {wanted / 1e9:.1f} GB, but the disk that holds {folder} has {free / 1e9:.1f} GB "
            "left; name a folder on another with cache=DIR, or a smaller size."
        )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time; the lock ends with the process."""
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the cache folder {folder} cannot be used: {error.strerror or error}; name another with cache=DIR."
        ) from error
