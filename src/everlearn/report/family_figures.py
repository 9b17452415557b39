"""Static configurations of a sharing rule beside the methods that choose: Lee et al. 2021, Figs. 1, 3 and 7."""

import math
import textwrap
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from everlearn.intervals import Interval
from everlearn.report.drawing import banded_lines, curve_bounds, interval_bar
from everlearn.report.families import ALL, Family, families, kept, kept_by_task, peak
from everlearn.report.groups import Comparison, Entry
from everlearn.report.measures import shown
from everlearn.report.style import DASHES, INK, PALETTE, Style, dress, faded, padded, text

BEST, OTHERS = "best static configuration", "other static configurations"
_GREY = "#9aa4ae"
_SEARCHES = {"lasem": PALETTE[1], "brute-force": PALETTE[2], "darts": PALETTE[3]}
"""Their colours in every figure of this file; All is blue and LASEM red, as in the paper."""


def role_styles(found: Sequence[Family]) -> dict[str, Style]:
    """How All, the best and the other static configurations, and each search are drawn, in every panel alike."""
    names = dict.fromkeys(search.name for family in found for search in family.searches)
    spare = [colour for colour in PALETTE[4:] if colour not in _SEARCHES.values()]
    styles = {ALL: Style(PALETTE[0], "solid"), BEST: Style(INK, "dash"), OTHERS: Style(_GREY, "solid")}
    for place, name in enumerate(names):
        colour = _SEARCHES.get(name, spare[place % len(spare)])
        styles[name] = Style(colour, DASHES[(place + 2) % len(DASHES)] if name != "lasem" else "solid")
    return styles


def static_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """Mean peak accuracy of every static configuration, one panel a rule (Lee et al. 2021, Fig. 1).

    Searches over the same rule are upright lines, with bands as wide as their 95 % intervals.

    Returns:
        by the rule's name, for rules with two static configurations or more; all panels have one range.
    """
    every = families(comparison)
    found = [family for family in every if len(family.statics) > 1]
    entries = [one.entry for family in found for one in (*family.statics, *family.searches)]
    values = [value for entry in entries for value in peak(entry)[0] if not math.isnan(value)]
    if not values:
        return {}
    scale = padded([*values, *curve_bounds([peak(entry)[1]] for entry in entries)], top=1.0)
    styles = role_styles(every)
    return {family.name: _static_panel(family, styles, scale) for family in found}


def range_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """What a search reaches within the range of static configurations (Lee et al. 2021, Fig. 3).

    Returns:
        `peak`, the mean peak accuracy, and `forgetting`, the mean forgetting ratio after all tasks, where there is
        one; of the rules that have All and a search.
    """
    every = families(comparison)
    found = [family for family in every if family.whole and family.searches]
    panels = {
        "peak": _range_panel(found, role_styles(every), peak, "mean peak accuracy", ".0%"),
        "forgetting": _range_panel(found, role_styles(every), kept, "forgetting ratio after all tasks", ".2f"),
    }
    return {name: panel for name, panel in panels.items() if panel is not None}


def forgetting_by_task_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """The forgetting ratio after each task, one panel a rule (Lee et al. 2021, Fig. 7).

    Lines are All, the static configuration with the best mean peak accuracy, and the searches.

    Returns:
        by the rule's name, for rules with two such lines or more; all panels have one range.
    """
    every = families(comparison)
    curves = {family.name: _forgetting_lines(family) for family in every}
    curves = {name: lines for name, lines in curves.items() if len(lines) > 1}
    bounds = curve_bounds(intervals for lines in curves.values() for _, intervals in lines.values())
    if not bounds:
        return {}
    scale, styles = padded([*bounds, 1.0]), role_styles(every)
    panels: dict[str, go.Figure] = {}
    for name, lines in curves.items():
        figure = go.Figure()
        banded_lines(figure, lines, styles, "after %{x} tasks")
        numbers = sorted({number for x, _ in lines.values() for number in x})
        dress(figure, "tasks learned", "forgetting ratio", 320)
        figure.update_layout(title=text(name))
        figure.update_xaxes(range=[numbers[0] - 0.2, numbers[-1] + 0.2], dtick=math.ceil(len(numbers) / 10))
        figure.update_yaxes(range=scale, tickformat=".2f")
        panels[name] = figure
    return panels


def best_names(comparison: Comparison) -> dict[str, str]:
    """For each rule the name of its best static configuration."""
    return {family.name: family.best.name for family in families(comparison) if family.best}


def _forgetting_lines(family: Family) -> dict[str, tuple[list[int], list[Interval]]]:
    drawn: dict[str, Entry] = {}
    if family.whole:
        drawn[ALL] = family.whole.entry
    if family.best and family.best is not family.whole:
        drawn[BEST] = family.best.entry
    drawn |= {search.name: search.entry for search in family.searches}
    curves = {name: kept_by_task(entry) for name, entry in drawn.items()}
    return {name: curve for name, curve in curves.items() if curve[0]}


def _static_panel(family: Family, styles: dict[str, Style], scale: tuple[float, float]) -> go.Figure:
    figure = go.Figure()
    for search in family.searches:
        _reference(figure, search.name, peak(search.entry)[1], styles[search.name], len(family.statics))
    labels: list[str] = []
    for place, static in enumerate(family.statics):
        values, found = peak(static.entry)
        role = ALL if static.name == ALL else OTHERS
        interval_bar(figure, place, values, found, text(role), styles[role].colour, "%{x:.1%}")
        labels.append(f"{text(static.name)}  <b>{shown('%', found)}</b>")
    dress(figure, "mean peak accuracy", "", 74 + 32 * len(family.statics))
    figure.update_layout(title=text(family.name), barmode="overlay")
    figure.update_xaxes(range=scale, tickformat=".0%", nticks=5, tickangle=0)
    figure.update_yaxes(
        range=[len(labels) - 0.45, -0.55], tickvals=list(range(len(labels))), ticktext=labels, showgrid=False
    )
    return figure


def _reference(figure: go.Figure, name: str, found: Interval, style: Style, rows: int) -> None:
    """An upright line at a search's mean, in the band of its interval."""
    low, high = -0.55, rows - 0.45
    if not math.isnan(found.half_width):
        left, right = found.mean - found.half_width, found.mean + found.half_width
        figure.add_scatter(
            x=[left, right, right, left],
            y=[low, low, high, high],
            mode="lines",
            fill="toself",
            fillcolor=faded(style.colour, 0.13),
            line={"width": 0},
            legendgroup=text(name),
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_scatter(
        x=[found.mean, found.mean],
        y=[low, high],
        mode="lines",
        name=text(name),
        legendgroup=text(name),
        line={"color": style.colour, "dash": style.dash, "width": 2.4},
        hovertemplate="%{x:.1%}<extra>" + text(name) + "</extra>",
    )


def _range_panel(
    found: Sequence[Family],
    styles: dict[str, Style],
    of: Callable[[Entry], tuple[list[float], Interval]],
    title: str,
    digits: str,
) -> go.Figure | None:
    figure, seen, labels = go.Figure(), list[float](), list[str]()
    for family in found:
        whole = of(family.whole.entry)[1] if family.whole else None
        means = [mean for static in family.statics if not math.isnan(mean := of(static.entry)[1].mean)]
        if whole is None or not whole.n:
            continue
        place = len(labels)
        _box(figure, place, means, whole.mean, styles[ALL], digits)
        dots = [(search.name, of(search.entry)[1]) for search in family.searches]
        for turn, (name, dot) in enumerate(dots):
            _dot(figure, place + 0.16 * (turn - (len(dots) - 1) / 2), name, dot, styles[name], digits)
        seen += [*means, *curve_bounds([[dot for _, dot in dots]])]
        wrapped = "<br>".join(text(part) for part in textwrap.wrap(family.name, 16))
        labels.append(f"{wrapped}<br><i>{len(means)} static</i>")
    if not seen:
        return None
    dress(figure, "", title, 360)
    figure.update_layout(title=text(title))
    figure.update_xaxes(range=[-0.6, len(labels) - 0.4], tickvals=list(range(len(labels))), ticktext=labels)
    figure.update_yaxes(range=padded(seen, top=1.0 if digits.endswith("%") else math.inf), tickformat=digits)
    return figure


def _box(figure: go.Figure, place: int, means: Sequence[float], whole: float, style: Style, digits: str) -> None:
    """The range of the static configurations, and the line of the one that transfers everything."""
    left, right, low, high = place - 0.28, place + 0.28, min(means), max(means)
    figure.add_scatter(
        x=[left, right, right, left, left],
        y=[low, low, high, high, low],
        mode="lines",
        fill="toself",
        fillcolor=faded("#57606a", 0.07),
        line={"color": INK, "width": 1.6},
        hoverinfo="text",
        text=f"static configurations: {low:{digits}} to {high:{digits}}",
        name=text(OTHERS),
        legendgroup=text(OTHERS),
    )
    figure.add_scatter(
        x=[left, right],
        y=[whole, whole],
        mode="lines",
        name=text(ALL),
        legendgroup=text(ALL),
        line={"color": style.colour, "width": 3.5},
        hovertemplate=f"%{{y:{digits}}}<extra>{text(ALL)}</extra>",
    )


def _dot(figure: go.Figure, place: float, name: str, found: Interval, style: Style, digits: str) -> None:
    half = 0.0 if math.isnan(found.half_width) else found.half_width
    figure.add_scatter(
        x=[place],
        y=[found.mean],
        mode="markers",
        name=text(name),
        legendgroup=text(name),
        marker={"color": style.colour, "size": 10},
        error_y={"type": "data", "array": [half], "color": style.colour, "thickness": 1.8, "visible": half > 0},
        hovertemplate=f"%{{y:{digits}}}<extra>{text(name)}</extra>",
    )
