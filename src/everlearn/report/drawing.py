"""Marks that several figures share: bars with intervals and trials, lines with bands."""

import math
from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from everlearn.intervals import Interval
from everlearn.report.style import INK, Style, faded, text


def interval_bar(
    figure: go.Figure, place: int, values: Sequence[float], found: Interval, name: str, colour: str, shown: str
) -> None:
    """A horizontal bar at that place of the upright axis: a mean, its 95 % interval, and a dot a trial.

    Args:
        figure: to draw on.
        place: of the bar, a whole number.
        values: of the trials; NaN is left out.
        found: their mean and interval.
        name: of the legend's entry, escaped.
        colour: of the bar.
        shown: plotly's template of a value: `%{x:.1f} epochs`.
    """
    half = 0.0 if math.isnan(found.half_width) else found.half_width
    figure.add_bar(
        x=[found.mean],
        y=[place],
        orientation="h",
        name=name,
        legendgroup=name,
        marker={"color": colour},
        opacity=0.8,
        width=0.62,
        error_x={"type": "data", "array": [half], "color": INK, "thickness": 1.5, "width": 5, "visible": half > 0},
        hovertemplate=shown + "<extra></extra>",
    )
    dots = [value for value in values if not math.isnan(value)]
    figure.add_scatter(
        x=dots,
        y=[place + 0.16] * len(dots),
        mode="markers",
        legendgroup=name,
        marker={"color": "white", "size": 6, "line": {"color": INK, "width": 1}},
        hovertemplate=f"one trial: {shown}<extra></extra>",
        showlegend=False,
    )


def banded_lines(
    figure: go.Figure,
    curves: Mapping[str, tuple[Sequence[int], Sequence[Interval]]],
    styles: Mapping[str, Style],
    where: str,
) -> None:
    """A line a label, and behind all lines the bands of their 95 % intervals.

    Args:
        figure: to draw on.
        curves: by label, x and the intervals there; a curve with an interval of no width has no band.
        styles: by label.
        where: plotly's template of what x is: `after %{x} epochs`.
    """
    for label, (x, intervals) in curves.items():
        if x and all(not math.isnan(one.half_width) for one in intervals):
            upper = [one.mean + one.half_width for one in intervals]
            lower = [one.mean - one.half_width for one in intervals]
            figure.add_scatter(
                x=[*x, *reversed(x)],
                y=[*upper, *reversed(lower)],
                mode="lines",
                fill="toself",
                fillcolor=faded(styles[label].colour, 0.13),
                line={"width": 0},
                legendgroup=text(label),
                hoverinfo="skip",
                showlegend=False,
            )
    for label, (x, intervals) in curves.items():
        figure.add_scatter(
            x=list(x),
            y=[one.mean for one in intervals],
            mode="lines+markers" if len(x) < 12 else "lines",
            name=text(label),
            legendgroup=text(label),
            line={"color": styles[label].colour, "dash": styles[label].dash, "width": 2.4},
            marker={"size": 6},
            hovertemplate="%{y:.3f} " + where + "<extra>" + text(label) + "</extra>",
        )


def curve_bounds(curves: Iterable[Sequence[Interval]]) -> list[float]:
    """Everything that an axis has to hold to show lines and their bands."""
    return [
        value
        for intervals in curves
        for one in intervals
        for value in (one.mean, one.mean - one.half_width, one.mean + one.half_width)
        if not math.isnan(value)
    ]
