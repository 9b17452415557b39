"""What a table's runs give beside what the paper prints, cell by cell and difference by difference."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everlearn.experiments.store import StoredRun
from everlearn.intervals import Interval, interval
from everlearn.report.capacity import growth_measures
from everlearn.report.groups import Trial, comparisons
from everlearn.report.measures import ACCURACIES, COSTS
from everlearn.report.old_new import final_values
from everlearn.reproducing.machines import kind_of
from everlearn.reproducing.matching import PRECISION, Cells, Difference, Extra, cells
from everlearn.reproducing.published import MEASURES, QUALITY, Item, Printed, Row

Key = tuple[int, int]
"""The stream's seed and the trial's number: what two runs are paired by."""

_NONE = Interval(math.nan, math.nan, 0)
_KNOWN = {one.key: one for one in (*ACCURACIES, *COSTS)}


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        published: in the units of the records (fractions, seconds); NaN where none is printed.
        ours: the same, over our trials; `n` is 0 where nothing was run.
    """

    published: Printed
    ours: Interval

    @property
    def difference(self) -> float:
        """Ours minus the published one; NaN where one of them is missing."""
        return self.ours.mean - self.published.mean

    @property
    def inside(self) -> bool | None:
        """Whether our mean lies within the published interval; None where that cannot be said."""
        if math.isnan(self.difference) or math.isnan(self.published.half_width):
            return None
        return abs(self.difference) <= self.published.half_width + 1e-12

    @property
    def same(self) -> bool:
        """Whether ours would be printed like the published one."""
        return abs(self.difference) <= self.published.rounding * (1 + 1e-9)


@dataclass(frozen=True)
class Line:
    """A row of a table, or a difference of two rows.

    Attributes:
        label: its name, with the options that the published row does not have.
        group: of rows that are compared with each other.
        cells: by column.
        relative: whether its numbers are differences from another row's.
        rows: the places, in the item, of the rows that it is of.
    """

    label: str
    group: str
    cells: Mapping[str, Cell]
    relative: bool = False
    rows: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The label, after its group where there are several."""
        return f"{self.group}: {self.label}" if self.group else self.label


@dataclass(frozen=True)
class Outcome:
    """The runs of an item that differ from what was published in one way.

    Attributes:
        differences: in which.
        lines: the rows, in the paper's order; those that were not run as well.
        gaps: the differences that the paper claims, over paired trials.
        runs: behind them.
        kinds: the places, in the item, of the rows that were run, each with the options that it does not have.
    """

    differences: tuple[Difference, ...]
    lines: tuple[Line, ...]
    gaps: tuple[Line, ...]
    runs: tuple[StoredRun, ...]
    kinds: frozenset[tuple[int, Extra]] = frozenset()

    @property
    def rows(self) -> frozenset[int]:
        """The places, in the item, of the rows that were run."""
        return frozenset(place for place, _ in self.kinds)

    @property
    def trials(self) -> tuple[int, int]:
        """How many trials there are of a cell, at least and at most."""
        counts = [cell.ours.n for line in self.lines for cell in line.cells.values() if cell.ours.n]
        return (min(counts), max(counts)) if counts else (0, 0)


def outcomes(item: Item, runs: Sequence[StoredRun]) -> list[Outcome]:
    """Everything that our runs say of an item, by the way in which they differ from what was published.

    Those that differ least come first; of runs that differ in their epochs alone, the longest.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    found = cells(item, runs)
    ways = {match.differences for matches in found.values() for match in matches}
    return [_outcome(item, found, way) for way in sorted(ways, key=_nearness)]


def published_alone(item: Item) -> list[Line]:
    """The rows without anything of ours."""
    empty = _Values(item, {}, {})
    return [empty.line(place, (), list(item.columns)) for place in range(len(item.rows))]


def claims(item: Item) -> list[Line]:
    """The differences that the paper claims, without anything of ours."""
    empty = _Values(item, {}, {})
    told = [key for key, column in item.columns.items() if column.measure in QUALITY]
    return [_gap(item, empty, (one, ()), (other, ()), told) for one, other in _pairs(item, empty)]


def _plain_first(extra: Extra) -> tuple[int, str]:
    return len(extra), json.dumps(extra)


def _nearness(way: tuple[Difference, ...]) -> tuple[int, float, str]:
    epochs = next((ours for name, ours, _ in way if name == "epochs"), math.inf)
    schedule = ("epochs", "evaluate_every", "evaluate_others_every")
    others = sum(name not in schedule for name, _, _ in way)
    return others, -float(epochs), json.dumps(way)


def _outcome(item: Item, found: Cells, way: tuple[Difference, ...]) -> Outcome:
    runs: dict[str, StoredRun] = {}
    names: dict[tuple[int, Extra, str], set[str]] = {}
    for (place, key), matches in found.items():
        for match in matches:
            if match.differences == way:
                runs[match.run.run.id] = match.run
                names.setdefault((place, match.extra, key), set()).add(match.run.run.id)
    values = _Values(item, names, _trials(list(runs.values())))
    columns = [key for key in item.columns if any(column == key for _, _, column in names)]
    kinds = {(place, extra) for place, extra, _ in names}
    lines: list[Line] = []
    for place in range(len(item.rows)):
        extras = sorted((extra for at, extra in kinds if at == place), key=_plain_first) or [()]
        lines += [values.line(place, extra, columns) for extra in extras]
    gaps = tuple(_gaps(item, values, kinds, columns))
    return Outcome(way, tuple(lines), gaps, tuple(runs.values()), frozenset(kinds))


def _trials(runs: list[StoredRun]) -> "dict[str, tuple[Trial, dict[str, float]]]":
    """Each run's trial, with what its table knows of its size."""
    return {
        trial.stored.run.id: (trial, {measure.key: measure.of(trial) for measure in growth_measures(comparison)})
        for comparison in comparisons(runs)
        for trial in comparison.trials()
    }


class _Values:
    """The numbers of one outcome."""

    def __init__(
        self,
        item: Item,
        names: Mapping[tuple[int, Extra, str], set[str]],
        trials: "Mapping[str, tuple[Trial, dict[str, float]]]",
    ) -> None:
        self._item, self._names, self._trials = item, names, trials

    def line(self, place: int, extra: Extra, columns: Sequence[str]) -> Line:
        row = self._item.rows[place]
        return Line(
            self.label(place, extra),
            row.group,
            {key: Cell(self.printed(row, key), self.ours(place, extra, key)) for key in columns},
            self.relative(row),
            (place,),
        )

    def relative(self, row: Row) -> bool:
        """Whether a row's numbers are differences from that of the method which the item is relative to."""
        return bool(self._item.relative) and row.method != self._item.relative

    def label(self, place: int, extra: Extra) -> str:
        """A row's name, with the options that the published one does not have."""
        told = ", ".join(f"{name} {value}" for name, value in extra)
        label = self._item.rows[place].label
        if not told:
            return label
        return f"{label[:-1]}, {told})" if label.endswith(")") else f"{label} ({told})"

    def printed(self, row: Row, key: str) -> Printed:
        """What the paper prints, in our units; relative to another row where the column is."""
        column, value = self._item.columns[key], row.printed.get(key, Printed(math.nan))
        other = self._item.other_of(row, column)
        if other is not None:
            base = other.printed.get(key, Printed(math.nan))
            ratio = value.mean / base.mean
            return Printed(ratio)
        reference = self._item.row_of(self._item.relative, row.group) if row.absolute else None
        if reference is not None:
            value = Printed(value.mean - reference.printed.get(key, Printed(math.nan)).mean)
        factor = 0.01 if MEASURES.get(column.measure) == "%" or not column.measure else column.scale
        return Printed(value.mean * factor, value.half_width * factor, value.rounding * factor)

    def ours(self, place: int, extra: Extra, key: str) -> Interval:
        """What our trials give, relative to another row where the column is."""
        row, column = self._item.rows[place], self._item.columns[key]
        mine = self.by_trial(place, extra, key)
        other = self._item.other_of(row, column)
        if other is not None:
            base = self._base(row, extra, other.method, key)
            values = self.by_trial(*base, key)
            if MEASURES.get(column.measure) == "seconds":
                one, beside = self._machines(place, extra, key), self._machines(*base, key)
                values = {t: value for t, value in values.items() if beside[t] is not None and beside[t] == one.get(t)}
            return interval([mine[trial] / values[trial] for trial in mine if values.get(trial)])
        if self.relative(row):
            values = self.by_trial(*self._base(row, extra, self._item.relative, key), key)
            return interval([mine[trial] - values[trial] for trial in mine if trial in values])
        return interval(list(mine.values()))

    def by_trial(self, place: int, extra: Extra, key: str) -> dict[Key, float]:
        """A cell's value in each of our trials."""
        found: dict[Key, float] = {}
        for name in sorted(self._names.get((place, extra, key), ())):
            trial, sizes = self._trials[name]
            found[trial.key] = _value(self._item.columns[key].measure, trial, sizes)
        return found

    def place_of(self, method: str, group: str) -> int | None:
        """The row of a method in a group."""
        places = [n for n, row in enumerate(self._item.rows) if row.method == method and row.group == group]
        return places[0] if places else None

    def _machines(self, place: int, extra: Extra, key: str) -> dict[Key, tuple[str, str] | None]:
        """What kind of machine each of a cell's trials ran on, and in which precision; None where that is not known."""
        ran = [self._trials[name][0] for name in sorted(self._names.get((place, extra, key), ()))]
        found: dict[Key, tuple[str, str] | None] = {}
        for trial in ran:
            kind = kind_of(trial.result.machine)
            found[trial.key] = (kind, trial.stored.run.config.training.precision) if kind is not None else None
        return found

    def _base(self, row: Row, extra: Extra, method: str, key: str) -> tuple[int, Extra]:
        """The row that a row's values are relative to: of the same options if there is such, or of none, or of any."""
        place = self.place_of(method, row.group)
        extras = [one for at, one, column in self._names if (at, column) == (place, key)]
        if place is None or not extras:
            return -1, ()
        return place, extra if extra in extras else min(extras, key=_plain_first)


def _gaps(item: Item, values: _Values, kinds: set[tuple[int, Extra]], columns: Sequence[str]) -> list[Line]:
    """The differences that the paper claims, where both rows were run."""
    told = [key for key in columns if item.columns[key].measure in QUALITY]
    lines: list[Line] = []
    for one, other in _pairs(item, values):
        for extra in sorted((extra for at, extra in kinds if at == one), key=_plain_first):
            line = _gap(item, values, (one, extra), _extra_of(other, extra, kinds), told)
            if any(cell.ours.n for cell in line.cells.values()):
                lines.append(line)
    return lines


def _pairs(item: Item, values: _Values) -> list[tuple[int, int]]:
    """The places of the two rows of each difference, group by group."""
    groups = dict.fromkeys(row.group for row in item.rows)
    pairs = [(group, *pair) for group in groups for pair in item.differences]
    places = [(values.place_of(one, group), values.place_of(other, group)) for group, one, other in pairs]
    return [(one, other) for one, other in places if one is not None and other is not None]


def _extra_of(place: int, extra: Extra, kinds: set[tuple[int, Extra]]) -> tuple[int, Extra]:
    """The row that one is compared with: of the same options, or of none, or of none but that it is lent."""
    lent = sorted((one for at, one in kinds if at == place and [name for name, _ in one] == [PRECISION]), key=str)
    return next(((place, one) for one in (extra, (), *lent) if (place, one) in kinds), (place, ()))


def _gap(item: Item, values: _Values, one: tuple[int, Extra], other: tuple[int, Extra], columns: Sequence[str]) -> Line:
    rows, found = (item.rows[one[0]], item.rows[other[0]]), {}
    for key in columns:
        mine, base = values.by_trial(*one, key), values.by_trial(*other, key)
        printed = [values.printed(row, key) for row in rows]
        half = math.hypot(*(value.half_width for value in printed))
        gaps = [mine[trial] - base[trial] for trial in mine if trial in base]
        apart = Printed(printed[0].mean - printed[1].mean, half, max(value.rounding for value in printed))
        found[key] = Cell(apart, interval(gaps) if gaps else _NONE)
    labels = [values.label(*one), values.label(*other)]
    return Line(f"{labels[0]} minus {labels[1]}", rows[0].group, found, rows=(one[0], other[0]))


def _value(measure: str, trial: Trial, sizes: Mapping[str, float]) -> float:
    if measure in ("old", "new"):
        return final_values(trial)[measure]
    if measure in sizes:
        return sizes[measure]
    return _KNOWN[measure].of(trial) if measure in _KNOWN else math.nan
