"""Run folders: naming, finding, reading, writing records."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from everlearn.errors import StoreError
from everlearn.experiments.files import explained, write_whole
from everlearn.experiments.records import (
    SCHEMA,
    Evaluation,
    FindingRecord,
    ResultRecord,
    RunConfig,
    RunRecord,
    validated,
)
from everlearn.training.settings import Training

RUN, RESULT, CHECKPOINT, WEIGHTS = "run.json", "result.json", "checkpoint.safetensors", "weights.safetensors"
STARTS = "starts"
"""The folder, in that of the runs, of those that train a network which the others go on from."""
ACCURACY, FINDINGS = "accuracy.jsonl", "findings.jsonl"

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies on disk.

    Attributes:
        folder: where.
        run: what was asked for.
        result: sizes and seconds; None while the run is unfinished.
        evaluations: in the order they were made.
        findings: in the order they were made.
    """

    folder: Path
    run: RunRecord
    result: ResultRecord | None
    evaluations: tuple[Evaluation, ...]
    findings: tuple[FindingRecord, ...] = ()


def run_id(config: RunConfig) -> str:
    """Sixteen hexadecimal digits that two runs share only if they are the same run.

    What equals its default is left out, so that a setting that is added later leaves the names of earlier runs as
    they are; a default is therefore never changed without a new schema.
    """
    content = config.model_dump(mode="json", exclude_defaults=True)
    plain = asdict(Training())
    content["training"] = {
        name: value for name, value in asdict(config.training.compared).items() if value != plain[name]
    }
    text = json.dumps({"schema": SCHEMA, **content}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_folder(root: Path, config: RunConfig) -> Path:
    """Where a run lies: its hash, after two words for people."""
    method = "".join(c if c.isalnum() or c in "-.@" else "_" for c in config.method)
    return root / f"{method}.trial-{config.trial}.{run_id(config)}"


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, at once."""
    write_whole(path, (record.model_dump_json(indent=2) + "\n").encode())


def read_run(folder: str | Path) -> StoredRun:
    """Read one run folder.

    Raises:
        StoreError: it holds no run, is damaged, or was written by a newer everlearn.
    """
    folder = Path(folder)
    run = _read(folder / RUN, RunRecord)
    result = _read(folder / RESULT, ResultRecord) if (folder / RESULT).exists() else None
    evaluations, findings = _lines(folder / ACCURACY, Evaluation), _lines(folder / FINDINGS, FindingRecord)
    for name, found in ((ACCURACY, evaluations), (FINDINGS, findings)):
        if result is not None and len(found) != (wanted := result.lines.get(name, len(found))):
            raise StoreError(
                f"{folder / name} is damaged: it has {len(found)} whole lines of {wanted}; remove {folder} and run it "
                "again."
            )
    return StoredRun(folder, run, result, tuple(evaluations), tuple(findings))


def find_runs(root: str | Path) -> list[StoredRun]:
    """Every run below `root` (or `root` itself), sorted by method, then trial.

    Those below `starts/`, which trained a network that others go on from, are not among them.

    Raises:
        StoreError: there is no such folder, or one of the runs cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise StoreError(f"there is no folder {root}; give the folder that `everlearn run` wrote its runs to.")
    paths = (path.parent for path in sorted(root.rglob(RUN)) if STARTS not in path.relative_to(root).parts)
    runs = [read_run(path) for path in paths]
    return sorted(runs, key=lambda run: (run.run.config.method, run.run.config.trial))


def count_lines(folder: Path) -> dict[str, int]:
    """The whole lines of each journal of a run that is over."""
    return {
        name: (folder / name).read_bytes().count(b"\n") for name in (ACCURACY, FINDINGS) if (folder / name).exists()
    }


def check_journals(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raise `StoreError` for a journal that is shorter than the checkpoint beside it says."""
    for name, size in sizes.items():
        held = (folder / name).stat().st_size if (folder / name).exists() else 0
        if held < size:
            raise StoreError(
                f"{folder / name} is damaged: it has {held:,} bytes, but the checkpoint was written after {size:,}; "
                f"remove {folder} and run it again."
            )


class Journal:
    """A file of one record a line, open for appending after cutting off what was written past a checkpoint."""

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        with explained(self.path):
            self._file = self.path.open("ab")
            self._file.truncate(keep)

    def append(self, record: BaseModel) -> None:
        """Add one line; it is on its way to the disk when this returns."""
        with explained(self.path):
            self._file.write(record.model_dump_json(exclude_defaults=True).encode() + b"\n")
            self._file.flush()

    def settle(self) -> int:
        """Wait until all lines are on the disk; return the file's size in bytes."""
        with explained(self.path):
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        with explained(self.path):
            self._file.close()


def _read(path: Path, model: type[_Model]) -> _Model:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path.parent} holds no run: there is no {path.name}.") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove {path.parent} and run it again.") from None
    mend = f"; remove {path.parent} and run it again"
    return validated(content, path, model, SCHEMA, newer=", or give another folder", damaged=mend)


def _lines(path: Path, model: type[_Model]) -> list[_Model]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        lines = file.readlines()
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # a run that was killed while it wrote the line
    try:
        return [model.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise StoreError(
            f"{path} is damaged: {error.errors()[0]['msg']}; remove {path.parent} and run it again."
        ) from None
