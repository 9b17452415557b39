"""What a new task costs the old ones: the tables of Li and Hoiem, "Learning without Forgetting" (ECCV 2016).

A network that was trained on an old task is taught one new task or several, one after the other. Old tasks are those
that came with a trained network; where none did, the first of the stream. The table gives what the paper's method, LwF,
reaches on the old and on the new tasks in the end, and by how much the other methods differ from it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

from everlearn import metrics
from everlearn.experiments.records import RunConfig
from everlearn.experiments.store import StoredRun
from everlearn.intervals import Interval, interval, paired_interval
from everlearn.report.groups import Comparison, Entry, Trial, comparisons, distinctions, identity
from everlearn.report.measures import shown
from everlearn.report.old_new_names import REFERENCE, fraction, rank, short_labels, stream_names

Half = Literal["old", "new"]
HALVES: tuple[Half, Half] = ("old", "new")

_UNKNOWN = Interval(math.nan, math.nan, 0)


class Places(NamedTuple):
    """Positions of the old and of the new tasks."""

    old: tuple[int, ...]
    new: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """One method on the old or on the new tasks of one stream.

    Attributes:
        value: its mean in the end.
        difference: from the reference, over the trials that both have; not defined for the reference itself.
    """

    value: Interval = _UNKNOWN
    difference: Interval = _UNKNOWN


@dataclass(frozen=True)
class Column:
    """One stream: a pair of columns.

    Attributes:
        comparison: what was compared.
        backbone: of all its runs.
        name: of the stream; with what tells it from the others where the name alone would be ambiguous.
        measured: for each half what was measured: `accuracy`, `mAP`, or both.
        tasks: for each half how many tasks the number is a mean over.
        relative: whether the reference was run, so that the others are shown as differences from it.
    """

    comparison: Comparison
    backbone: str
    name: str
    measured: dict[Half, str]
    tasks: dict[Half, int]
    relative: bool


@dataclass(frozen=True)
class Line:
    """One method: a row.

    Attributes:
        label: its name, and options where the name alone would be ambiguous.
        reference: whether the others are measured against it.
        trials: how many there are of each column's stream; 0 where it was not run.
        cells: for each column its two halves.
    """

    label: str
    reference: bool
    trials: tuple[int, ...]
    cells: tuple[dict[Half, Cell], ...]


@dataclass(frozen=True)
class OldNewTable:
    """Streams side by side that were learned under one training, each on one backbone.

    Attributes:
        title: what tells the table from others; empty if there is one only.
        columns: one pair for each stream.
        lines: the reference first.
    """

    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def reference(self) -> str:
        """The label of the method that the others are measured against; empty if it was not run."""
        return next((line.label for line in self.lines if line.reference), "")

    def cell(self, line: Line, place: int, half: Half) -> str:
        """A number and its interval as people read them."""
        found = line.cells[place][half]
        if line.reference or not self.columns[place].relative:
            return shown("%", found.value)
        return shown("points", found.difference)

    def frame(self) -> pd.DataFrame:
        """The same numbers as fractions, one row a stream and method; NaN where a number is not defined."""
        return pd.DataFrame(
            [
                {
                    "stream": column.name,
                    "method": line.label,
                    "backbone": column.backbone,
                    "trials": line.trials[place],
                    **{f"{half}_measured": column.measured[half] for half in HALVES},
                    **{name: one for half in HALVES for name, one in _fields(half, line.cells[place][half]).items()},
                }
                for place, column in enumerate(self.columns)
                for line in self.lines
                if line.trials[place]
            ]
        )


def places(trial: Trial) -> Places:
    """Which tasks are old and which new: those that came with a trained network, or the first, and all others."""
    every = range(len(trial.history.tasks))
    old = tuple(task for task in every if trial.history.given(task)) or (0,)
    return Places(old, tuple(task for task in every if task not in old))


def has_old_and_new(comparison: Comparison) -> bool:
    """Whether its runs taught new tasks to a trained network, or the reference taught them after a first one."""
    trials = comparison.trials()
    if comparison.training.protocol != "lifelong" or not all(places(trial).new for trial in trials):
        return False
    taught = comparison.given or bool(comparison.starts)
    return taught or any(entry.config.method == REFERENCE for entry in comparison.entries)


def final_values(trial: Trial) -> dict[Half, float]:
    """The final test value of the old and of the new tasks, mean over them."""
    final, where = metrics.final_accuracy(trial.history), places(trial)
    return {"old": metrics.mean(final[list(where.old)]), "new": metrics.mean(final[list(where.new)])}


def measured(trial: Trial, tasks: Iterable[int]) -> str:
    """What the values of these tasks are: `accuracy`, `mAP`, or both."""
    kinds = trial.stored.run.metrics
    return " and ".join(sorted({kinds[task] if kinds else "accuracy" for task in tasks}))


def old_new_tables(found: Sequence[Comparison]) -> list[OldNewTable]:
    """A table for each training under which old and new tasks were learned; none if there are none.

    Where one stream was learned on several backbones, a table for each of them.
    """
    groups: dict[str, list[Comparison]] = {}
    for comparison in filter(has_old_and_new, found):
        groups.setdefault(repr(comparison.training), []).append(comparison)
    tables: list[OldNewTable] = []
    for members, title in zip(groups.values(), distinctions([one for one, *_ in groups.values()]), strict=True):
        every = sorted({backbone for one in members for backbone in _backbones(one)})
        apart = any(len(one) > 1 for one in _by_stream(members))
        for chosen in [[backbone] for backbone in every] if apart else [every]:
            kept = [one for one in members if set(_backbones(one)) & set(chosen)]
            tables.append(_table(", ".join(filter(None, (title, *(chosen if apart else ())))), kept, chosen))
    return tables


def old_new_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Old and new tasks in the end, one row a stream and method; empty where there are none.

    `old` and `new` are mean final test values (fractions; `old_measured` says whether accuracy or mean average
    precision) and `old_difference` and `new_difference` their differences from LwF over the trials that both have,
    each with the half width of its 95 % interval (`_half_width`) and its number of trials (`_n`). NaN where a number is
    not defined: a method that was not run, an interval of one trial. `table` counts, from 0, the tables: streams
    under one training.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    frames = [table.frame() for table in old_new_tables(comparisons(runs))]
    for place, frame in enumerate(frames):
        frame.insert(0, "table", place)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _by_stream(found: Iterable[Comparison]) -> list[set[str]]:
    """For each stream the backbones on which it was learned."""
    seen: dict[str, set[str]] = {}
    for one in found:
        seen.setdefault(repr((one.stream, sorted(one.options.items()), one.tasks)), set()).update(_backbones(one))
    return list(seen.values())


def _backbones(comparison: Comparison) -> list[str]:
    return sorted({entry.config.backbone for entry in comparison.entries})


def _table(title: str, found: list[Comparison], backbones: Sequence[str]) -> OldNewTable:
    found = sorted(found, key=lambda one: (one.stream, -fraction(one)))
    rows: list[dict[str, Entry]] = [
        {_row(entry.config): entry for entry in one.entries if entry.config.backbone in backbones} for one in found
    ]
    # Where streams have backbones of their own, the columns say so and not the rows.
    configs = {key: entry.config.model_copy(update={"backbone": ""}) for row in rows for key, entry in row.items()}
    labels = short_labels(configs)
    reference = _reference(configs)
    order = sorted(configs, key=lambda key: (key != reference, *rank(labels[key], configs[key])))
    columns = tuple(
        _column(one, f"{name}, {', '.join(_backbones(one))}" if len(backbones) > 1 else name, row, reference)
        for one, name, row in zip(found, stream_names(found), rows, strict=True)
    )
    lines = tuple(
        Line(
            labels[key],
            key == reference,
            tuple(len(row[key].trials) if key in row else 0 for row in rows),
            tuple(_cells(row.get(key), row.get(reference)) for row in rows),
        )
        for key in order
    )
    return OldNewTable(title, columns, lines)


def _row(config: RunConfig) -> str:
    """What one row has in common: the method and its options, on whatever backbone a stream was learned."""
    return identity(config.model_copy(update={"backbone": ""}))


def _reference(configs: dict[str, RunConfig]) -> str:
    """Plain LwF; failing that, the only LwF that was run; empty if there is no such one."""
    known = [key for key, config in configs.items() if config.method == REFERENCE]
    plain = [key for key in known if not configs[key].options]
    return plain[0] if plain else known[0] if len(known) == 1 else ""


def _column(comparison: Comparison, name: str, row: dict[str, Entry], reference: str) -> Column:
    trial = next(iter(row.values())).trials[0]
    where = places(trial)._asdict()
    return Column(
        comparison,
        next(iter(row.values())).config.backbone,
        name,
        {half: measured(trial, where[half]) for half in HALVES},
        {half: len(where[half]) for half in HALVES},
        reference in row,
    )


def _cells(entry: Entry | None, reference: Entry | None) -> dict[Half, Cell]:
    if entry is None:
        return {half: Cell() for half in HALVES}
    mine = {trial.key: final_values(trial) for trial in entry.trials}
    other = {} if reference in (None, entry) else {trial.key: final_values(trial) for trial in reference.trials}
    shared = [key for key in mine if key in other]
    return {
        half: Cell(
            interval([values[half] for values in mine.values()]),
            paired_interval([mine[key][half] for key in shared], [other[key][half] for key in shared]),
        )
        for half in HALVES
    }


def _fields(half: Half, cell: Cell) -> dict[str, float | int]:
    named = {half: cell.value, f"{half}_difference": cell.difference}
    return {
        key: value
        for name, found in named.items()
        for key, value in ((name, found.mean), (f"{name}_half_width", found.half_width), (f"{name}_n", found.n))
    }
