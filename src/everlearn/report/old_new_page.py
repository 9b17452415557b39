"""What the page says about old and new tasks: `old_new.html` shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from everlearn.report.groups import Comparison
from everlearn.report.old_new import HALVES, Half, OldNewTable, old_new_tables
from everlearn.report.old_new_figures import Sizes, size_figures, sizes, stage_panels
from everlearn.report.old_new_print import heading, trials_of
from everlearn.report.panels import Panel, Swatch, drawn, method_legend, panel
from everlearn.report.style import method_styles


@dataclass(frozen=True)
class PairedRow:
    """One method: its label, its trials, and two cells a stream."""

    label: str
    trials: str
    reference: bool
    cells: list[str]


@dataclass(frozen=True)
class PairedTable:
    """One table: streams, the headings of their halves (title, what was measured), rows."""

    title: str
    reference: str
    streams: list[str]
    headings: list[tuple[str, str]]
    rows: list[PairedRow]
    csv: str


@dataclass(frozen=True)
class SizeFigures:
    """Old and new tasks against the share of the training images, of one stream."""

    stream: str
    panels: list[Panel]
    legend: list[Swatch]


@dataclass(frozen=True)
class OldNew:
    """What is said of old and new tasks over all comparisons."""

    given: bool
    tables: list[PairedTable]
    sizes: list[SizeFigures]


@dataclass(frozen=True)
class Stages:
    """What became of each task while new ones were added to one network."""

    panels: list[Panel]
    legend: list[Swatch]


def old_new_section(found: Sequence[Comparison]) -> OldNew | None:
    """What is said of old and new tasks; None if no run has them."""
    tables = old_new_tables(found)
    if not tables:
        return None
    given = any(column.comparison.given for table in tables for column in table.columns)
    return OldNew(given, [_table(table) for table in tables], [_sizes(one) for one in sizes(found)])


def stages_section(comparison: Comparison) -> Stages | None:
    """What is said of new tasks added one after the other; None if there are not several."""
    figures = stage_panels(comparison)
    if not figures:
        return None
    legend = drawn(method_legend(method_styles(comparison.labels)), figures)
    return Stages([panel(name, figure) for name, figure in figures.items()], legend)


def _table(table: OldNewTable) -> PairedTable:
    pairs: list[tuple[int, Half]] = [(place, half) for place in range(len(table.columns)) for half in HALVES]
    return PairedTable(
        title=table.title,
        reference=table.reference,
        streams=[column.name for column in table.columns],
        headings=[heading(table, place, half) for place, half in pairs],
        rows=[
            PairedRow(
                line.label,
                trials_of(line),
                line.reference,
                # Where a page is narrow, a number may part from its interval, but not ± from what follows it.
                [table.cell(line, place, half).replace("± ", "±\N{NO-BREAK SPACE}") for place, half in pairs],
            )
            for line in table.lines
        ],
        csv="data:text/csv;charset=utf-8," + quote(table.frame().to_csv(index=False)),
    )


def _sizes(found: Sizes) -> SizeFigures:
    figures = size_figures(found)
    captions = {"old": "Old tasks", "new": "New tasks"}
    return SizeFigures(
        found.stream,
        [panel(captions[half], figures[half]) for half in HALVES],
        drawn(method_legend(found.styles), figures),
    )
