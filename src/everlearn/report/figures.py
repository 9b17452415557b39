"""The figures of Lee et al. 2019, Figs. 3 and 4, as plotly figures of any comparison."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from everlearn import metrics
from everlearn.intervals import Interval, interval
from everlearn.metrics import Reference
from everlearn.report.drawing import banded_lines, curve_bounds, interval_bar
from everlearn.report.groups import Comparison, Entry
from everlearn.report.measures import shown
from everlearn.report.style import (
    REFERENCE_GREYS,
    dress,
    method_styles,
    padded,
    phase_ticks,
    task_colours,
    text,
)


@dataclass(frozen=True)
class _Line:
    """One task's accuracy: `x` epochs, `y` the mean over trials; `learned` points lie in its own phase.

    Of a `given` task, which came with a trained network, the first point says how it came.
    """

    x: list[int]
    y: list[float]
    learned: int
    given: bool


def task_names(comparison: Comparison) -> list[str]:
    """The tasks by order of presentation; numbers alone where trials present them in different orders."""
    orders = {trial.history.tasks for trial in comparison.trials()}
    tasks = max(len(order) for order in orders)
    if len(orders) > 1:
        return [f"task {place + 1}" for place in range(tasks)]
    return [f"{place + 1}: {name}" for place, name in enumerate(next(iter(orders)))]


def single_task_peaks(comparison: Comparison) -> list[tuple[Entry, float]]:
    """The mean peak of every entry of single-task learning: the dotted lines of the accuracy panels."""
    found = [
        (
            entry,
            interval([metrics.mean(metrics.peak_accuracy(trial.history)) for trial in entry.trials]).mean,
        )
        for entry in comparison.singles()
    ]
    return [(entry, peak) for entry, peak in found if not math.isnan(peak)]


def accuracy_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """Test accuracy of every task over the whole sequence, one panel a method (Lee et al. 2019, Fig. 4).

    A task's line begins with its learning phase, drawn thick, and goes on, thin, to the end of the run; that of a
    task that a trained network came with, with a point.
    Values are means over the trials of the task presented at that place. A task that was not evaluated again
    because it cannot have changed keeps its last value. Dotted: the mean peak accuracy of single-task
    learning.

    Returns:
        by the method's label; all panels have one range.
    """
    lines = {entry.label: _lines(entry) for entry in comparison.entries}
    peaks = single_task_peaks(comparison)
    values = [value for drawn in lines.values() for line in drawn for value in line.y]
    bounds = [*values, *(peak for _, peak in peaks)]
    scale = padded(bounds, top=1.0) if bounds else (0.0, 1.0)
    return {entry.label: _accuracy_panel(comparison, entry, lines[entry.label], scale) for entry in comparison.entries}


def forgetting_panels(comparison: Comparison) -> dict[Reference, go.Figure]:
    """Catastrophic forgetting ratio against epochs of training on later tasks, one line a method.

    The paper's Fig. 3(b) does not say how it averages over tasks. Here tasks are lined up at the end of their
    own phase, as in `metrics.forgetting_after`, then trials are averaged; bands are 95 % confidence intervals
    over trials.

    Returns:
        a panel by each task's `peak` (the paper's definition) and one by the accuracy at the `end` of its
        phase; none if no task was followed by another.
    """
    kinds: tuple[Reference, ...] = ("peak", "end")
    curves = {by: {entry.label: _forgetting(entry, by) for entry in comparison.entries} for by in kinds}
    bounds = curve_bounds(intervals for panel in curves.values() for _, intervals in panel.values())
    if not bounds:
        return {}
    scale = padded([*bounds, 1.0])
    return {by: _forgetting_panel(comparison, curves[by], scale) for by in kinds}


def convergence_figure(comparison: Comparison) -> go.Figure | None:
    """Epochs to 98 % of the peak, mean over tasks: a bar a method, its 95 % interval, and a dot a trial.

    None if no method has any.
    """
    drawn: list[tuple[Entry, list[float], Interval]] = []
    for entry in comparison.entries:
        values = [metrics.mean(metrics.convergence(trial.history)) for trial in entry.trials]
        if interval(values).n:
            drawn.append((entry, values, interval(values)))
    if not drawn:
        return None
    styles = method_styles(comparison.labels)
    figure = go.Figure()
    for place, (entry, values, found) in enumerate(drawn):
        interval_bar(figure, place, values, found, text(entry.label), styles[entry.label].colour, "%{x:.1f} epochs")
    labels = [_bar_label(entry.label, found) for entry, _, found in drawn]
    dress(figure, "epochs to 98 % of the peak", "", 70 + 46 * len(drawn))
    figure.update_layout(showlegend=False, title="Convergence")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(range(len(drawn))),
        ticktext=labels,
        autorange="reversed",
        showgrid=False,
        automargin=True,
    )
    return figure


def _accuracy_panel(
    comparison: Comparison, entry: Entry, lines: Sequence[_Line], scale: tuple[float, float]
) -> go.Figure:
    figure = go.Figure()
    names, colours = task_names(comparison), task_colours(len(task_names(comparison)))
    lasts = sorted({last for _, last in entry.trials[0].history.phases})
    for line, name, colour in zip(lines, names, colours, strict=False):
        stretches = (
            (line.x[: line.learned], line.y[: line.learned], 3.2, 1.0),
            # The thin part starts where the thick one ends.
            (line.x[max(0, line.learned - 1) :], line.y[max(0, line.learned - 1) :], 1.4, 0.9),
        )
        for thick, (x, y, width, opacity) in zip((True, False), stretches, strict=True):
            figure.add_scatter(
                x=x,
                y=y,
                mode="markers" if thick and line.given else "lines",
                name=text(name),
                legendgroup=text(name),
                showlegend=thick,
                opacity=opacity,
                line={"color": colour, "width": width},
                hovertemplate="%{y:.1%} after %{x} epochs<extra>" + text(name) + "</extra>",
                **({"marker": {"color": colour, "size": 8}, "cliponaxis": False} if thick and line.given else {}),
            )
    for (single, peak), grey in zip(single_task_peaks(comparison), REFERENCE_GREYS, strict=False):
        figure.add_scatter(
            x=[0, lasts[-1]],
            y=[peak, peak],
            mode="lines",
            name=text(f"mean peak of {single.label}"),
            line={"color": grey, "width": 1.6, "dash": "dot"},
            hovertemplate="%{y:.1%}<extra>" + text(f"mean peak of {single.label}") + "</extra>",
        )
    dress(figure, "epochs of the whole sequence", "test accuracy", 290)
    figure.update_layout(title=text(entry.label))
    figure.update_yaxes(range=scale, tickformat=".0%")
    figure.update_xaxes(range=[0, lasts[-1] or 1], **phase_ticks(sorted({0, *lasts})))
    return figure


def _lines(entry: Entry) -> list[_Line]:
    """Every task's curve, by order of presentation: the epochs at which all trials evaluated it."""
    drawn: list[_Line] = []
    for task in range(min(len(trial.history.tasks) for trial in entry.trials)):
        curves: list[dict[int, float]] = []
        for trial in entry.trials:
            epochs, values = trial.history.epochs, trial.history.test[:, task]
            first, last = trial.history.phases[task]
            rows = np.flatnonzero(~np.isnan(values) & ((epochs > first) | (epochs == last)))
            curves.append({int(epochs[row]): float(values[row]) for row in rows})
        x = sorted(set.intersection(*(set(curve) for curve in curves)))
        y = [float(np.mean([curve[epoch] for curve in curves])) for epoch in x]
        learned = sum(epoch <= entry.trials[0].history.phases[task][1] for epoch in x)
        end = max(last for _, last in entry.trials[0].history.phases)
        if x and x[-1] < end:
            x, y = [*x, end], [*y, y[-1]]
        drawn.append(_Line(x, y, learned, entry.trials[0].history.given(task)))
    return drawn


def _forgetting_panel(
    comparison: Comparison,
    curves: dict[str, tuple[list[int], list[Interval]]],
    scale: tuple[float, float],
) -> go.Figure:
    figure = go.Figure()
    banded_lines(figure, curves, method_styles(comparison.labels), "after %{x} epochs")
    ends = sorted({last for trial in comparison.trials() for _, last in trial.history.phases})
    dress(figure, "epochs trained on later tasks", "forgetting ratio", 360)
    figure.update_layout(title="Catastrophic forgetting")
    figure.update_yaxes(range=scale, tickformat=".2f")
    figure.update_xaxes(range=[0, ends[-1] - ends[0]], **phase_ticks([end - ends[0] for end in ends]))
    return figure


def _forgetting(entry: Entry, by: Reference) -> tuple[list[int], list[Interval]]:
    curves: list[dict[int, float]] = []
    for trial in entry.trials:
        distances, ratio = metrics.forgetting_after(trial.history, by)
        curves.append({int(d): float(r) for d, r in zip(distances, ratio, strict=True) if not math.isnan(r)})
    x = sorted(set.intersection(*(set(curve) for curve in curves)))
    return x, [interval([curve[distance] for curve in curves]) for distance in x]


def _bar_label(label: str, found: Interval) -> str:
    parts = [text(part) for part in textwrap.wrap(label, 22)]
    return "<br>".join([*parts, f"<b>{shown('epochs', found)}</b>"])
