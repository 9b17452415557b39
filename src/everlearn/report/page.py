"""The report: one HTML file that needs no network, no server and no other file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from everlearn.errors import StoreError
from everlearn.experiments.store import StoredRun
from everlearn.report import provenance
from everlearn.report.figures import (
    accuracy_panels,
    convergence_figure,
    forgetting_panels,
    single_task_peaks,
    task_names,
)
from everlearn.report.found import Families, Found, family_section, found_section
from everlearn.report.fractions import error_section
from everlearn.report.groups import Comparison, distinctions
from everlearn.report.growth_page import Growth, growth_section
from everlearn.report.measures import ACCURACIES, Measure
from everlearn.report.old_new_page import Stages, old_new_section, stages_section
from everlearn.report.panels import STROKES, Panel, Swatch, method_legend, panel
from everlearn.report.style import REFERENCE_GREYS, method_styles, task_colours, text
from everlearn.report.summary import summary
from everlearn.report.table import SummaryTable, summary_tables


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    shown: str
    best: bool


@dataclass(frozen=True)
class Part:
    """One table: headings (title, unit) and, for each method, label, trials and cells."""

    title: str
    headings: list[tuple[str, str]]
    rows: list[tuple[str, int, list[Cell]]]


@dataclass(frozen=True)
class RunLine:
    """One finished run, for the list at the end."""

    method: str
    trial: int
    seed: int
    id: str
    folder: str
    fingerprint: str
    finished: str


@dataclass(frozen=True)
class Section:
    """Everything the page says about one comparison."""

    title: str
    summary: str
    finished: str
    warnings: list[str]
    given: bool
    parts: list[Part]
    csv: str
    panels: list[Panel]
    panel_legend: list[Swatch]
    forgetting: list[Panel]
    convergence: list[Panel]
    stages: Stages | None
    growth: Growth | None
    found: Found | None
    families: Families | None
    method_legend: list[Swatch]
    settings: list[tuple[str, str]]
    tasks: list[tuple[str, list[str]]]
    machines: list[str]
    versions: list[str]
    commands: list[str]
    definitions: list[tuple[str, str]]
    runs: list[RunLine]


def render_page(runs: Sequence[StoredRun], root: Path) -> str:
    """The whole page as text.

    Args:
        runs: finished and unfinished ones; the latter are listed and enter no number.
        root: the folder that they were found in; run folders are shown relative to it.

    Raises:
        StoreError: no run is finished, or a run's records contradict each other.
    """
    tables = summary_tables(runs)
    if not tables:
        begun = f"; {len(runs)} have begun, let them end first" if runs else ""
        raise StoreError(f"a report needs at least one finished run, but {root} holds none{begun}.")
    compared = [table.comparison for table in tables]
    differences, old_new = distinctions(compared), old_new_section(compared)
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("page.html").render(
        old_new=old_new,
        errors=error_section(compared),
        title="everlearn: " + ", ".join(dict.fromkeys(table.comparison.stream for table in tables)),
        root=str(root),
        sections=[_section(table, difference, root) for table, difference in zip(tables, differences, strict=True)],
        unfinished=provenance.unfinished(runs, lambda run: _folder(run, root)),
        plotly=Markup(get_plotlyjs()),
    )


def _section(table: SummaryTable, difference: str, root: Path) -> Section:
    comparison = table.comparison
    panels, forgetting = accuracy_panels(comparison), forgetting_panels(comparison)
    convergence = convergence_figure(comparison)
    captions = {
        "peak": "By each task's peak accuracy, the paper's definition",
        "end": "By the accuracy at the end of each task's phase",
    }
    totals = _column(table, "parameters_total")
    days = sorted(trial.result.finished[:10] for trial in comparison.trials())
    return Section(
        title=", ".join(filter(None, (comparison.title, difference))),
        summary=summary(table),
        finished=days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}",
        warnings=provenance.warnings(comparison),
        given=comparison.given,
        parts=_parts(table),
        csv="data:text/csv;charset=utf-8," + quote(table.csv()),
        panels=[
            panel(f"{label} ({totals[label]} parameters)" if label in totals else label, figure)
            for label, figure in panels.items()
        ],
        panel_legend=_task_legend(comparison),
        forgetting=[panel(captions[by], figure) for by, figure in forgetting.items()],
        convergence=[panel("", convergence)] if convergence is not None else [],
        stages=stages_section(comparison),
        growth=growth_section(comparison),
        found=found_section(comparison),
        families=family_section(comparison),
        method_legend=method_legend(method_styles(comparison.labels)),
        settings=provenance.settings(comparison),
        tasks=provenance.tasks(comparison),
        machines=provenance.machines(comparison),
        versions=provenance.versions(comparison),
        commands=provenance.commands(comparison),
        definitions=[(measure.title, measure.definition) for measure in table.measures],
        runs=_runs(comparison, root),
    )


def _parts(table: SummaryTable) -> list[Part]:
    learned = [measure for measure in table.measures if measure in ACCURACIES]
    cost = [measure for measure in table.measures if measure not in ACCURACIES]
    named = (("What was learned, and what was kept", learned), ("What it cost", cost))
    return [_part(table, title, measures) for title, measures in named if measures]


def _part(table: SummaryTable, title: str, measures: list[Measure]) -> Part:
    best = {measure.key: _best(table, measure) for measure in measures}
    return Part(
        title,
        [table.heading(measure) for measure in measures],
        [
            (
                row.entry.label,
                row.trials,
                [Cell(table.cell(row, measure), table.cell(row, measure) in best[measure.key]) for measure in measures],
            )
            for row in table.rows
        ],
    )


def _best(table: SummaryTable, measure: Measure) -> set[str]:
    """The cell with the best mean; none where neither direction is better or there is only one method."""
    known = [row for row in table.rows if not math.isnan(row.intervals[measure.key].mean)]
    if not measure.better or len(known) < 2:
        return set()
    choose = max if measure.better == "more" else min
    return {table.cell(choose(known, key=lambda row: row.intervals[measure.key].mean), measure)}


def _column(table: SummaryTable, key: str) -> dict[str, str]:
    found = [measure for measure in table.measures if measure.key == key]
    return {row.entry.label: table.cell(row, measure) for measure in found for row in table.rows}


def _task_legend(comparison: Comparison) -> list[Swatch]:
    names = task_names(comparison)
    swatches = [
        Swatch(name, colour, "", 4, text(name)) for name, colour in zip(names, task_colours(len(names)), strict=True)
    ]
    for (entry, peak), grey in zip(single_task_peaks(comparison), REFERENCE_GREYS, strict=False):
        name = f"mean peak of {entry.label}"
        swatches.append(Swatch(f"{name}, {100 * peak:.1f} %", grey, STROKES["dot"], 2, text(name)))
    return swatches


def _runs(comparison: Comparison, root: Path) -> list[RunLine]:
    return [
        RunLine(
            method=entry.label,
            trial=trial.stored.run.config.trial,
            seed=trial.stored.run.config.stream.seed,
            id=trial.stored.run.id,
            folder=_folder(trial.stored, root),
            fingerprint=trial.stored.run.fingerprint,
            finished=trial.result.finished[:19].replace("T", " "),
        )
        for entry in comparison.entries
        for trial in entry.trials
    ]


def _folder(run: StoredRun, root: Path) -> str:
    inside = run.folder.is_relative_to(root)
    return str(run.folder.relative_to(root)) if inside else str(run.folder)
