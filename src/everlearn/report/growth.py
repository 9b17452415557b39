"""What the figures of Yoon et al. 2018 show of a comparison: performance by task, by size and by time, and units.

Performance is AUROC in comparisons that measured it, else test accuracy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from everlearn import metrics
from everlearn.intervals import Interval, interval
from everlearn.metrics import Floats, Measured
from everlearn.report.capacity import base_backbone
from everlearn.report.groups import Comparison, Entry, Trial, identity, label_of

JOINT = ("mtl", "joint")
"""The methods that see all tasks' images at once: like single-task learning, they are drawn as references."""

Curve = tuple[list[int], list[Interval]]
"""Numbers of tasks, and the intervals there."""


@dataclass(frozen=True)
class Sized:
    """One method on all backbones that it was run on.

    Attributes:
        name: its name, and options where the name alone would be ambiguous.
        entries: from the smallest network to the largest.
        main: the one on the base backbone; where there is none, the first by label.
    """

    name: str
    entries: tuple[Entry, ...]
    main: Entry

    @property
    def reference(self) -> bool:
        """Whether it sees tasks alone, or all at once, rather than one after the other."""
        return self.main.single_task or self.main.config.method in JOINT


def sized(comparison: Comparison) -> list[Sized]:
    """The methods of a comparison, in its order, each with all its sizes."""
    base = base_backbone(comparison)
    plain = {entry.label: entry.config.model_copy(update={"backbone": ""}) for entry in comparison.entries}
    groups: dict[str, list[Entry]] = {}
    for entry in comparison.entries:
        groups.setdefault(identity(plain[entry.label]), []).append(entry)
    return [
        Sized(
            label_of(plain[entries[0].label], list(plain.values())),
            tuple(sorted(entries, key=parameters)),
            next((entry for entry in entries if entry.config.backbone == base), entries[0]),
        )
        for entries in groups.values()
    ]


def by(comparison: Comparison) -> Measured:
    """What performance is measured by."""
    known = any(trial.history.auroc is not None for trial in comparison.trials())
    return "auroc" if known else "accuracy"


def parameters(entry: Entry) -> float:
    """Parameters after the last task, mean over trials."""
    return float(np.mean([trial.result.parameters.get("total", math.nan) for trial in entry.trials]))


def final(entry: Entry, measured: Measured) -> Interval:
    """The mean performance of all tasks in the end."""
    return interval([metrics.final_average(trial.history, measured) for trial in entry.trials])


def averages(entry: Entry, measured: Measured) -> Curve:
    """When each task was over, the mean performance of the tasks until then (Fig. 3, top)."""
    return curve([metrics.average_by_stage(trial.history, measured) for trial in entry.trials])


def course(entry: Entry, task: int, measured: Measured) -> Curve:
    """One task's performance when it, and each later one, was over (Fig. 5); nothing of a task that nothing follows."""
    stages = [metrics.performance_by_stage(trial.history, measured) for trial in entry.trials]
    found = curve([stage[:, task] for stage in stages if task < stage.shape[1]])
    return found if len(found[0]) > 1 else ([], [])


def over_time(entry: Entry, measured: Measured) -> list[tuple[float, float]]:
    """When each task was over: seconds of training until then, and mean performance of the tasks until then (Fig. 4 a).

    Means over trials. In the multi-task protocol, where all tasks are over at once, a single point.
    """
    seconds = curve([seconds_by_stage(trial) for trial in entry.trials])
    values = averages(entry, measured)
    means = {number: one.mean for number, one in zip(*values, strict=True)}
    points = {one.mean: means[number] for number, one in zip(*seconds, strict=True) if number in means}
    return list(points.items())


def seconds_by_stage(trial: Trial) -> Floats:
    """`[T]`: seconds of training when each task was over; NaN where they were not recorded."""
    return metrics.seconds_by_stage(trial.history, trial.result.phase_seconds)


def watched(comparison: Comparison) -> list[int]:
    """The positions of three tasks to be followed: the first, and those at one and two thirds of the way.

    Of ten tasks the first, the fourth and the seventh, as in Fig. 5. The last is not among them: nothing follows it.
    """
    tasks = min(len(trial.history.tasks) for trial in comparison.trials())
    found = sorted({round((tasks - 1) * third / 3) for third in range(3)})
    return [task for task in found if task < tasks - 1]


def growing(comparison: Comparison) -> list[Entry]:
    """The entries that counted their units."""
    return [entry for entry in comparison.entries if any(counts(trial, "units") for trial in entry.trials)]


def counts(trial: Trial, what: str) -> dict[int, list[int]]:
    """What was counted of each layer when a task was settled, by the task's position; only tasks that have it."""
    found = {one.task: one.counts.get(what, []) for one in trial.stored.findings if one.settled and one.counts}
    return {place: found[task] for place, task in enumerate(trial.history.tasks) if found.get(task)}


def layers(entry: Entry) -> int:
    """How many layers were counted."""
    return max((len(each) for trial in entry.trials for each in counts(trial, "units").values()), default=0)


def over_layers(entry: Entry, of: Callable[[Trial, int], float]) -> list[Interval]:
    """For each layer the interval over trials of a number that a trial has of it."""
    return [interval([of(trial, layer) for trial in entry.trials]) for layer in range(layers(entry))]


def units_at(entry: Entry, place: int) -> list[Interval]:
    """For each layer how many units the task presented at that place sees; -1: the last."""
    return over_layers(entry, lambda trial, layer: _at(trial, "units", place, layer))


def mean_selected(entry: Entry) -> list[Interval]:
    """For each layer how many units were selected, mean over the tasks but the first (Fig. 4 b).

    The first task has nothing to select from: all its units are new.
    """
    return over_layers(entry, lambda trial, layer: metrics.mean(_later(trial, "selected", layer)))


def mean_share(entry: Entry) -> list[Interval]:
    """For each layer the share of units selected, of those that the task before saw; mean over tasks but the first."""
    return over_layers(entry, lambda trial, layer: metrics.mean(_shares(trial, layer)))


def total(entry: Entry, what: str) -> list[Interval]:
    """For each layer how many units were added, or split, over all tasks."""

    def summed(trial: Trial, layer: int) -> float:
        known = [each[layer] for each in counts(trial, what).values() if layer < len(each)]
        return float(sum(known)) if known else math.nan

    return over_layers(entry, summed)


def curve(rows: Sequence[Floats]) -> Curve:
    """Intervals over trials at the numbers of tasks, from 1, at which every trial has a value."""
    known = [
        (place + 1, values)
        for place, values in enumerate(zip(*(row.tolist() for row in rows), strict=False))
        if not any(math.isnan(value) for value in values)
    ]
    return [number for number, _ in known], [interval(values) for _, values in known]


def _at(trial: Trial, what: str, place: int, layer: int) -> float:
    found = counts(trial, what)
    each = found.get(place if place >= 0 else max(found, default=0), [])
    return float(each[layer]) if layer < len(each) else math.nan


def _later(trial: Trial, what: str, layer: int) -> Floats:
    return np.array([_at(trial, what, place, layer) for place in counts(trial, what) if place > 0], dtype=np.float64)


def _shares(trial: Trial, layer: int) -> Floats:
    places = [place for place in counts(trial, "selected") if place > 0]
    before = np.array([_at(trial, "units", place - 1, layer) for place in places], dtype=np.float64)
    return _later(trial, "selected", layer) / np.where(before > 0, before, np.nan)
