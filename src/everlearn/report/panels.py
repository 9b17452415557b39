"""What the page is made of besides text: figures, and legends that show and hide their lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from everlearn.report.style import Style, text

STROKES = {"dash": "9 5", "dot": "2 3", "dashdot": "9 3 2 3", "longdash": "14 5", "longdashdot": "14 4 2 4"}
"""SVG dashes that look like plotly's."""


@dataclass(frozen=True)
class Swatch:
    """One entry of a legend: a stroke, and what it stands for."""

    label: str
    colour: str
    strokes: str
    width: float
    group: str


@dataclass(frozen=True)
class Panel:
    """One figure: plotly's JSON, safe inside a script element."""

    caption: str
    json: Markup
    height: int


def panel(caption: str, figure: go.Figure) -> Panel:
    """A figure for the page, under a caption in plain text."""
    # Titles and legends are HTML on the page: they wrap on a phone, where plotly's would not.
    figure.update_layout(title=None, showlegend=False, margin_t=12)
    # No name can close the script element that holds the JSON.
    safe = str(figure.to_json()).replace("<", "\\u003c")
    return Panel(caption, Markup(safe), int(figure.layout.height))


def method_legend(styles: Mapping[str, Style], width: float = 3) -> list[Swatch]:
    """A legend of lines (or, wide, of bars) by their labels."""
    return [
        Swatch(label, style.colour, STROKES.get(style.dash, "") if width < 6 else "", width, text(label))
        for label, style in styles.items()
    ]


def drawn(swatches: Sequence[Swatch], figures: Mapping[Any, go.Figure]) -> list[Swatch]:
    """The entries of a legend that a figure shows."""
    groups = {trace.get("legendgroup") for one in figures.values() for trace in one.to_dict()["data"]}
    return [swatch for swatch in swatches if swatch.group in groups]
