"""TensorBoard: a folder of events for each run."""

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from everlearn.errors import StoreError
from everlearn.experiments.files import explained
from everlearn.tracking.contents import Contents

MARK = "everlearn.txt"
"""In each folder: a hash of what is written there. Written last, so a folder that has it is whole."""


def write(runs: Sequence[Contents], where: str) -> int:
    """Write runs below a folder, each in one of its name; return how many were not there as they are now.

    A run's folder is replaced as a whole, so that TensorBoard never shows two versions of it.

    Args:
        runs: what is written.
        where: the folder that `tensorboard --logdir` is given.

    Raises:
        StoreError: the folder cannot be written, or has a folder of that name that is not ours.
    """
    root = Path(where).expanduser()
    with explained(root):
        root.mkdir(parents=True, exist_ok=True)
        new = [run for run in runs if _mark(root / run.name) != run.mark]
        for run in new:
            if (root / run.name).exists() and not (root / run.name / MARK).exists():
                raise StoreError(
                    f"{root / run.name} is there and was not written by everlearn; remove it, or give another folder."
                )
        for run in new:
            _replace(root, run)
    return len(new)


def _mark(folder: Path) -> str:
    return (folder / MARK).read_text().strip() if (folder / MARK).is_file() else ""


def _replace(root: Path, run: Contents) -> None:
    target, fresh, old = root / run.name, root / f".{run.name}.new", root / f".{run.name}.old"
    for left in (fresh, old):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    _write(run, fresh)
    (fresh / MARK).write_text(run.mark + "\n")
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _write(run: Contents, folder: Path) -> None:
    when = datetime.fromisoformat(run.finished).timestamp()
    with SummaryWriter(str(folder)) as writer:
        assert writer.file_writer is not None
        for summary in hparams(run.settings, run.final):
            writer.file_writer.add_summary(summary, walltime=when)
        for name, value in run.final.items():
            writer.add_scalar(name, value, walltime=when)
        for curve in run.curves:
            for epoch, value in curve.points:
                writer.add_scalar(curve.name, value, epoch, walltime=when)
        if run.chosen:
            writer.add_text("configurations", _table(run), walltime=when)


def _table(run: Contents) -> str:
    """What each task got, in Markdown."""
    rows = (f"| {task.replace('|', chr(92) + '|')} | {configuration} |" for task, configuration in run.chosen.items())
    return "\n".join(["| task | configuration |", "| --- | --- |", *rows])
