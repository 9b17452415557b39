"""Performance by task, by size and by time, and units of layers that grow: Yoon et al. 2018, Figs. 3 to 6."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from everlearn.intervals import Interval, interval
from everlearn.metrics import MEASURED, Measured
from everlearn.report.capacity import multi_task_size, relative
from everlearn.report.drawing import SYMBOLS, banded_lines, curve_bounds
from everlearn.report.figures import task_names
from everlearn.report.groups import Comparison, Entry
from everlearn.report.growth import (
    Curve,
    Sized,
    averages,
    by,
    course,
    final,
    growing,
    layers,
    mean_selected,
    mean_share,
    over_time,
    sized,
    units_at,
    watched,
)
from everlearn.report.measures import time_unit
from everlearn.report.style import (
    PALETTE,
    REFERENCE_GREYS,
    Style,
    dress,
    method_styles,
    padded,
    task_colours,
    text,
)

_GREY = "#8b949e"


def growth_styles(comparison: Comparison) -> dict[str, Style]:
    """How each method is drawn: as in the other figures where it has one size, and references grey and dotted."""
    methods = sized(comparison)
    plain = method_styles([one.name for one in methods])
    if len(comparison.labels) == len(methods) <= len(PALETTE):
        plain = dict(zip(plain, method_styles(comparison.labels).values(), strict=True))
    # Dots are left to the references, which a grey printer would not tell from a method otherwise.
    plain = {name: Style(one.colour, "longdashdot" if one.dash == "dot" else one.dash) for name, one in plain.items()}
    references = [one.name for one in methods if one.reference]
    greys = {name: Style(REFERENCE_GREYS[place % len(REFERENCE_GREYS)], "dot") for place, name in enumerate(references)}
    return plain | greys


def average_figure(comparison: Comparison) -> go.Figure | None:
    """When each task was over, the mean performance of the tasks until then: a line a method (Fig. 3, top; Fig. 6).

    Bands are 95 % confidence intervals over trials. None if nothing was measured.
    """
    measured = by(comparison)
    curves = {one.name: averages(one.main, measured) for one in sized(comparison)}
    return _lines(comparison, curves, f"mean {MEASURED[measured]} until then", 380)


def drift_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """The performance of an early, a middle and a later task when it, and each later task, was over (Fig. 5).

    Returns:
        by the task's name; all panels have one range.
    """
    measured, names = by(comparison), task_names(comparison)
    curves = {
        task: {one.name: course(one.main, task, measured) for one in sized(comparison)} for task in watched(comparison)
    }
    bounds = curve_bounds(intervals for lines in curves.values() for _, intervals in lines.values())
    panels = {names[task]: _lines(comparison, lines, MEASURED[measured], 320, bounds) for task, lines in curves.items()}
    return {name: panel for name, panel in panels.items() if panel is not None}


def capacity_figure(comparison: Comparison) -> go.Figure | None:
    """The performance in the end over capacity: a point for each size of a method, joined by a line (Fig. 3, bottom).

    Whiskers are 95 % confidence intervals over trials. None where no capacity is known.
    """
    measured, styles, figure = by(comparison), growth_styles(comparison), go.Figure()
    size = multi_task_size(comparison)
    found = {one.name: points for one in sized(comparison) if (points := _points(one, size, measured))}
    if not found:
        return None
    for place, (name, points) in enumerate(found.items()):
        _add_points(figure, name, points, styles[name], SYMBOLS[place // len(PALETTE) % len(SYMBOLS)])
    figure.add_vline(x=100, line={"color": _GREY, "width": 1, "dash": "dot"})
    sizes = [100 * point[1].mean for points in found.values() for point in points]
    values = curve_bounds([point[2]] for points in found.values() for point in points)
    dress(figure, "capacity, % of the multi-task network", f"mean {MEASURED[measured]} in the end", 380)
    figure.update_layout(title="Performance over capacity")
    figure.update_xaxes(range=[0, 1.06 * max(100.0, *sizes)], nticks=7)
    figure.update_yaxes(range=padded(values, top=1.0), tickformat=_digits(measured, values))
    return figure


def time_figure(comparison: Comparison) -> go.Figure | None:
    """The mean performance when each task was over, against the training time until then (Fig. 4 a).

    None where times of phases were not recorded.
    """
    measured, styles, figure = by(comparison), growth_styles(comparison), go.Figure()
    found = {one.name: points for one in sized(comparison) if (points := over_time(one.main, measured))}
    if not found:
        return None
    unit, scale = time_unit(max(seconds for points in found.values() for seconds, _ in points))
    for name, points in found.items():
        style = styles[name]
        figure.add_scatter(
            x=[seconds / scale for seconds, _ in points],
            y=[value for _, value in points],
            mode="lines+markers",
            name=text(name),
            legendgroup=text(name),
            line={"color": style.colour, "dash": style.dash, "width": 2.2},
            marker={"size": 6},
            hovertemplate="%{y:.3f} after %{x:.3~g} " + unit + "<extra>" + text(name) + "</extra>",
        )
    dress(figure, f"training time, {unit}", f"mean {MEASURED[measured]} until then", 380)
    figure.update_layout(title="Performance over training time")
    figure.update_xaxes(rangemode="tozero", nticks=7)
    values = [value for points in found.values() for _, value in points]
    figure.update_yaxes(range=padded(values, top=1.0), tickformat=_digits(measured, values))
    return figure


def selected_figure(comparison: Comparison) -> go.Figure | None:
    """How many units of each layer were selected for a new task: a bar a method (Fig. 4 b).

    Means over the tasks but the first, and over trials, with 95 % confidence intervals. None if nothing was selected.
    """
    figure, styles, most = go.Figure(), growing_styles(comparison), 0
    for entry in growing(comparison):
        found, shares = mean_selected(entry), mean_share(entry)
        if not any(one.n for one in found):
            continue
        most = max(most, len(found))
        figure.add_bar(
            x=list(range(1, len(found) + 1)),
            y=[one.mean for one in found],
            name=text(entry.label),
            legendgroup=text(entry.label),
            marker={"color": styles[entry.label].colour},
            opacity=0.85,
            error_y=_whiskers(found, "#24292f"),
            customdata=[one.mean for one in shares],
            hovertemplate="layer %{x}: %{y:.1f} units, %{customdata:.0%}<extra>" + text(entry.label) + "</extra>",
        )
    if not most:
        return None
    dress(figure, "layer, from the image to the head", "units selected for a new task", 320)
    figure.update_layout(barmode="group", bargap=0.3, bargroupgap=0.06, title="Selected units")
    figure.update_xaxes(tickvals=list(range(1, most + 1)))
    figure.update_yaxes(rangemode="tozero")
    return figure


def unit_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """How many units of each layer each task sees: a panel a method, a line a layer, means over trials.

    Returns:
        by label; all panels have one range.
    """
    entries, styles = growing(comparison), layer_styles(comparison)
    found = {entry.label: _unit_curves(entry, list(styles)) for entry in entries}
    bounds = curve_bounds(intervals for curves in found.values() for _, intervals in curves.values())
    panels: dict[str, go.Figure] = {}
    for label, curves in found.items():
        figure = go.Figure()
        banded_lines(figure, curves, styles, "units for task %{x}")
        figure.update_traces(hovertemplate="%{y:.1f} units for task %{x}<extra>%{fullData.name}</extra>")
        dress(figure, "task, by order of presentation", "units", 300)
        numbers = sorted({number for x, _ in curves.values() for number in x})
        figure.update_layout(title=text(label))
        figure.update_xaxes(**_task_axis(numbers))
        figure.update_yaxes(range=[0, 1.06 * max(bounds, default=1.0)])
        panels[label] = figure
    return panels


def growing_styles(comparison: Comparison) -> dict[str, Style]:
    """How the methods that count units are drawn, by label."""
    names = {entry.label: one.name for one in sized(comparison) for entry in one.entries}
    labels, styles = [entry.label for entry in growing(comparison)], growth_styles(comparison)
    if len({names[label] for label in labels}) < len(labels):
        return method_styles(labels)
    return {label: styles[names[label]] for label in labels}


def layer_styles(comparison: Comparison) -> dict[str, Style]:
    """The line of each layer, from dark to light, by its name in legends."""
    number = max((layers(entry) for entry in growing(comparison)), default=0)
    names = [f"layer {layer + 1}{', nearest the image' if layer == 0 else ''}" for layer in range(number)]
    return {name: Style(_hex(colour), "solid") for name, colour in zip(names, task_colours(number), strict=True)}


def _lines(
    comparison: Comparison, curves: Mapping[str, Curve], title: str, height: int, bounds: Sequence[float] = ()
) -> go.Figure | None:
    """A line a method over tasks, in the range of `bounds` or of their own."""
    drawn = {name: curve for name, curve in curves.items() if curve[0]}
    bounds = bounds or curve_bounds(intervals for _, intervals in drawn.values())
    if not drawn or not bounds:
        return None
    figure = go.Figure()
    banded_lines(figure, drawn, growth_styles(comparison), "after %{x} tasks")
    dress(figure, "tasks learned", title, height)
    figure.update_xaxes(**_task_axis(sorted({number for x, _ in drawn.values() for number in x})))
    figure.update_yaxes(range=padded(bounds, top=1.0), tickformat=_digits(by(comparison), bounds))
    return figure


def _points(one: Sized, size: float, measured: Measured) -> list[tuple[str, Interval, Interval]]:
    """Backbone, capacity and performance of each size of a method, where both are known."""
    found = [
        (entry.config.backbone, interval([relative(trial, size) for trial in entry.trials]), final(entry, measured))
        for entry in one.entries
    ]
    return [point for point in found if point[1].n and point[2].n]


def _add_points(
    figure: go.Figure, name: str, points: Sequence[tuple[str, Interval, Interval]], style: Style, symbol: str
) -> None:
    colour = style.colour
    widths = [Interval(100 * size.mean, 100 * size.half_width, size.n) for _, size, _ in points]
    figure.add_scatter(
        x=[size.mean for size in widths],
        y=[value.mean for _, _, value in points],
        mode="lines+markers",
        name=text(name),
        legendgroup=text(name),
        line={"color": colour, "dash": style.dash, "width": 2},
        marker={"size": 10, "symbol": symbol, "color": colour, "line": {"color": "white", "width": 1}},
        error_x=_whiskers(widths, colour),
        error_y=_whiskers([value for _, _, value in points], colour),
        customdata=[text(backbone) for backbone, _, _ in points],
        hovertemplate="%{y:.3f} at %{x:.1f} %, %{customdata}<extra>" + text(name) + "</extra>",
        cliponaxis=False,
    )


def _whiskers(found: Sequence[Interval], colour: str) -> dict[str, object]:
    halves = [0.0 if math.isnan(one.half_width) else one.half_width for one in found]
    return {"type": "data", "array": halves, "color": colour, "thickness": 1.3, "width": 3, "visible": any(halves)}


def _unit_curves(entry: Entry, names: Sequence[str]) -> dict[str, Curve]:
    tasks = max(len(trial.history.tasks) for trial in entry.trials)
    by_task = [units_at(entry, place) for place in range(tasks)]
    curves: dict[str, Curve] = {}
    for layer in range(layers(entry)):
        known = [(place + 1, found[layer]) for place, found in enumerate(by_task) if found[layer].n]
        curves[names[layer]] = [number for number, _ in known], [one for _, one in known]
    return curves


def _task_axis(numbers: Sequence[int]) -> dict[str, Any]:
    return {"range": [numbers[0] - 0.3, numbers[-1] + 0.3], "dtick": math.ceil((numbers[-1] - numbers[0] + 1) / 10)}


def _digits(measured: Measured, values: Sequence[float]) -> str:
    """So many digits that neighbouring ticks differ."""
    wide = max(values) - min(values) > 0.05
    if measured == "accuracy":
        return ".0%" if wide else ".1%"
    return ".2f" if wide else ".3f"


def _hex(colour: str) -> str:
    """`rgb(1, 2, 3)` as `#010203`."""
    return "#" + "".join(f"{int(part):02x}" for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
