"""How figures look: colours, dashes, axes.

Tasks are coloured from dark to light by the order of presentation; methods have the colours of Okabe and Ito
and a dash of their own. Both survive colour blindness and a grey printer.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
REFERENCE_GREYS = ("#333333", "#8c8c8c", "#bdbdbd")
"""Of the dotted lines of single-task learning, one for each backbone."""
INK, GRID = "#24292f", "#e3e6ea"


@dataclass(frozen=True)
class Style:
    """How a method is drawn in every figure of a comparison."""

    colour: str
    dash: str


def method_styles(labels: Sequence[str]) -> dict[str, Style]:
    """Colour and dash of every method, by label."""
    return {
        label: Style(PALETTE[place % len(PALETTE)], DASHES[place % len(DASHES)]) for place, label in enumerate(labels)
    }


def task_colours(tasks: int) -> list[str]:
    """One colour a task by order of presentation; the palest end of the scale would vanish on paper."""
    places = [0.92 * place / max(1, tasks - 1) for place in range(tasks)]
    return [str(colour) for colour in sample_colorscale("Viridis", places)]


def text(name: str) -> str:
    """A name as plotly shows it letter for letter: plotly reads a little HTML in every text."""
    return html.escape(name, quote=False)


def dress(figure: go.Figure, x_title: str, y_title: str, height: int) -> None:
    """The common clothes: no template, light grid, dark ink, room for labels and no more."""
    axis = {
        "gridcolor": GRID,
        "linecolor": "#8b949e",
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#8b949e",
        "automargin": True,
        "title": {"standoff": 8},
    }
    figure.update_layout(
        template="none",
        autosize=True,
        height=height,
        margin={"l": 10, "r": 26, "t": 44, "b": 10},
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hovermode="closest",
    )
    figure.update_xaxes(showline=True, **axis)
    figure.update_yaxes(**axis)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title)


def phase_ticks(ends: list[int]) -> dict[str, Any]:
    """A line at every task switch, and labels on as many as a narrow panel has room for."""
    step = math.ceil(len(ends) / (6 if ends[-1] < 10_000 else 4))
    labelled = ends[::step]
    return {
        "tickvals": labelled,
        "ticktext": [f"{end:,}" for end in labelled],
        "minor": {"tickvals": ends, "showgrid": True, "gridcolor": GRID},
        "gridcolor": GRID,
    }


def padded(values: Sequence[float], top: float = math.inf) -> tuple[float, float]:
    """A range that holds all values with a little air; nothing above `top` but half a line's width."""
    low, high = min(values), max(values)
    air = max(0.01, 0.04 * (high - low))
    return max(0.0, low - air), min(high + air, top + 0.4 * air)


def faded(colour: str, opacity: float) -> str:
    """A colour (`#rrggbb`) of that opacity, as CSS."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
