"""From the lines that a run wrote to the arrays that the metrics read."""

import numpy as np

from everlearn.errors import StoreError
from everlearn.experiments.store import StoredRun
from everlearn.metrics import Floats, History


def history(stored: StoredRun) -> History:
    """The accuracies of a stored run, and its areas under the ROC curve where it measured them.

    Where one task's split was evaluated twice after the same epoch (at the end of its phase, and again at the
    start of the next), the later line counts: it is of the network that goes on. Of several attempts at a task, only
    the one that was kept counts.

    Raises:
        StoreError: a line is of a task that the run does not have, or a task has no phase.
    """
    tasks = tuple(stored.run.tasks)
    column = {task: place for place, task in enumerate(tasks)}
    for record in (*stored.evaluations, *stored.findings):
        if record.task not in column:
            raise StoreError(
                f"{stored.folder} has records of a task {record.task!r}, but its tasks are {list(tasks)}; "
                f"delete the folder and run it again."
            )
    epochs = sorted({line.epoch for line in stored.evaluations})
    row = {epoch: place for place, epoch in enumerate(epochs)}
    names = ("test", "validation", "auroc")
    values: dict[str, Floats] = {name: np.full((len(epochs), len(tasks)), np.nan) for name in names}
    kept = {found.task: found.attempt for found in stored.findings if found.settled}
    for line in stored.evaluations:
        if line.attempt is not None and line.attempt != kept.get(line.training or ""):
            continue
        if line.split in values:
            values[line.split][row[line.epoch], column[line.task]] = line.accuracy
        if line.split == "test" and line.auroc is not None:
            values["auroc"][row[line.epoch], column[line.task]] = line.auroc
    return History(
        tasks=tasks,
        epochs=np.array(epochs, dtype=np.int64),
        test=values["test"],
        validation=values["validation"],
        phases=tuple(_phase(stored, task) for task in tasks),
        auroc=None if np.isnan(values["auroc"]).all() else values["auroc"],
    )


def _phase(stored: StoredRun, task: str) -> tuple[int, int]:
    # A phase without a task is of all of them (the multi-task protocol).
    own = [phase for phase in stored.run.phases if phase.task in (task, None)]
    if len(own) != 1:
        raise StoreError(
            f"{stored.folder} gives the task {task!r} {len(own)} phases, but a task has one; "
            f"delete the folder and run it again."
        )
    return own[0].first, own[0].last
