"""The summary: one row a method, every number a mean over trials with its 95 % confidence interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from everlearn.experiments.store import StoredRun
from everlearn.intervals import Interval, interval
from everlearn.report.capacity import growth_measures
from everlearn.report.fitting import fitting
from everlearn.report.fractions import error_tables, print_errors
from everlearn.report.groups import Comparison, Entry, comparisons, distinctions
from everlearn.report.measures import ACCURACIES, COSTS, KINDS, Measure, of_kind, shown, time_unit
from everlearn.report.old_new import old_new_tables
from everlearn.report.old_new_print import print_old_new


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        entry: its trials.
        intervals: by the measure's key, in the recorded units (fractions, epochs, seconds, counts).
    """

    entry: Entry
    intervals: dict[str, Interval]

    @property
    def trials(self) -> int:
        """How many runs are behind the row."""
        return len(self.entry.trials)


@dataclass(frozen=True)
class SummaryTable:
    """One comparison's rows.

    Attributes:
        comparison: what was compared.
        measures: the columns that are defined for at least one method.
        rows: in the order of the comparison.
    """

    comparison: Comparison
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]

    def heading(self, measure: Measure) -> tuple[str, str]:
        """A column's title, and the unit beneath it."""
        if measure.unit == "seconds":
            return measure.title, time_unit(self._largest(measure))[0]
        return measure.title, "" if measure.unit in ("ratio", "area", "count") else measure.unit

    def cell(self, row: Row, measure: Measure) -> str:
        """A number and its interval as people read them."""
        scale = time_unit(self._largest(measure))[1] if measure.unit == "seconds" else 1.0
        return shown(measure.unit, row.intervals[measure.key], scale)

    def frame(self) -> pd.DataFrame:
        """The same numbers, one row a method: `<key>`, `<key>_half_width`, `<key>_n` for each measure.

        Accuracies and transfers are fractions, times are seconds; NaN where a number is not defined.
        """
        records: list[dict[str, object]] = []
        for row in self.rows:
            config = row.entry.config
            record: dict[str, object] = {
                "stream": self.comparison.stream,
                "method": row.entry.label,
                "backbone": config.backbone,
                "trials": row.trials,
            }
            for measure in self.measures:
                found = row.intervals[measure.key]
                record[measure.key] = found.mean
                record[f"{measure.key}_half_width"] = found.half_width
                record[f"{measure.key}_n"] = found.n
            records.append(record)
        return pd.DataFrame(records)

    def csv(self) -> str:
        """`frame` as comma-separated values."""
        return self.frame().to_csv(index=False)

    def _largest(self, measure: Measure) -> float:
        means = [row.intervals[measure.key].mean for row in self.rows]
        return max((value for value in means if not math.isnan(value)), default=0.0)


def summarise(comparison: Comparison) -> SummaryTable:
    """The table of one comparison; measures that no method has are left out."""
    kinds = {kind for trial in comparison.trials() for kind in trial.result.parameters} - {"total"}
    order = [kind for kind in KINDS if kind in kinds] + sorted(kinds - set(KINDS))
    every = (*ACCURACIES, *COSTS, *growth_measures(comparison), *(of_kind(kind) for kind in order))
    rows = tuple(
        Row(
            entry,
            {measure.key: interval([measure.of(trial) for trial in entry.trials]) for measure in every},
        )
        for entry in comparison.entries
    )
    kept = tuple(measure for measure in every if any(row.intervals[measure.key].n for row in rows))
    return SummaryTable(comparison, kept, rows)


def summary_tables(runs: Iterable[StoredRun]) -> list[SummaryTable]:
    """One table for each set of runs that may be compared; none if no run is finished.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    return [summarise(comparison) for comparison in comparisons(runs)]


def print_table(runs: Iterable[StoredRun], console: Console, *, wide: bool = False) -> None:
    """Print the summary of runs, one table for each set of them that may be compared.

    Where new tasks were taught to a trained network, also what became of old and new tasks.

    Args:
        runs: unfinished ones are passed over.
        console: where to.
        wide: every measure; otherwise those that fit 100 columns. Columns that the console has no room for go
            to a further table below the first rather than being cut.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    tables = summary_tables(runs)
    differences = distinctions([table.comparison for table in tables])
    for table, difference in zip(tables, differences, strict=True):
        _print(table, ", ".join(filter(None, (table.comparison.title, difference))), console, wide)
    for table in old_new_tables([table.comparison for table in tables]):
        print_old_new(table, console)
    for errors in error_tables([table.comparison for table in tables]):
        print_errors(errors, console)
    if not tables:
        console.print("No run is finished yet.")
    if any(row.trials > 1 for table in tables for row in table.rows):
        console.print("mean ± half width of the 95 % confidence interval over trials", style="dim")


def table_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """The summary of runs as a data frame, one row a method; see `SummaryTable.frame`.

    Where runs differ in stream or training, `comparison` counts the sets that may be compared, from 0.
    """
    frames = [table.frame() for table in summary_tables(runs)]
    for place, frame in enumerate(frames):
        frame.insert(0, "comparison", place)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _print(table: SummaryTable, title: str, console: Console, wide: bool) -> None:
    measures = [measure for measure in table.measures if wide or measure.narrow]
    for place, chunk in enumerate(_fitting(table, measures, console.width)):
        console.print(_rich(table, chunk, escape(title) if place == 0 else None))


def _rich(table: SummaryTable, measures: list[Measure], title: str | None) -> Table:
    drawn = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    drawn.add_column("method", no_wrap=True)
    drawn.add_column("trials", justify="right")
    for measure in measures:
        name, unit = table.heading(measure)
        drawn.add_column(Text("\n".join(_lines(name, unit))), justify="right", no_wrap=True)
    for row in table.rows:
        cells = [table.cell(row, measure) for measure in measures]
        drawn.add_row(escape(row.entry.label), str(row.trials), *cells)
    return drawn


def _fitting(table: SummaryTable, measures: list[Measure], width: int) -> list[list[Measure]]:
    """Cut the measures into runs that fit the width, each beside the method's name and number of trials."""
    names = max(6, *(len(row.entry.label) for row in table.rows))
    needs = []
    for measure in measures:
        heading = max(len(line) for line in _lines(*table.heading(measure)))
        needs.append(max(heading, *(len(table.cell(row, measure)) for row in table.rows)) + 2)
    return [[measures[place] for place in places] for places in fitting(needs, names + 12, width)]


def _lines(name: str, unit: str) -> list[str]:
    # Headings are narrower than the numbers below them if every word has its own line, unit last.
    return [*name.split(), *([unit] if unit else [])]
