"""One split of a set of encoded images: all labels at hand, images decoded only when asked for."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from everlearn.errors import DataError
from everlearn.tasks.pixels import Fit, Size, read_image, stack

if TYPE_CHECKING:
    from datasets import Dataset

_CHUNK = 1000


@dataclass(frozen=True)
class EncodedImages:
    """One split of a set.

    Attributes:
        where: how an error names the split ("cifar100/train.parquet").
        labels: `[N]`, int64, positions in `classes`.
        classes: the names of the classes.
        rows: the images' bytes, as Hugging Face `datasets` holds them (on disk).
        column: the column of `rows` that holds them.
    """

    where: str
    labels: np.ndarray
    classes: tuple[str, ...]
    rows: "Dataset"
    column: str

    def decode(
        self, index: Sequence[int] | np.ndarray, grey: bool = False, size: Size | Fit | None = None
    ) -> np.ndarray:
        """The images of these rows: uint8, `[n, H, W]` if grey, else `[n, H, W, 3]`.

        Args:
            index: rows, at least one.
            grey: one channel instead of RGB.
            size: height and width to resize to, or how to come to them.

        Raises:
            DataError: a row cannot be decoded, or two differ in size and no size is given.
        """
        rows = [int(row) for row in index]
        names = [self._name(row) for row in rows]
        sources = self._sources(rows)
        return stack([read_image(source, name, grey, size) for source, name in zip(sources, names, strict=True)], names)

    def digest(self, index: np.ndarray) -> str:
        """A SHA-256 over the encoded bytes of these rows, in order.

        Raises:
            DataError: a file that a row names is missing.
        """
        whole = hashlib.sha256()
        for start in range(0, len(index), _CHUNK):
            rows = [int(row) for row in index[start : start + _CHUNK]]
            for row, source in zip(rows, self._sources(rows), strict=True):
                data = _bytes(source, self._name(row))
                whole.update(len(data).to_bytes(8, "little") + data)
        return whole.hexdigest()

    def pixel_hashes(self) -> np.ndarray:
        """The first 64 bits of the SHA-256 of every image's RGB pixels, `[N]`, uint64.

        Mirrors of a public set differ in the order of their rows and in their encoding, but not in their
        pixels (as long as the encoding is lossless): a draw from rows in the order of these hashes is the
        same from any mirror. Decoding tens of thousands of images takes seconds, so the hashes are kept in
        everlearn's cache folder, named by a hash of the encoded bytes.
        """
        whole = hashlib.sha256()
        for row, source in enumerate(self._all_sources()):
            whole.update(_bytes(source, self._name(row)))
        file = cache_folder() / f"pixel-hashes-1-{whole.hexdigest()[:32]}.npy"
        kept = _read_hashes(file, len(self.labels))
        if kept is not None:
            return kept
        hashes = np.fromiter(
            (_hash(source, self._name(row)) for row, source in enumerate(self._all_sources())), np.uint64
        )
        _write_hashes(file, hashes)
        return hashes

    def by_class(self) -> list[np.ndarray]:
        """For each class its rows, in the order of their pixels' hashes."""
        order = np.argsort(self.pixel_hashes(), kind="stable")
        return [order[self.labels[order] == label] for label in range(len(self.classes))]

    def _name(self, row: int) -> str:
        return f"image {row} of {self.where}"

    def _sources(self, rows: list[int] | slice) -> list[bytes | Path]:
        records = self.rows[rows][self.column]
        numbers = range(len(self.labels))[rows] if isinstance(rows, slice) else rows
        return [self._source(record, row) for record, row in zip(records, numbers, strict=True)]

    def _source(self, record: Mapping[str, Any] | None, row: int) -> bytes | Path:
        if record is None or (record["bytes"] is None and record["path"] is None):
            raise DataError(f"{self._name(row)} is missing: its row holds nothing (null); take the row out.")
        # A set on the hub may hold paths of unpacked files instead of bytes.
        return Path(record["path"]) if record["bytes"] is None else record["bytes"]

    def _all_sources(self) -> Iterator[bytes | Path]:
        for start in range(0, len(self.labels), _CHUNK):
            yield from self._sources(slice(start, start + _CHUNK))


def cache_folder() -> Path:
    """Where everlearn keeps what it can compute again: EVERLEARN_CACHE, or the user's cache folder."""
    own = os.environ.get("EVERLEARN_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "everlearn"


def _bytes(source: bytes | Path, what: str) -> bytes:
    try:
        return source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise DataError(f"{what} cannot be read: {error.strerror}.") from error


def _hash(source: bytes | Path, what: str) -> int:
    return int.from_bytes(hashlib.sha256(read_image(source, what).tobytes()).digest()[:8], "big")


def _read_hashes(file: Path, count: int) -> np.ndarray | None:
    try:
        hashes = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return hashes if hashes.shape == (count,) and hashes.dtype == np.uint64 else None


def _write_hashes(file: Path, hashes: np.ndarray) -> None:
    """Best effort: a folder that cannot be written costs seconds in the next run, nothing else."""
    part = file.with_suffix(f".{os.getpid()}.npy")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(part, hashes, allow_pickle=False)
        os.replace(part, file)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
