"""A table or figure as blocks of text: what the terminal and the page of results show alike."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from everlearn.intervals import Interval
from everlearn.report.measures import Unit
from everlearn.reproducing.comparing import Cell, Line, Outcome, claims, published_alone
from everlearn.reproducing.published import MEASURES, QUALITY, Item, Printed

NOT_RUN = "not run"
TIME = "nothing but computing time"
"""What a column or item needs that everlearn brings everything for."""
ONE_KIND = "both rows on machines known to be of one kind"
"""What seconds need that are relative to another row's."""

_FORMS: dict[Unit, tuple[float, int]] = {
    "%": (100.0, 1), "points": (100.0, 1), "ratio": (1.0, 2), "area": (1.0, 4), "count": (1e-6, 2),
}  # fmt: skip
"""Of each unit, what a number is multiplied by, and the digits after its point."""

_WIDE = 6
"""Columns that a table of published values alone has at most."""


@dataclass(frozen=True)
class Block:
    """A table of text.

    Attributes:
        headings: of its columns; the first says what the table shows.
        rows: as many cells each.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def item_blocks(
    item: Item,
    outcomes: Sequence[Outcome],
    rows: Collection[int] | None = None,
    lacking: Mapping[str, str] | None = None,
) -> tuple[list[list[Block]], list[Block]]:
    """The tables of each outcome, and those of what the paper prints and nothing was run for.

    The first table of a column has all rows that the paper prints; further ones are of accuracies and have the rows
    that were run.

    Args:
        item: the table or figure.
        outcomes: our runs of it.
        rows: the places of those that are shown; None: all.
        lacking: by column, what images were looked for in vain.
    """
    told: set[str] = set()
    found: list[list[Block]] = []
    for outcome in outcomes:
        ran = dict.fromkeys(key for line in outcome.lines for key, cell in line.cells.items() if cell.ours.n)
        keys = [key for key in ran if key not in told or item.columns[key].measure in QUALITY]
        tables = [_column(item, key, outcome, key not in told) for key in keys]
        gaps = [_differences(item, key, outcome.gaps) for key in keys]
        found.append([block for block in (*tables, *gaps) if block is not None])
        told |= set(ran)
    shown = [line for line in published_alone(item) if rows is None or set(line.rows) <= set(rows)]
    apart = [line for line in claims(item) if rows is None or set(line.rows) <= set(rows)]
    missing = _missing(item, shown, [key for key in item.columns if key not in told], lacking or {})
    return found, [*missing, *_missing_differences(item, apart, outcomes)]


def _missing(item: Item, lines: Sequence[Line], keys: Sequence[str], lacking: Mapping[str, str]) -> list[Block]:
    """What the paper prints of columns that nothing was run for: the values alone, and what they need."""
    blocks: list[Block] = []
    for at in range(0, len(keys), _WIDE):
        part = keys[at : at + _WIDE]
        digits = {key: _digits([line.cells[key].published for line in lines]) for key in part}
        told = [line for line in lines if any(not math.isnan(line.cells[key].published.mean) for key in part)]
        rows = [_published(item, line, digits) for line in told]
        rows.append(("needs", *(lacking.get(key) or needs_of(item, key) for key in part)))
        headings = (f"Published, {NOT_RUN} here", *(full_title(item, key) for key in part))
        blocks.append(Block(headings, tuple(rows)))
    return blocks


def _missing_differences(item: Item, lines: Sequence[Line], outcomes: Sequence[Outcome]) -> list[Block]:
    """The differences of printed values that are ours in no outcome."""
    gaps = [line for outcome in outcomes for line in outcome.gaps]
    ours = {(line.rows, key) for line in gaps for key, cell in line.cells.items() if cell.ours.n}
    wanted = {
        (line.rows, key): line.cells[key].published
        for line in lines
        for key in line.cells
        if (line.rows, key) not in ours and not math.isnan(line.cells[key].published.mean)
    }
    keys = [key for key in item.columns if any(key == column for _, column in wanted)]
    blocks: list[Block] = []
    for part in (keys[at : at + _WIDE] for at in range(0, len(keys), _WIDE)):
        digits = {key: _digits([line.cells[key].published for line in lines]) for key in part}
        rows = [
            (line.title, *(_wanted(item, key, wanted.get((line.rows, key)), digits[key]) for key in part))
            for line in lines
            if any((line.rows, key) in wanted for key in part)
        ]
        titles = (full_title(item, key).replace(", %", ", points") for key in part)
        blocks.append(Block((f"Published difference, {NOT_RUN} here", *titles), tuple(rows)))
    return blocks


def _wanted(item: Item, key: str, value: Printed | None, digits: int) -> str:
    return "" if value is None else _shown(_gap_unit(item, key), value, digits)


def _gap_unit(item: Item, key: str) -> Unit:
    return "points" if MEASURES[item.columns[key].measure] == "%" else "area"


def _published(item: Item, line: Line, digits: Mapping[str, int]) -> tuple[str, ...]:
    shown = [_shown(unit_of(item, key, line), line.cells[key].published, many) for key, many in digits.items()]
    return (line.title, *shown)


def needs_of(item: Item, key: str) -> str:
    """What a column needs that everlearn does not bring; where it brings all, somebody's time."""
    column = item.columns[key]
    relative = column.beside and MEASURES.get(column.measure) == "seconds"
    return column.needs or item.needs or (ONE_KIND if relative else TIME)


def unit_of(item: Item, key: str, line: Line) -> Unit:
    """The unit that a column's numbers are shown in; of a row that is printed as a difference, points."""
    column = item.columns[key]
    if column.beside:
        return "ratio"
    if line.relative:
        return "points"
    return MEASURES.get(column.measure, "%")  # type: ignore[return-value]


def _column(item: Item, key: str, outcome: Outcome, whole: bool) -> Block:
    lines = outcome.lines
    known = any(not math.isnan(line.cells[key].published.mean) for line in lines if key in line.cells)
    judged = any(line.cells[key].inside is not None for line in lines if key in line.cells)
    judged = judged or (known and MEASURES.get(item.columns[key].measure) == "count")
    digits = _digits([line.cells[key].published for line in lines if key in line.cells])
    rows: list[tuple[str, ...]] = []
    for line in lines:
        cell = line.cells.get(key)
        if cell is None or (not cell.ours.n and not (whole and known and not math.isnan(cell.published.mean))):
            continue
        untold = item.columns[key].measure == "training_seconds" and set(line.rows) <= outcome.rows
        cells = _cells(unit_of(item, key, line), cell, known, judged, digits, "–" if untold else NOT_RUN)
        rows.append((line.title, *cells))
    return Block((full_title(item, key), *_headings(known, judged, item.columns[key].measure)), tuple(rows))


def _differences(item: Item, key: str, gaps: Sequence[Line]) -> Block | None:
    lines = [line for line in gaps if key in line.cells and line.cells[key].ours.n]
    if not lines:
        return None
    unit = _gap_unit(item, key)
    known = any(not math.isnan(line.cells[key].published.mean) for line in lines)
    judged = any(line.cells[key].inside is not None for line in lines)
    digits = _digits([line.cells[key].published for line in lines])
    rows = tuple((line.title, *_cells(unit, line.cells[key], known, judged, digits)) for line in lines)
    title = f"{item.columns[key].title}, difference" + (" in points" if unit == "points" else "")
    return Block((title, *_headings(known, judged)), rows)


def _headings(known: bool, judged: bool, measure: str = "") -> tuple[str, ...]:
    published = ("published",) if known else ()
    verdict = "the printed digits?" if MEASURES.get(measure) == "count" else "inside?"
    return (*published, "ours", "trials", *(("ours − published",) if known else ()), *((verdict,) if judged else ()))


def _cells(unit: Unit, cell: Cell, known: bool, judged: bool, digits: int, missing: str = NOT_RUN) -> tuple[str, ...]:
    published = (_shown(unit, cell.published, digits),) if known else ()
    ours = _shown(unit, cell.ours, digits) if cell.ours.n else missing
    trials = str(cell.ours.n) if cell.ours.n else ""
    apart = (_apart(unit, cell, digits),) if known else ()
    printed = bool(cell.ours.n) and not math.isnan(cell.published.mean)
    inside = (cell.same if unit == "count" else cell.inside) if printed else None
    verdict = ({None: "", True: "yes", False: "no"}[inside],) if judged else ()
    return (*published, ours, trials, *apart, *verdict)


def _digits(printed: Sequence[Printed]) -> int:
    """How many digits of a per cent are worth showing: those that are printed, and one at least."""
    known = [one.rounding for one in printed if not math.isnan(one.mean) and one.rounding > 0]
    return max(1, round(-math.log10(2 * 100 * min(known)))) if known else 1


def _shown(unit: Unit, value: Printed | Interval, digits: int, signed: bool = False) -> str:
    if math.isnan(value.mean):
        return "–"
    factor, places = _FORMS.get(unit, (1.0, 0))
    places = digits if unit in ("%", "points") else places
    text = f"{value.mean * factor:{'+' if signed or unit == 'points' else ''},.{places}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    suffix = "M" if unit == "count" else ""
    half = "" if math.isnan(value.half_width) or unit == "count" else f" ± {value.half_width * factor:,.{places}f}"
    return f"{text.replace('-', '−')}{suffix}{half}"


def _apart(unit: Unit, cell: Cell, digits: int) -> str:
    if math.isnan(cell.difference) or (unit == "count" and cell.same):
        return ""
    return _shown(unit, Printed(cell.difference), digits, signed=True)


def full_title(item: Item, key: str) -> str:
    """A column's heading with its unit; of the second half of a pair, with what the first half says."""
    column = item.columns[key]
    place = list(item.columns).index(key)
    title = column.title
    if title == "new":  # the second half of a pair
        title = f"{list(item.columns.values())[place - 1].title.removesuffix('old')}new"
    unit = "%" if not column.measure or MEASURES[column.measure] == "%" else ""
    return f"{title}, {unit}" if unit else title
