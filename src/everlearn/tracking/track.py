"""`everlearn.track`: finished runs, to TensorBoard or MLflow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.elsewhere import local_of
from everlearn.experiments.remote import is_url
from everlearn.experiments.store import StoredRun, find_runs
from everlearn.tracking.contents import contents
from everlearn.tracking.uris import check_uri

_NEEDED = {"tensorboard": "TensorBoard", "mlflow": "MLflow"}


@dataclass(frozen=True)
class Target:
    """Where records go.

    Attributes:
        kind: the tracker.
        where: a folder (TensorBoard), or the URI of a server or data base (MLflow; empty: what MLflow is set to).
    """

    kind: Literal["tensorboard", "mlflow"]
    where: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}" if self.where else self.kind


@dataclass(frozen=True)
class Tracked:
    """What was done.

    Attributes:
        target: where.
        written: runs that were not there, or not as they are now.
        kept: runs that were there already.
        unfinished: runs that are left out until they are finished.
    """

    target: str
    written: int
    kept: int
    unfinished: int


def read_target(text: str) -> Target:
    """A target from `tensorboard:DIR`, `mlflow` or `mlflow:URI`, whose library is there.

    Raises:
        ConfigurationError: it is none of them, or the library is missing.
    """
    kind, _, where = text.partition(":")
    if kind not in _NEEDED:
        raise UnknownNameError("tracker", kind, _NEEDED)
    if kind == "tensorboard" and not where:
        raise ConfigurationError("tensorboard needs a folder, as in tensorboard:logs.")
    if kind == "tensorboard" and is_url(where):
        raise ConfigurationError(
            f"tensorboard needs a folder of this machine, as tensorboard:logs, but came as {text}."
        )
    if kind == "mlflow":
        check_uri(where)
    try:
        import_module(kind)
    except ImportError:
        raise ConfigurationError(f"tracking with {_NEEDED[kind]} needs more: pip install everlearn[track].") from None
    return Target("tensorboard" if kind == "tensorboard" else "mlflow", where)


def track(runs: str | Path | Iterable[StoredRun], to: str | Sequence[str]) -> list[Tracked]:
    """Give the records of finished runs to TensorBoard or MLflow; what is there already is not written again.

    Args:
        runs: a folder or URL of runs, or runs as `everlearn.run` and `find_runs` give them.
        to: `tensorboard:DIR`, `mlflow` (where MLFLOW_TRACKING_URI says) or `mlflow:URI`; or several.

    Returns:
        For each target what was done.

    Raises:
        ConfigurationError: no such target, or its library is missing.
        StoreError: the runs cannot be read, or the target cannot be written.
    """
    targets = [read_target(text) for text in ([to] if isinstance(to, str) else to)]
    if not targets:
        raise ConfigurationError("say where the records go: --to tensorboard:DIR or --to mlflow:URI.")
    found = find_runs(local_of(runs)) if isinstance(runs, str | Path) else list(runs)
    finished = contents(found)
    unfinished = sum(run.result is None for run in found)
    if not finished:
        raise ConfigurationError(
            f"tracking needs at least one finished run, but there is none among {len(found)}; finish them first."
        )
    done: list[Tracked] = []
    for target in targets:
        if target.kind == "tensorboard":
            from everlearn.tracking.tensorboard import write
        else:
            from everlearn.tracking.mlflow import write
        written = write(finished, target.where)
        done.append(Tracked(str(target), written, len(finished) - written, unfinished))
    return done
