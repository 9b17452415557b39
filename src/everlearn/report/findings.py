"""What methods found out about which blocks transfer, as data frames."""

import math
from collections.abc import Iterable

import pandas as pd

from everlearn.experiments.records import FindingRecord
from everlearn.experiments.store import StoredRun
from everlearn.report.groups import Comparison, comparisons

_KEYS = ["comparison", "stream", "seed", "method", "backbone", "trial", "run", "task_number", "task", "epoch"]
_FOUND = [*_KEYS, "settled", "attempt", "configuration", "probability", "validation_accuracy"]
_WEIGHED = [*_KEYS, "settled", "configuration", "weight", "kind", "chosen"]


def findings_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Everything that methods found out about which blocks transfer: one row a finding.

    What networks that grow counted of their layers is in `units_frame`, and not here.

    Args:
        runs: unfinished ones are passed over.

    Returns:
        `comparison`, `stream`, `seed`, `method` (the label of the summary table), `backbone`, `trial`, `run` (its
        hash); `task_number` (from 1), `task`, `epoch` of the whole run; `settled`: whether the task was over;
        `attempt` that was kept; `configuration` as "0110"; its `probability` or its `validation_accuracy`, where the
        method has one; `block_1`, ...: the probability that each block transfers, NaN where there is none.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    return _frame(comparisons(runs))


def weights_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """What spoke for each configuration: one row for each that a finding weighed.

    Args:
        runs: unfinished ones are passed over.

    Returns:
        the first columns of `findings_frame`, `configuration`, its `weight`, the weight's `kind` ("probability" or
        "validation accuracy"), and whether it was the one `chosen`.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    rows = [
        {
            **key,
            "settled": found.settled,
            "configuration": configuration,
            "weight": weight,
            "kind": "probability" if found.blocks else "validation accuracy",
            "chosen": configuration == found.configuration,
        }
        for key, found in _rows(comparisons(runs))
        for configuration, weight in found.weights.items()
    ]
    return pd.DataFrame(rows, columns=None if rows else _WEIGHED)


def chosen_frame(comparison: Comparison) -> pd.DataFrame:
    """The settled rows of `findings_frame`: which configuration each task got."""
    frame = _frame([comparison])
    return frame.loc[frame["settled"].astype(bool)].drop(columns=["comparison", "settled"]).reset_index(drop=True)


def _frame(found: Iterable[Comparison]) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for key, one in _rows(found):
        weight = one.weights.get(one.configuration, math.nan)
        rows.append(
            {
                **key,
                "settled": one.settled,
                "attempt": one.attempt,
                "configuration": one.configuration,
                "probability": weight if one.blocks else math.nan,
                "validation_accuracy": math.nan if one.blocks else weight,
                **{
                    f"block_{place + 1}": one.blocks[place] if one.blocks else math.nan
                    for place in range(len(one.configuration))
                },
            }
        )
    return pd.DataFrame(rows, columns=None if rows else _FOUND).astype({"attempt": "Int64"})


def _rows(found: Iterable[Comparison]) -> Iterable[tuple[dict[str, object], FindingRecord]]:
    """Every finding on what transfers, after the columns that say what it is of."""
    for place, comparison in enumerate(found):
        for entry in comparison.entries:
            for trial in entry.trials:
                seed, number = trial.key
                for one in (found for found in trial.stored.findings if not found.counts):
                    task = trial.history.tasks.index(one.task) + 1
                    of = (place, comparison.stream, seed, entry.label, trial.stored.run.config.backbone, number)
                    what = (trial.stored.run.id, task, one.task, one.epoch)
                    yield dict(zip(_KEYS, (*of, *what), strict=True)), one
