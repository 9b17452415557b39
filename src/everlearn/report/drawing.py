"""Marks that several figures share: bars with intervals and trials, lines with bands."""

import math
from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from everlearn.intervals import Interval
from everlearn.report.style import INK, PALETTE, Style, faded, text

SYMBOLS = ("circle", "square-open", "diamond", "triangle-up-open")


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


def jittered_lines(
    figure: go.Figure,
    curves: Mapping[str, tuple[Sequence[int], Sequence[Interval]]],
    styles: Mapping[str, Style],
    steps: Sequence[str],
) -> None:
    """A line a label, and at its points, moved aside so that none hides another, the 95 % intervals.

    Args:
        figure: to draw on.
        curves: by label, the numbers of steps, from 0, and the intervals there.
        styles: by label.
        steps: what a step is called where the mouse points at it: `after a`.
    """
    for label, (x, intervals) in curves.items():
        _joined(figure, list(x), [one.mean for one in intervals], text(label), styles[label])
    for place, (label, (x, intervals)) in enumerate(curves.items()):
        moved = aside(place, len(curves), 0.28)
        halves = [0.0 if math.isnan(one.half_width) else one.half_width for one in intervals]
        colour = styles[label].colour
        figure.add_scatter(
            x=[one + moved for one in x],
            y=[one.mean for one in intervals],
            mode="markers",
            legendgroup=text(label),
            marker={"color": colour, "size": 6, "symbol": _symbol(label, styles)},
            error_y={"type": "data", "array": halves, "color": colour, "thickness": 1.3, "width": 2.5},
            customdata=[text(steps[one]) for one in x],
            hovertemplate="%{y:.1%} %{customdata}<extra>" + text(label) + "</extra>",
            showlegend=False,
            cliponaxis=False,
        )


def dotted_trials(
    figure: go.Figure, curves: Mapping[str, Mapping[float, Sequence[float]]], styles: Mapping[str, Style], where: str
) -> None:
    """On an axis of powers: a line a label through the means, and around it a dot a trial, moved aside.

    Args:
        figure: to draw on.
        curves: by label and x the trials' values; NaN is left out.
        styles: by label.
        where: plotly's template of what x is: `with %{customdata}`.
    """
    known = {
        label: {x: found for x, values in points.items() if (found := [one for one in values if not math.isnan(one)])}
        for label, points in curves.items()
    }
    for label, points in known.items():
        means = [sum(values) / len(values) for values in points.values()]
        _joined(figure, list(points), means, text(label), styles[label])
    for place, (label, points) in enumerate(known.items()):
        dots = [(x, one) for x, values in points.items() for one in values]
        figure.add_scatter(
            x=[x * 10 ** aside(place, len(known), 0.11) for x, _ in dots],
            y=[one for _, one in dots],
            mode="markers",
            legendgroup=text(label),
            marker={"color": styles[label].colour, "size": 6, "opacity": 0.75, "symbol": _symbol(label, styles)},
            customdata=[f"{x:.3g}" for x, _ in dots],
            hovertemplate="one trial: %{y:.1%} " + where + "<extra>" + text(label) + "</extra>",
            showlegend=False,
        )


def aside(place: int, of: int, width: float) -> float:
    """How far the marks of one of several labels are moved, so that all of them spread over that width."""
    return width * (place / (of - 1) - 0.5) if of > 1 else 0.0


def _symbol(label: str, styles: Mapping[str, Style]) -> str:
    """Points have no dash that would tell two methods of one colour apart."""
    return SYMBOLS[list(styles).index(label) // len(PALETTE) % len(SYMBOLS)]


def _joined(figure: go.Figure, x: list[float], y: list[float], name: str, style: Style) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name=name,
        legendgroup=name,
        line={"color": style.colour, "dash": style.dash, "width": 2.2},
        hoverinfo="skip",
    )
