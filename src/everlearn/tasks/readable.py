"""Every image of a source decoded once: which of them cannot be, and which show the same."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from everlearn.errors import DataError
from everlearn.tasks.ahead import ahead, cores
from everlearn.tasks.pixels import Size
from everlearn.tasks.stored import Source

_TOGETHER = 64
"""Images decoded by one call of a thread."""

Progress = Callable[[int], None]
"""Told how many images are done."""


def decode_each(source: Source, count: int, grey: bool, size: Size | None) -> Iterator[np.ndarray | DataError]:
    """The images 0 .. count - 1 in order, uint8 `[H, W]` or `[H, W, 3]`; in place of one that cannot be, why."""

    def some(start: int) -> list[np.ndarray | DataError]:
        return [_one(source, row, grey, size) for row in range(start, min(start + _TOGETHER, count))]

    for part in ahead(some, range(0, count, _TOGETHER), cores(), 2 * cores()):
        yield from part


def _one(source: Source, row: int, grey: bool, size: Size | None) -> np.ndarray | DataError:
    try:
        return source.decode([row], grey, size)[0]
    except DataError as error:
        return error


def pixel_hash(image: np.ndarray | DataError) -> int:
    """64 bits that tell images apart, at least 1; 0 for what could not be decoded."""
    if isinstance(image, DataError):
        return 0
    whole = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    whole.update(np.ascontiguousarray(image).data)
    return int.from_bytes(whole.digest(), "little") or 1


def hash_files(splits: Mapping[str, Sequence[Path]]) -> dict[Path, int]:
    """Hashes of the bytes of those files that have the size of a file of another split; the others are no doubles.

    Raises:
        DataError: a file is gone.
    """
    by_size: dict[int, dict[str, list[Path]]] = {}
    for name, files in splits.items():
        for file in files:
            by_size.setdefault(_state(file), {}).setdefault(name, []).append(file)
    alike = [file for found in by_size.values() if len(found) > 1 for files in found.values() for file in files]
    return {file: _hash(file) for file in alike}


def _state(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error


def _hash(file: Path) -> int:
    try:
        return int.from_bytes(hashlib.blake2b(file.read_bytes(), digest_size=8).digest(), "little") or 1
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
