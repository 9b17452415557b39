"""Multi-task error by the share of the training images: the form of Tables 1 and 2 of Lee et al. 2019 (App. C).

Streams that were learned together under one training, and that differ in one number only (an option such as
`fraction`), stand side by side: a row for each method, a column for each value, and the size of the network.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from everlearn import metrics
from everlearn.experiments.records import RunConfig
from everlearn.experiments.store import StoredRun
from everlearn.intervals import Interval, interval
from everlearn.report.fitting import fitting
from everlearn.report.groups import Comparison, Entry, comparisons, identity, label_of
from everlearn.report.measures import shown

_NONE = Interval(float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class ErrorLine:
    """One method.

    Attributes:
        label: its name, with backbone and options where the name alone would be ambiguous.
        size: numbers that the network of all tasks holds, mean over trials and columns.
        cells: for each column the multi-task error, a fraction.
        trials: for each column; 0 where it was not run.
    """

    label: str
    size: float
    cells: tuple[Interval, ...]
    trials: tuple[int, ...]


@dataclass(frozen=True)
class ErrorTable:
    """One table.

    Attributes:
        title: the stream, and what its columns have in common.
        option: whose values the columns are.
        values: ascending.
        lines: single-task learning first, then by label.
    """

    title: str
    option: str
    values: tuple[float, ...]
    lines: tuple[ErrorLine, ...]

    @property
    def headings(self) -> list[str]:
        """Of each column: the option's value."""
        return [f"{self.option} {value:g}" for value in self.values]

    def frame(self) -> pd.DataFrame:
        """One row a method and value: `table`, `method`, the option, `parameters`, `error`, `error_half_width`,
        `trials`; errors are fractions."""
        rows = [
            {
                "table": self.title,
                "method": line.label,
                self.option: value,
                "parameters": line.size,
                "error": cell.mean,
                "error_half_width": cell.half_width,
                "trials": trials,
            }
            for line in self.lines
            for value, cell, trials in zip(self.values, line.cells, line.trials, strict=True)
            if trials
        ]
        return pd.DataFrame(rows)


def error_tables(found: Iterable[Comparison]) -> list[ErrorTable]:
    """The tables of all comparisons under the multi-task protocol that differ in one number."""
    together = [one for one in found if one.training.protocol == "multi-task"]
    tables: list[ErrorTable] = []
    for stream in dict.fromkeys(one.stream for one in together):
        same = [one for one in together if one.stream == stream]
        option = _differing(same)
        if option is not None:
            columns = [one for one in same if _is_number(one.options.get(option))]
            tables += [_table(group, option, columns) for group in _alike(columns, option)]
    return tables


def errors_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Multi-task errors by an option of the stream, as a data frame; see `ErrorTable.frame`. Empty if there are none.

    Args:
        runs: unfinished ones are passed over.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    frames = [table.frame() for table in error_tables(comparisons(runs))]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


@dataclass(frozen=True)
class ErrorRows:
    """What the page says of one table: headings, and for each row its label, its size and its cells."""

    title: str
    headings: list[str]
    rows: list[tuple[str, str, list[str]]]
    csv: str


def error_section(found: Iterable[Comparison]) -> list[ErrorRows]:
    """What the page says of multi-task errors; empty if there are no tables."""
    return [
        ErrorRows(
            table.title,
            table.headings,
            [
                (line.label, size_of(line.size), [_cell(line, place) for place in range(len(table.values))])
                for line in table.lines
            ],
            "data:text/csv;charset=utf-8," + quote(table.frame().to_csv(index=False)),
        )
        for table in error_tables(found)
    ]


def size_of(numbers: float) -> str:
    """A number of parameters as the papers have it: 1.5M."""
    return f"{numbers / 1e6:.1f}M" if numbers >= 1e5 else f"{numbers:,.0f}"


def print_errors(table: ErrorTable, console: Console) -> None:
    """Print a table; columns that the console has no room for go to a further table below."""
    left = max(6, *(len(line.label) for line in table.lines)) + 12
    needs = [max(10, *(len(_cell(line, place)) for line in table.lines)) + 2 for place in range(len(table.values))]
    for number, places in enumerate(fitting(needs, left, console.width)):
        title = f"Multi-task error in %, {escape(table.title)}" if number == 0 else None
        drawn = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        drawn.add_column("method", no_wrap=True)
        drawn.add_column("model size", justify="right")
        for place in places:
            drawn.add_column(Text(f"{table.option}\n{table.values[place]:g}"), justify="right", no_wrap=True)
        for line in table.lines:
            drawn.add_row(escape(line.label), size_of(line.size), *(_cell(line, place) for place in places))
        console.print(drawn)


def _cell(line: ErrorLine, place: int) -> str:
    return shown("%", line.cells[place])


def _differing(same: Sequence[Comparison]) -> str | None:
    """The option that differs and is a number; of several the one with the most values."""
    values: dict[str, set[float]] = {}
    for one in same:
        for name, value in one.options.items():
            if _is_number(value):
                values.setdefault(name, set()).add(float(value))
    several = {name: len(seen) for name, seen in values.items() if len(seen) > 1}
    return max(sorted(several), key=lambda name: several[name]) if several else None


def _is_number(value: object) -> bool:
    """Whether a value can be a column; streams that were run without the option have none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _alike(same: Sequence[Comparison], option: str) -> list[list[Comparison]]:
    """The comparisons in groups that agree in all but the option."""
    groups: dict[str, list[Comparison]] = {}
    for one in same:
        others = {name: value for name, value in one.options.items() if name != option}
        groups.setdefault(json.dumps([others, repr(one.training), one.tasks], sort_keys=True), []).append(one)
    return [group for group in groups.values() if len({one.options[option] for one in group}) > 1]


def _table(group: Sequence[Comparison], option: str, same: Sequence[Comparison]) -> ErrorTable:
    columns = sorted(group, key=lambda one: float(one.options[option]))
    configs: dict[str, RunConfig] = {}
    for one in columns:
        for entry in one.entries:
            configs.setdefault(identity(entry.config), entry.config)
    rows = [{identity(entry.config): entry for entry in one.entries} for one in columns]
    lines = [_line(key, config, rows, list(configs.values())) for key, config in configs.items()]
    single = {label_of(entry.config, list(configs.values())) for one in columns for entry in one.singles()}
    lines.sort(key=lambda line: (line.label not in single, line.label))
    telling = [
        name for name in columns[0].options if name != option and len({str(one.options.get(name)) for one in same}) > 1
    ]
    title = ", ".join([columns[0].stream, *(f"{name} {columns[0].options[name]}" for name in telling)])
    return ErrorTable(title, option, tuple(float(one.options[option]) for one in columns), tuple(lines))


def _line(key: str, config: RunConfig, rows: Sequence[dict[str, Entry]], others: list[RunConfig]) -> ErrorLine:
    cells: list[Interval] = []
    trials: list[int] = []
    sizes: list[int] = []
    for row in rows:
        found = row[key].trials if key in row else ()
        cells.append(interval([metrics.multi_task_error(trial.history) for trial in found]) if found else _NONE)
        trials.append(len(found))
        sizes += [trial.result.parameters["total"] for trial in found]
    return ErrorLine(label_of(config, others), sum(sizes) / len(sizes), tuple(cells), tuple(trials))
