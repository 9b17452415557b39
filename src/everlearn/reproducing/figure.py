"""A picture of one table: what is printed and what our runs give, row by row."""

import math
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from everlearn.errors import ConfigurationError
from everlearn.experiments.files import explained, write_whole
from everlearn.intervals import Interval
from everlearn.report.style import GRID, INK, PALETTE, dress, text
from everlearn.reproducing.blocks import full_title, unit_of
from everlearn.reproducing.comparing import Line, Outcome
from everlearn.reproducing.published import QUALITY, Printed
from everlearn.reproducing.saying import Said, heading, label_of

_ROW, _FRAME = 34, 150
"""Pixels of a row, and of all around the rows."""


def draw(said: Said, file: Path) -> None:
    """Draw the nearest runs of a table beside what the paper prints, as a page that needs nothing else.

    Args:
        said: the table; each column of accuracies that was run is a panel.
        file: of the page.

    Raises:
        ConfigurationError: nothing was run that could be drawn.
        StoreError: the page cannot be written.
    """
    found = figure(said)
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, found.to_html(include_plotlyjs=True, config={"displayModeBar": False}).encode())


def figure(said: Said) -> go.Figure:
    """The same, as plotly's figure.

    Where rows are differences from another one, as in Tables 1 and 2 of LwF, they alone are drawn: beside them the
    other one's accuracy would be no point of the same axis.

    Raises:
        ConfigurationError: nothing was run that could be drawn.
    """
    lines = _drawn(said, said.outcomes[0]) if said.outcomes else []
    if not (keys := _panels(said, lines)):
        raise ConfigurationError(f"of {said.name} nothing was run that could be drawn; run it first.")
    outcome = said.outcomes[0]
    labels = [text(line.title) for line in lines]
    titles = [text(_title(said, key, lines[0])) for key in keys]
    drawn = make_subplots(1, len(keys), shared_yaxes=True, horizontal_spacing=0.04)
    for place, key in enumerate(keys, start=1):
        factor = 100.0 if unit_of(said.item, key, lines[0]) in ("%", "points") else 1.0
        cells = [line.cells[key] for line in lines]
        ours, published = PALETTE[0], PALETTE[1]
        sides = (
            ("published", [cell.published for cell in cells], published, "diamond-open", -0.12),
            ("ours", [cell.ours for cell in cells], ours, "circle", 0.12),
        )
        for name, values, colour, symbol, shift in sides:
            _dots(drawn, place, name, values, factor, colour, symbol, shift)
    dress(drawn, "", "", _FRAME + _ROW * len(lines))
    for place, title in enumerate(titles, start=1):
        drawn.update_xaxes(title_text=title, zeroline=lines[0].relative, zerolinecolor=INK, col=place)
    drawn.update_yaxes(
        range=[len(lines) - 0.5, -0.5], tickvals=list(range(len(lines))), ticktext=labels, gridcolor=GRID
    )
    drawn.update_layout(
        title={"text": text(f"{said.name}: {heading(said.item, outcome)}"), "font": {"size": 14}, "x": 0.01},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        margin={"t": 80},
    )
    return drawn


def _drawn(said: Said, outcome: Outcome) -> list[Line]:
    """The rows that were run; of those that are differences from one and that one, the differences."""
    ran = [line for line in outcome.lines if _panels(said, [line])]
    return [line for line in ran if line.relative] or ran


def _panels(said: Said, lines: Sequence[Line]) -> list[str]:
    """The columns of accuracies that some of these rows have a value of ours in."""
    keys = dict.fromkeys(key for line in lines for key, cell in line.cells.items() if cell.ours.n)
    columns = said.item.columns
    return [key for key in keys if key in columns and columns[key].measure in QUALITY]


def _title(said: Said, key: str, line: Line) -> str:
    """What a panel's axis shows: an accuracy, or how far it is from another row's."""
    title = full_title(said.item, key)
    if not line.relative:
        return title
    return f"{title.removesuffix(', %')}, difference from {label_of(said.item, said.item.relative)}, points"


def _dots(
    drawn: go.Figure,
    place: int,
    name: str,
    values: "list[Printed] | list[Interval]",
    factor: float,
    colour: str,
    symbol: str,
    shift: float,
) -> None:
    """One side of a panel: a mark a row, and its interval where there is one."""
    halves = [None if math.isnan(value.half_width) else value.half_width * factor for value in values]
    bars = {"type": "data", "array": halves, "color": INK, "thickness": 1.2, "width": 4}
    drawn.add_scatter(
        x=[None if math.isnan(value.mean) else value.mean * factor for value in values],
        y=[row + shift for row in range(len(values))],
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=place == 1,
        marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
        error_x=bars if any(half is not None for half in halves) else None,  # without a length it is drawn as a stroke
        hovertemplate="%{x:.4g}<extra></extra>",
        row=1,
        col=place,
    )
