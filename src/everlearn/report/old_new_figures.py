"""New tasks one after the other, and with fewer images: Li and Hoiem 2016, Figs. 4 and 5, of any comparison."""

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from everlearn import metrics
from everlearn.intervals import Interval, interval
from everlearn.metrics import Floats
from everlearn.report.drawing import curve_bounds, dotted_trials, jittered_lines
from everlearn.report.groups import Comparison, Entry, Trial, identity
from everlearn.report.old_new import HALVES, Half, final_values, has_old_and_new, measured, places
from everlearn.report.old_new_names import fraction, rank, short_labels
from everlearn.report.style import Style, dress, method_styles, padded, text

_CURVES = dict[str, tuple[list[int], list[Interval]]]


@dataclass(frozen=True)
class Sizes:
    """Comparisons that differ in the share of the training images alone.

    Attributes:
        stream: the stream's name.
        comparisons: by that share, the largest first.
        entries: by the method's label, then by share.
    """

    stream: str
    comparisons: dict[float, Comparison]
    entries: dict[str, dict[float, Entry]] = field(default_factory=dict)

    @property
    def styles(self) -> dict[str, Style]:
        """How its methods are drawn."""
        return method_styles(list(self.entries))


def has_several_new(comparison: Comparison) -> bool:
    """Whether new tasks were added one after the other."""
    return has_old_and_new(comparison) and any(len(places(trial).new) > 1 for trial in comparison.trials())


def stages(trial: Trial) -> Floats:
    """`[S, T]`: each task's test value when each stage was over: the old tasks come, then one new task at a time.

    Values are carried forward; NaN before a task was learned.
    """
    history = trial.history
    ends, filled = _ends(trial), metrics.forward_filled(history.test)
    found = np.full((len(ends), len(history.tasks)), np.nan)
    for stage, end in enumerate(ends):
        row = int(np.searchsorted(history.epochs, end, side="right")) - 1
        for task, (_, last) in enumerate(history.phases):
            if row >= 0 and last <= end:
                found[stage, task] = filled[row, task]
    return found


def stage_names(comparison: Comparison) -> list[str]:
    """What was learned at each stage; numbers alone where trials present the tasks in different orders."""
    first = comparison.trials()[0]
    names = _task_names(comparison)
    lasts = [last for _, last in first.history.phases]
    return [
        ", ".join(name for name, last in zip(names, lasts, strict=False) if last == end) or f"stage {place + 1}"
        for place, end in enumerate(_ends(first))
    ]


def stage_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """Each task's test value when each task had been learned, one panel a task (Li and Hoiem 2016, Fig. 4).

    A line a method, of means over trials, with 95 % confidence intervals.

    Returns:
        by the task's name; none if no more than one new task was added. Tasks without a value have no panel.
    """
    if not has_several_new(comparison):
        return {}
    names, first = _task_names(comparison), comparison.trials()[0]
    values = {entry.label: [stages(trial) for trial in entry.trials] for entry in comparison.entries}
    panels: dict[str, go.Figure] = {}
    for task, name in enumerate(names):
        curves = {label: _curve(found, task) for label, found in values.items()}
        curves = {label: curve for label, curve in curves.items() if curve[0]}
        if curves:
            old = ", given with the network" if first.history.given(task) else ""
            panels[f"{name}{old}"] = _stage_panel(comparison, curves, measured(first, [task]))
    return panels


def sizes(found: Sequence[Comparison]) -> list[Sizes]:
    """Every set of comparisons of old and new tasks that differ in the stream's option `fraction` alone."""
    groups: dict[str, list[dict[float, Comparison]]] = {}
    for one in filter(has_old_and_new, found):
        others = {name: value for name, value in one.options.items() if name != "fraction"}
        setting = [one.stream, sorted(others.items()), repr(one.training), one.tasks, bool(one.starts)]
        series = groups.setdefault(json.dumps(setting), [{}])
        # The same share again, from another trained network, begins a series of its own.
        free = next((each for each in series if fraction(one) not in each), None)
        if free is None:
            series.append(free := {})
        free[fraction(one)] = one
    return [_sizes(each) for series in groups.values() for each in series if len(each) > 1]


def size_figures(found: Sizes) -> dict[Half, go.Figure]:
    """Old and new tasks in the end against the share of training images (Li and Hoiem 2016, Fig. 5)."""
    return {half: _size_figure(found, half) for half in HALVES}


def _ends(trial: Trial) -> list[int]:
    return sorted({last for _, last in trial.history.phases})


def _task_names(comparison: Comparison) -> list[str]:
    orders = {trial.history.tasks for trial in comparison.trials()}
    if len(orders) == 1:
        return list(next(iter(orders)))
    return [f"task {place + 1}" for place in range(max(len(order) for order in orders))]


def _curve(trials: Sequence[Floats], task: int) -> tuple[list[int], list[Interval]]:
    """The stages at which any trial has a value of the task, and their intervals."""
    intervals = {
        stage: interval([found[stage, task] for found in trials if stage < len(found) and task < found.shape[1]])
        for stage in range(max(len(found) for found in trials))
    }
    known = [stage for stage, one in intervals.items() if one.n]
    return known, [intervals[stage] for stage in known]


def _stage_panel(comparison: Comparison, curves: _CURVES, what: str) -> go.Figure:
    figure, names = go.Figure(), stage_names(comparison)
    jittered_lines(figure, curves, method_styles(comparison.labels), [f"after {name}" for name in names])
    dress(figure, "task just learned", f"test {what}", 330)
    wrapped = ["<br>".join(text(part) for part in textwrap.wrap(name, 14)) for name in names]
    figure.update_xaxes(
        range=[-0.35, len(names) - 0.65], tickvals=list(range(len(names))), ticktext=wrapped, tickangle=0
    )
    bounds = curve_bounds(intervals for _, intervals in curves.values())
    figure.update_yaxes(range=padded(bounds), tickformat=".0%", nticks=7)
    return figure


def _sizes(series: dict[float, Comparison]) -> Sizes:
    ordered = dict(sorted(series.items(), reverse=True))
    every = [(share, entry) for share, one in ordered.items() for entry in one.entries]
    configs = {identity(entry.config): entry.config for _, entry in every}
    labels = short_labels(configs)
    entries: dict[str, dict[float, Entry]] = {
        labels[key]: {} for key in sorted(configs, key=lambda key: rank(labels[key], configs[key]))
    }
    for share, entry in every:
        entries[labels[identity(entry.config)]][share] = entry
    return Sizes(next(iter(ordered.values())).stream, ordered, entries)


def _size_figure(found: Sizes, half: Half) -> go.Figure:
    curves = {
        label: {share: [final_values(trial)[half] for trial in entry.trials] for share, entry in by_share.items()}
        for label, by_share in found.entries.items()
    }
    figure, shares = go.Figure(), list(found.comparisons)
    dotted_trials(figure, curves, found.styles, "with %{customdata} of the images")
    trial = next(iter(found.comparisons.values())).trials()[0]
    dress(
        figure, "share of the new tasks' training images", f"test {measured(trial, places(trial)._asdict()[half])}", 360
    )
    low, high = math.log10(shares[-1]), math.log10(shares[0])
    figure.update_xaxes(
        type="log",
        range=[high + 0.12, low - 0.12],
        tickvals=shares,
        ticktext=[f"{100 * share:.3g} %" for share in shares],
        minor={"showgrid": False, "ticks": ""},
    )
    values = [one for points in curves.values() for each in points.values() for one in each if not math.isnan(one)]
    figure.update_yaxes(range=padded(values, top=1.0) if values else [0, 1], tickformat=".0%", nticks=7)
    return figure
