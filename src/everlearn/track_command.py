"""`everlearn track`, and `--track` of `everlearn run`."""

from typing import TYPE_CHECKING, Annotated

import typer

from everlearn import flags

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from everlearn.experiments.store import StoredRun

To = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TRACKER", help="`tensorboard:DIR`, `mlflow:URI`, or `mlflow` (where MLFLOW_TRACKING_URI says)."
    ),
]


def track(
    runs: Annotated[str, typer.Argument(help="Folder or URL that `everlearn run` wrote to.")] = flags.RUNS,
    to: To = None,
) -> None:
    """Give the records of finished runs to TensorBoard or MLflow; what is there already is not written again.

    Examples:

        everlearn track runs --to tensorboard:logs

        everlearn track runs --to mlflow:http://localhost:5000
    """
    write(runs, to or [])


def write(runs: "str | Path | Sequence[StoredRun]", to: list[str]) -> None:
    """Track runs, and say what was done.

    Args:
        runs: a folder or URL of them, or what `everlearn.run` gave.
        to: the trackers.
    """
    from everlearn.tracking.track import track as tracked

    for done in tracked(runs, to):
        left = f", {done.unfinished} unfinished left out" if done.unfinished else ""
        typer.echo(f"{done.target}: {done.written} runs written, {done.kept} there already{left}")
