"""Run folders at a URL: an object store, another machine, whatever fsspec reaches.

A run is worked on in a folder of this machine, the mirror. Before, what the URL has of it is fetched; at each
checkpoint and at the end, what has changed is sent. The result goes last, so that nothing there looks finished that
is not, and the journals go before the checkpoint that counts their bytes. The URL is right wherever the two differ.
"""

import hashlib
import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from everlearn.errors import ConfigurationError, StoreError
from everlearn.experiments import store
from everlearn.experiments.checkpoint import journals_of
from everlearn.experiments.files import explained, locked

_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "hf", "memory"}
"""Where a file appears when all of it has arrived; elsewhere it is sent under another name and moved."""

_OURS = (
    store.RUN,
    store.ACCURACY,
    store.FINDINGS,
    store.WEIGHTS,
    "trained.safetensors",
    store.CHECKPOINT,
    store.RESULT,
)
"""The files of a run that travel, in the order in which they are sent and fetched."""


def is_url(runs: str | Path) -> bool:
    """Whether runs lie at a URL, and not in a folder."""
    return isinstance(runs, str) and "://" in runs


def mirror_of(url: str) -> Path:
    """The folder of this machine in which runs at a URL are worked on, and read.

    It lies below the folder that EVERLEARN_SCRATCH names, else below the user's cache. What trains a network for other
    runs lies below the mirror of those, as it does at the URL.
    """
    url = _trimmed(url)
    if url.endswith(f"/{store.STARTS}"):
        return mirror_of(url.removesuffix(f"/{store.STARTS}")) / store.STARTS
    scratch = os.environ.get("EVERLEARN_SCRATCH")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "everlearn"
    return (Path(scratch).expanduser() if scratch else cache) / hashlib.sha256(url.encode()).hexdigest()[:16]


def _trimmed(url: str) -> str:
    """A URL without the slashes at its end; `memory://` and `file:///` are nothing without theirs."""
    kind, mark, path = url.partition("://")
    return kind + mark + (path.rstrip("/") or path[:1])


class Remote:
    """The folder of runs at a URL.

    Args:
        url: such as `s3://bucket/runs`.

    Raises:
        ConfigurationError: no file system has such a URL, a package for it is missing, or it names no folder.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        self.url = _trimmed(url)
        if self.url in ("file://", "local://"):  # which fsspec takes for the folder that the command was given in
            raise ConfigurationError(f"{url} names no folder; give a whole path, such as file:///home/me/runs.")
        try:
            self._fs, self._path = url_to_fs(self.url)
        except ImportError as error:
            raise ConfigurationError(f"{url} needs a package that is not here: {_line(error)}.") from None
        except ValueError as error:
            raise ConfigurationError(
                f"the runs cannot be at {url}: {_line(error)}; give a folder, or a URL that fsspec knows, such as "
                "s3://bucket/runs."
            ) from None
        except Exception as error:
            raise StoreError(f"{url} cannot be reached: {_line(error)}.") from error
        protocol = self._fs.protocol
        self._whole = not _PUT_WHOLE.isdisjoint({protocol} if isinstance(protocol, str) else protocol)
        self._sent: dict[Path, tuple[int, int, int]] = {}

    def names(self) -> list[str]:
        """The run folders there.

        Raises:
            StoreError: it cannot be read; also below.
        """
        return sorted(name for name, size in self._sizes("").items() if size is None)

    def find(self, end: str) -> str | None:
        """The run folder whose name ends so; None if there is none."""
        return next((name for name in self.names() if name.endswith(end)), None)

    def fetch(self, folder: Path, checkpoint: bool = True) -> None:
        """Make a run folder of the mirror what it is at the URL; without its checkpoint, if only to be read.

        Raises:
            StoreError: also if another process of this machine works on it.
        """
        with locked(folder) as mine:
            if not mine:
                raise _Busy(f"another process is working on {folder}; wait for it, or stop it.")
            there = {name: size for name, size in self._sizes(folder.name).items() if name in _OURS}
            if store.RESULT in there or not checkpoint:
                there.pop(store.CHECKPOINT, None)
            if not self._same(folder, there):
                # The result first: what is half removed must not look finished.
                for name in reversed(_OURS):
                    (folder / name).unlink(missing_ok=True)
                for name in sorted(there, key=_OURS.index):
                    self._get(f"{folder.name}/{name}", folder / name)
                _drop_unfounded(folder)
            self._sent |= {folder / name: mark(folder / name) for name in _OURS if (folder / name).exists()}

    def read(self, folders: Iterable[Path]) -> None:
        """Bring these run folders here as far as they are finished there; leave out those in work on this machine."""
        for folder in folders:
            with suppress(_Busy):
                self.fetch(folder, checkpoint=False)

    def push(self, folder: Path) -> None:
        """Send what has changed in a run folder; the result last, and then the checkpoint goes."""
        for name in _OURS:
            file = folder / name
            if file.exists() and self._sent.get(file) != (now := mark(file)):
                self.put(file, f"{folder.name}/{name}")
                self._sent[file] = now
        if (folder / store.RESULT).exists():
            checkpoint = self._at(f"{folder.name}/{store.CHECKPOINT}")
            with self._told("written"), suppress(FileNotFoundError):
                self._fs.rm_file(checkpoint)

    def put(self, file: Path, name: str) -> None:
        """Send one file; there it is the old one or the new one, whatever happens.

        Args:
            file: of this machine.
            name: below the URL, with `/`.
        """
        target = self._at(name)
        with self._told("written"):
            self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
            if self._whole:
                self._fs.put_file(str(file), target)
                return
            fresh = f"{posixpath.dirname(target)}/.{posixpath.basename(target)}.{token_hex(4)}.new"
            try:
                self._fs.put_file(str(file), fresh)
                self._fs.mv(fresh, target)
            except BaseException:
                with suppress(Exception):  # whatever is wrong is told below
                    self._fs.rm_file(fresh)
                raise

    def _get(self, name: str, file: Path) -> None:
        fresh = file.with_name(f".{file.name}.new")
        with self._told("read"):
            self._fs.get_file(self._at(name), str(fresh))
        with explained(file):
            fresh.replace(file)

    def _sizes(self, name: str) -> dict[str, int | None]:
        """Bytes of each file of a folder there; None for a folder in it. Empty if there is no such folder."""
        with self._told("read"):
            self._fs.invalidate_cache()
            try:
                entries = self._fs.ls(self._at(name), detail=True)
            except FileNotFoundError:
                return {}
        sizes = {str(e["name"]).rstrip("/"): None if e["type"] == "directory" else e["size"] for e in entries}
        return {posixpath.basename(path): size for path, size in sizes.items()}

    def _same(self, folder: Path, there: dict[str, int | None]) -> bool:
        """Whether a finished run lies here as it does there; of an unfinished one that is not asked."""
        here = {name: (folder / name).stat().st_size for name in _OURS if (folder / name).exists()}
        if store.RESULT not in there or here != there:
            return False
        with self._told("read"):
            return self._fs.cat_file(self._at(f"{folder.name}/{store.RESULT}")) == (folder / store.RESULT).read_bytes()

    def _at(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}" if name else self._path

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn what a file system says, each in errors of its own, into a `StoreError`."""
        try:
            yield
        except Exception as error:
            raise StoreError(
                f"{self.url} could not be {what}: {_line(error)}; see to it and give the same command again: what has "
                "arrived there is kept."
            ) from error


class _Busy(StoreError):
    """Another process of this machine works on the folder."""


def _drop_unfounded(folder: Path) -> None:
    """Begin anew where a journal is shorter than its checkpoint says.

    That is so only if a machine that was taken for lost still sent an old journal after a new checkpoint.
    """
    checkpoint = folder / store.CHECKPOINT
    if not checkpoint.exists():
        return
    for name, size in journals_of(checkpoint).items():
        file = folder / name
        if (file.stat().st_size if file.exists() else 0) < size:
            checkpoint.unlink()
            return


def mark(file: Path) -> tuple[int, int, int]:
    """Changes whenever the file does: its number, size and time; zeros if there is none."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300].rstrip(".") or "no reason given"
    return text if isinstance(error, ValueError | ImportError) else f"{type(error).__name__}: {text}"
