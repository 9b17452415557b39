"""What the page says about performance task by task, about size, and about units: `growth.html` shows it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import plotly.graph_objects as go

from everlearn.intervals import Interval
from everlearn.metrics import MEASURED
from everlearn.report.capacity import base_backbone, has_growth
from everlearn.report.figures import task_names
from everlearn.report.groups import Comparison, Entry
from everlearn.report.growth import (
    averages,
    by,
    course,
    final,
    growing,
    layers,
    mean_selected,
    mean_share,
    sized,
    total,
    units_at,
    watched,
)
from everlearn.report.growth_figures import (
    average_figure,
    capacity_figure,
    drift_panels,
    growing_styles,
    growth_styles,
    layer_styles,
    selected_figure,
    time_figure,
    unit_panels,
)
from everlearn.report.measures import shown
from everlearn.report.panels import Panel, Swatch, drawn, method_legend, panel
from everlearn.report.units import by_task, counted

_STAGES = 6
"""A table has at most so many columns, which a page has room for; the CSV has all."""


@dataclass(frozen=True)
class Grid:
    """A table: headings, and for each row its label and cells."""

    headings: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Part:
    """Figures under one legend, and their numbers as a table."""

    panels: list[Panel]
    legend: list[Swatch]
    grid: Grid | None


@dataclass(frozen=True)
class Growth:
    """Everything that is said of one comparison.

    Attributes:
        measured: what performance is measured by.
        base: the backbone of the network whose capacity is 100 %.
        sizes: whether methods were run on several backbones.
        csv: performance and time task by task.
        units_csv: what was counted of the layers; empty where nothing was.
    """

    measured: str
    base: str
    sizes: bool
    average: Part
    capacity: Part
    time: Part
    drift: Part
    selected: Part
    units: Part
    csv: str
    units_csv: str


def growth_section(comparison: Comparison) -> Growth | None:
    """What is said of performance task by task, of size and of units; None where nobody measured AUROC or counted."""
    if not has_growth(comparison):
        return None
    legend = method_legend(growth_styles(comparison))
    entries = growing(comparison)
    figures = {"": selected_figure(comparison)}
    counts = counted([comparison]).drop(columns="comparison")
    return Growth(
        measured=MEASURED[by(comparison)],
        base=base_backbone(comparison),
        sizes=len({entry.config.backbone for entry in comparison.entries}) > 1,
        average=_part({"": average_figure(comparison)}, _named(legend, comparison), _averages(comparison)),
        capacity=_part({"": capacity_figure(comparison)}, legend, None),
        time=_part({"": time_figure(comparison)}, legend, None),
        drift=_part(drift_panels(comparison), legend, _drift(comparison)),
        selected=_part(figures, method_legend(growing_styles(comparison), width=9), _units(entries)),
        units=_part(unit_panels(comparison), method_legend(layer_styles(comparison)), None),
        csv=_csv(by_task([comparison]).drop(columns="comparison").to_csv(index=False)),
        units_csv=_csv(counts.to_csv(index=False)) if len(counts) else "",
    )


def _part(figures: Mapping[str, go.Figure | None], legend: Sequence[Swatch], grid: Grid | None) -> Part:
    known = {name: figure for name, figure in figures.items() if figure is not None}
    listed = drawn(legend, known)
    return Part([panel(name, figure) for name, figure in known.items()], listed, grid)


def _named(legend: Sequence[Swatch], comparison: Comparison) -> list[Swatch]:
    """The legend with the mean performance in the end in brackets, as the paper has it."""
    ends = {one.name: final(one.main, by(comparison)).mean for one in sized(comparison)}
    return [
        Swatch(f"{one.label} ({_number(comparison, ends[one.label])})", one.colour, one.strokes, one.width, one.group)
        for one in legend
    ]


def _averages(comparison: Comparison) -> Grid:
    """A row a method: the mean performance when each task was over."""
    tasks = max(len(trial.history.tasks) for trial in comparison.trials())
    step = math.ceil(tasks / _STAGES)
    numbers = list(range(tasks, 0, -step))[::-1]
    rows: list[tuple[str, list[str]]] = []
    for one in sized(comparison):
        found = dict(zip(*averages(one.main, by(comparison)), strict=True))
        rows.append((one.name, [_interval(comparison, found.get(number)) for number in numbers]))
    return Grid([f"{number} task{'s' if number > 1 else ''}" for number in numbers], rows)


def _drift(comparison: Comparison) -> Grid:
    """A row a method: of each task that is followed, the performance when it was over, and in the end."""
    rows: list[tuple[str, list[str]]] = []
    for one in sized(comparison):
        cells: list[str] = []
        for task in watched(comparison):
            _, found = course(one.main, task, by(comparison))
            ends = [_number(comparison, each.mean) for each in (found[0], found[-1])] if found else []
            cells.append(" → ".join(ends) or "–")
        rows.append((one.name, cells))
    names = task_names(comparison)
    return Grid([names[task] for task in watched(comparison)], rows)


def _units(entries: Sequence[Entry]) -> Grid | None:
    """A row for each layer of each method: units at first and in the end, selected, added, split."""
    rows: list[tuple[str, list[str]]] = []
    for entry in entries:
        kept = (units_at(entry, 0), units_at(entry, -1), mean_selected(entry))
        columns = (*kept, mean_share(entry), total(entry, "added"), total(entry, "split"))
        for layer in range(layers(entry)):
            first, last, selected, share, added, split = (column[layer] for column in columns)
            cells = [_count(first), _count(last), _count(selected), _share(share), _count(added), _count(split)]
            rows.append((f"{entry.label}, layer {layer + 1}", cells))
    headings = ["Units, first task", "Units, last task", "Selected", "Selected, share", "Added in all", "Split in all"]
    return Grid(headings, rows) if rows else None


def _interval(comparison: Comparison, found: Interval | None) -> str:
    if found is None:
        return "–"
    return shown("area" if by(comparison) == "auroc" else "%", found) + _percent(comparison)


def _number(comparison: Comparison, value: float) -> str:
    return _interval(comparison, Interval(value, math.nan, 1))


def _percent(comparison: Comparison) -> str:
    return "" if by(comparison) == "auroc" else " %"


def _count(found: Interval) -> str:
    return shown("epochs", found) if found.mean % 1 or found.half_width > 0 else shown("count", found)


def _share(found: Interval) -> str:
    return "–" if math.isnan(found.mean) else f"{100 * found.mean:.0f} %"


def _csv(content: str) -> str:
    return "data:text/csv;charset=utf-8," + quote(content)
