"""Performance task by task, and what networks that grow counted of their layers, as data frames."""

from collections.abc import Iterable

import pandas as pd

from everlearn import metrics
from everlearn.experiments.store import StoredRun
from everlearn.metrics import Measured
from everlearn.report.groups import Comparison, Entry, Trial, comparisons
from everlearn.report.growth import seconds_by_stage

_KEYS = ["comparison", "stream", "seed", "method", "backbone", "trial", "run", "task_number", "task"]
_COUNTED = ["units", "selected", "added", "split"]
_STAGES = [*_KEYS, "auroc", "accuracy", "seconds"]


def units_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """What networks that grow counted of their layers when each task was over: one row a task and layer.

    Args:
        runs: unfinished ones are passed over.

    Returns:
        `comparison`, `stream`, `seed`, `method` (the label of the summary table), `backbone`, `trial`, `run` (its
        hash); `task_number` (from 1), `task`; `layer` (from 1, nearest the image); `units` that the task sees, those
        that were `selected` from what there was, `added`, `split`, and whatever else a method counts. Missing where it
        was not counted.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    return counted(comparisons(runs))


def growth_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Performance and training time task by task: one row for each task of each run.

    Args:
        runs: unfinished ones are passed over.

    Returns:
        the first columns of `units_frame`, as far as `task`; `auroc` and `accuracy`: when that task was over, the mean
        over the tasks until then; `seconds` of training until then. NaN where it was not measured.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    return by_task(comparisons(runs))


def counted(found: Iterable[Comparison]) -> pd.DataFrame:
    """The rows of `units_frame`."""
    rows: list[dict[str, object]] = []
    for key, trial, task in _tasks(found):
        counts = next((one.counts for one in reversed(trial.stored.findings) if one.settled and one.task == task), {})
        for layer in range(max((len(numbers) for numbers in counts.values()), default=0)):
            known = {what: numbers[layer] for what, numbers in counts.items() if layer < len(numbers)}
            rows.append({**key, "layer": layer + 1, **known})
    others = sorted({name for row in rows for name in row} - {*_KEYS, "layer", *_COUNTED})
    frame = pd.DataFrame(rows, columns=[*_KEYS, "layer", *_COUNTED, *others])
    return frame.astype(dict.fromkeys(["layer", *_COUNTED, *others], "Int64"))


def by_task(found: Iterable[Comparison]) -> pd.DataFrame:
    """The rows of `growth_frame`."""
    kinds: tuple[Measured, ...] = ("auroc", "accuracy")
    rows: list[dict[str, object]] = []
    values: dict[str, list[float]] = {}
    for key, trial, task in _tasks(found):
        place = trial.history.tasks.index(task)
        if place == 0:
            values = {kind: metrics.average_by_stage(trial.history, kind).tolist() for kind in kinds}
            values["seconds"] = seconds_by_stage(trial).tolist()
        rows.append({**key, **{name: column[place] for name, column in values.items()}})
    return pd.DataFrame(rows, columns=_STAGES)


def _tasks(found: Iterable[Comparison]) -> Iterable[tuple[dict[str, object], Trial, str]]:
    """Every task of every run, after the columns that say which it is."""
    for place, comparison in enumerate(found):
        for entry in comparison.entries:
            for trial in entry.trials:
                for number, task in enumerate(trial.history.tasks):
                    yield _key(place, comparison, entry, trial) | {"task_number": number + 1, "task": task}, trial, task


def _key(place: int, comparison: Comparison, entry: Entry, trial: Trial) -> dict[str, object]:
    seed, number = trial.key
    of = (place, comparison.stream, seed, entry.label, trial.stored.run.config.backbone, number, trial.stored.run.id)
    return dict(zip(_KEYS, of, strict=False))
