"""Reading files that somebody may have damaged, or made to do harm: everything is bounded before it is read.

What is read is bytes, JSON and tensors. Nothing is executed, no link is followed, no length that a file states is
believed before it is compared with the file's own.
"""

import errno
import hashlib
import json
import os
import stat
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from everlearn.errors import StoreError
from everlearn.experiments.records import validated

MAX_JSON = 4 * 2**20
"""Bytes of a JSON file; parsed, it takes about twenty times as much."""
MAX_INDEX = 2**18
"""Bytes of `current` and of a manifest."""
MAX_DEPTH = 32
MAX_HEADER = 16 * 2**20
MAX_NUMBERS = 16 * 2**30

_DTYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, 
    "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip

_Model = TypeVar("_Model", bound=BaseModel)
Shapes = dict[str, tuple[int, ...]]


class MissingFileError(StoreError):
    """A file of a store that is not there; a reader whose generation was just pruned meets it and looks again."""


def read_bytes(path: Path, most: int, exactly: int | None = None) -> bytes:
    """The content of a file.

    Args:
        path: the file.
        most: bytes that are read at most.
        exactly: bytes that it must have.

    Raises:
        MissingFileError: it is not there.
        StoreError: it is a link, no plain file, too large, of another size, or cannot be read.
    """
    try:
        # O_NONBLOCK: a pipe in a file's place would otherwise wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from None
    state = os.fstat(handle)
    if not stat.S_ISREG(state.st_mode):
        os.close(handle)
        raise StoreError(f"{path} is damaged: it is no plain file.")
    with os.fdopen(handle, "rb") as file:
        if exactly is not None and state.st_size != exactly:
            raise StoreError(f"{path} is damaged: it has {state.st_size:,} bytes, but {exactly:,} were written.")
        if state.st_size > most:
            raise StoreError(f"{path} is damaged: it has {state.st_size:,} bytes, and {most:,} are the most.")
        try:
            content = file.read(state.st_size)
        except OSError as error:
            raise _unreadable(path, error) from None
    if len(content) != state.st_size:
        raise StoreError(f"{path} changed while it was read.")
    return content


def _unreadable(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MissingFileError(f"{path} is missing.")
    if error.errno == errno.ELOOP:
        return StoreError(f"{path} is damaged: it is a link, and links are not followed.")
    return StoreError(f"{path} cannot be read: {error.strerror or error}.")


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def parse_json(content: bytes, path: Path) -> Any:
    """What a JSON text says.

    Raises:
        StoreError: it is too large, too deep, or no JSON.
    """
    if len(content) > MAX_JSON:
        raise StoreError(f"{path} is damaged: it has {len(content):,} bytes of JSON, and {MAX_JSON:,} are the most.")
    if _depth(content) > MAX_DEPTH:
        raise StoreError(f"{path} is damaged: its JSON is nested deeper than {MAX_DEPTH} levels.")
    try:
        return _parsed(content)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StoreError(f"{path} is damaged: it is no valid JSON ({reason}).") from None


def _parsed(content: bytes) -> Any:
    """What a JSON text says; in UTF-8 alone, as `_depth` counts."""
    return json.loads(content.decode())


_OTHERS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def _depth(content: bytes) -> int:
    """How deep brackets nest at most, those in texts left out, as names may have any."""
    # Escapes go first, pairs of backslashes before all; then every quotation mark opens or closes a text.
    plain = content.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    marks = np.frombuffer(plain, np.uint8)
    within = np.logical_xor.accumulate(marks == ord('"'))
    return int(np.cumsum(_STEPS[marks] * ~within, dtype=np.int32).max(initial=0))


def read_record(content: bytes, path: Path, model: type[_Model], schema: int) -> _Model:
    """A record out of the bytes of its file.

    Raises:
        StoreError: damaged, or of a newer everlearn.
    """
    return validated(parse_json(content, path), path, model, schema)


def tensor_shapes(content: bytes, path: Path) -> Shapes:
    """The shapes of a safetensors file's tensors, from its header; the header is compared with the file's size.

    Raises:
        StoreError: the header is longer than the file or than any of ours, or does not describe the file.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER, len(content) - 8):
        raise StoreError(f"{path} is damaged: its header claims {length:,} bytes, which it has not.")
    header = content[8 : 8 + length]
    try:
        entries: dict[str, Any] = _parsed(header) if _depth(header) <= MAX_DEPTH else {}
        shapes: Shapes = {}
        total = 0
        for name, entry in entries.items():
            if name == "__metadata__":
                continue
            shape = tuple(int(side) for side in entry["shape"])
            begin, end = entry["data_offsets"]
            if min(shape, default=0) < 0 or end - begin != prod(shape) * _DTYPES[entry["dtype"]]:
                raise ValueError(f"{name[:80]!r} is not as long as its shape")
            shapes[name], total = shape, total + end - begin
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} is damaged: its header describes no tensors ({str(error)[:200]}).") from None
    if total != len(content) - 8 - length:
        raise StoreError(f"{path} is damaged: its header describes {total:,} bytes of numbers, but it has others.")
    return shapes


def parse_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        StoreError: it is damaged.
    """
    tensor_shapes(content, path)
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"{path} is damaged: {' '.join(str(error).split())[:200]}.") from None
