"""What a tracker receives of what a run's method found out, and of how its costs grew: the report's numbers."""

import math
from collections.abc import Iterator

from everlearn import metrics
from everlearn.experiments.records import FindingRecord
from everlearn.report.groups import Trial

Points = dict[str, dict[int, float]]
"""By name of a curve, then by epoch of the whole run."""


def found_points(trial: Trial) -> Points:
    """What was weighed, and what was counted of the layers; what was settled counts before what was thought till then.

    `probability/0110` and `transfers/block 1` of methods that give them, `validation_accuracy/0110` of those that try
    configurations out, and `units/layer 1`, `added/layer 1` and so on, each when the task is over.
    """
    points: Points = {}
    for found in sorted(trial.stored.findings, key=lambda one: (one.epoch, one.settled)):
        for name, value in _numbers(found):
            if math.isfinite(value):
                points.setdefault(name, {})[found.epoch] = float(value)
    return points


def _numbers(found: FindingRecord) -> Iterator[tuple[str, float]]:
    if found.counts:
        for what, numbers in found.counts.items() if found.settled else ():
            yield from ((f"{what}/layer {place}", number) for place, number in enumerate(numbers, 1))
        return
    weighed = "probability" if found.blocks else "validation_accuracy"
    yield from ((f"{weighed}/{configuration}", weight) for configuration, weight in found.weights.items())
    yield from ((f"transfers/block {place}", share) for place, share in enumerate(found.blocks, 1))


def grown_points(trial: Trial) -> Points:
    """When each task was over: the mean performance of the tasks until then, and the seconds of training."""
    history = trial.history
    ends = [last for _, last in history.phases]  # of several that are over at once, the last counts
    columns = {
        "until_task/accuracy": metrics.average_by_stage(history, "accuracy"),
        "until_task/auroc": metrics.average_by_stage(history, "auroc"),
        "until_task/training_seconds": metrics.seconds_by_stage(history, trial.result.phase_seconds),
    }
    return {
        name: {end: float(value) for end, value in zip(ends, column, strict=True) if math.isfinite(value)}
        for name, column in columns.items()
    }


def chosen(trial: Trial) -> dict[str, str]:
    """Which configuration each task got, by the order of tasks; only of methods that choose one."""
    found = {one.task: one.configuration for one in trial.stored.findings if one.settled and not one.counts}
    return {task: found[task] for task in trial.history.tasks if task in found}
