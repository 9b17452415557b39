"""The page of results: every table and figure that has runs, in Markdown; and the same of one item for the terminal."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlearn.experiments.plan import Value, with_changes
from everlearn.experiments.store import StoredRun
from everlearn.plugins import fingerprint_of, is_plugin
from everlearn.reproducing.blocks import NOT_RUN, TIME, Block, item_blocks
from everlearn.reproducing.comparing import Extra, Outcome, outcomes
from everlearn.reproducing.matching import CODE, Difference, is_shown
from everlearn.reproducing.planning import NO_CUT, Cut
from everlearn.reproducing.published import Item, Published

HEAD = """# Results

The tables and figures of the papers, run again. This page is written by the program from the records of the runs; it
is not edited by hand:

```sh
{command}
```

"Ours" is the mean over our trials, ± the half width of its 95 % confidence interval where there are two or more; one
trial has no interval. A difference of two rows is taken trial by trial; the published one is the difference of the
printed means, with an interval as if the two were independent. "Inside?" says whether our mean lies within the printed
interval. Where runs were shorter than published, or differ otherwise, the heading says so: they tell whether a method
works, not how it compares. What was learned of each difference stands on the method's page. Times are of runs on shared
machines, compared only where both are known to have run on one kind: on a GPU of one name, or on a processor whose name
says which it is ("Intel(R) Xeon(R) Processor" alone does not); "–" stands for those of other runs. They are no
benchmark (that is [performance](performance.md)).
"""

_UNITS = {
    "evaluate_every": "epochs", "evaluate_others_every": "epochs", "patience": "epochs", "batch": "images",
    "train": "images", "validation": "images", "test": "images",
}  # fmt: skip
"""What whole numbers of a setting count."""


@dataclass(frozen=True)
class Said:
    """What is said of one item.

    Attributes:
        name: of the item.
        item: itself.
        outcomes: its runs, by the way in which they differ from what was published.
        rows: the places of the rows that are shown; None: all.
        only: what the rows were asked for by; empty: all were.
    """

    name: str
    item: Item
    outcomes: list[Outcome]
    rows: frozenset[int] | None = None
    only: tuple[str, ...] = ()


def said_of(known: Published, names: Sequence[str], runs: Sequence[StoredRun], cut: Cut = NO_CUT) -> list[Said]:
    """What our runs say of items, or those of them that a cut leaves.

    Raises:
        UnknownNameError: a setting that does not exist.
        ConfigurationError: a row that an item does not have, or a value that a setting cannot have.
        StoreError: a run whose records contradict each other.
    """
    found: list[Said] = []
    for name in names:
        item = known.items[name]
        methods = {with_changes(row.method)[0] for row in item.rows}
        own = [run for run in runs if run.run.config.method in methods and is_shown(run.run.config, cut)]
        said = Said(name, item, outcomes(item, own))
        found.append(_cut_down(said, cut) if cut.methods else said)
    return found


def _cut_down(said: Said, cut: Cut) -> Said:
    """Some rows alone; what they are relative to was there when they were compared."""
    left = cut.rows(said.item)
    rows = frozenset(place for place, row in enumerate(said.item.rows) if any(row is one for one in left))
    methods = {with_changes(row.method)[0] for row in left}
    narrow = [
        replace(
            one,
            rows=one.rows & rows,
            lines=tuple(line for line in one.lines if rows >= set(line.rows)),
            gaps=tuple(line for line in one.gaps if rows >= set(line.rows)),
            runs=tuple(run for run in one.runs if run.run.config.method in methods),
        )
        for one in said.outcomes
    ]
    return replace(said, outcomes=[one for one in narrow if one.rows], rows=rows, only=cut.methods)


def markdown(known: Published, said: Sequence[Said], command: str) -> str:
    """The whole page; items that nothing was run for and that print no values stand in its first table alone."""
    parts = [HEAD.format(command=command), _table(_overview(said))]
    for paper, citation in known.papers.items():
        own = [one for one in said if one.name.partition("/")[0] == paper and _has_values(one)]
        if own:
            parts += [f"## {paper}", f"{citation}."]
        for one in own:
            parts += list(_item(one))
    return "\n\n".join(parts) + "\n"


def _has_values(said: Said) -> bool:
    return bool(said.outcomes) or any(row.printed for row in said.item.rows)


def print_item(said: Said, console: Console, lacking: Mapping[str, str] | None = None) -> None:
    """One item on the terminal.

    Args:
        said: what is said of it.
        console: where it goes.
        lacking: by column, what images were looked for in vain.
    """
    only = f"; only {', '.join(said.only)}" if said.only else ""
    tables, missing = item_blocks(said.item, said.outcomes, said.rows, lacking)
    console.print(
        f"[bold]{escape(said.name)}[/bold]  {escape(said.item.title)} ({escape(said.item.place)})", soft_wrap=True
    )
    for one, blocks in zip(said.outcomes, tables, strict=True):
        console.print(f"\n{escape(heading(said.item, one) + only)}", soft_wrap=True, highlight=False)
        for block in blocks:
            console.print(_rich(block))
    if only and not said.outcomes:
        console.print(f"\n{NOT_RUN}{escape(only)}", soft_wrap=True, highlight=False)
    for block in missing:
        console.print(_rich(block))


def heading(item: Item, outcome: Outcome) -> str:
    """How runs differ from what was published, in words: `300 epochs instead of 2,000; 1 of 5 trials`."""
    words = [_code(outcome, str(one[1])) if one[0] == CODE else _difference(one) for one in outcome.differences]
    words = words or [_alike(item, outcome)]
    least, most = outcome.trials
    if most:
        several = f"{least} to {most}" if least != most else str(most)
        words.append(f"{several} of {item.trials} trials" if item.trials > 1 else f"{several} trial")
    elif item.drawn:
        words.append("one run" if len(outcome.runs) == 1 else f"{len(outcome.runs)} runs")
    return "; ".join(words)


def _alike(item: Item, outcome: Outcome) -> str:
    """What is said of runs that differ in nothing."""
    printed = any(not math.isnan(cell.published.mean) for line in outcome.lines for cell in line.cells.values())
    if printed or (item.drawn and not item.stand_in):
        return "as published"
    lacks = "on data that the paper does not have" if item.stand_in else "where the paper prints no values"
    return f"settings as published, {lacks}"


def _code(outcome: Outcome, mark: str) -> str:
    """The file of a backbone of somebody's own: where it lies, or else what tells it from others of that name."""
    file, folder = _own_file(outcome)
    return f"its file in {folder}" if folder else f"its file {file} with the SHA-256 {mark}..."


def _own_file(outcome: Outcome) -> tuple[str, Path | None]:
    """The file that a backbone was read from as it was given, and the folder, around the runs, in which it lies."""
    for run in outcome.runs:
        name = run.run.config.backbone
        for folder in run.folder.parents if is_plugin(name) else ():
            there = f"{folder}/{name}"
            if Path(there.rpartition(":")[0]).is_file() and fingerprint_of(there) == run.run.config.code.get(name):
                return name.rpartition(":")[0], folder
        if is_plugin(name):
            return name.rpartition(":")[0], None
    return "", None


def commands(said: Said, outcome: Outcome) -> list[str]:
    """The commands that make an outcome's runs: of the rows without options of their own, and of those with each."""
    cut: list[str] = []
    stream_options = {name for run in outcome.runs for name in run.run.config.stream.options}
    for name, ours, _ in outcome.differences:
        if name == "epochs":
            cut.append(f"--epochs {ours}")
        elif name == "backbone":
            cut.append(f"--backbone {ours}")
        elif name in stream_options:
            cut.append(f"--stream-option {name}={ours}")
        elif " " not in name:
            cut.append(f"--set {name}={ours}")
    most = len({run.run.config.trial for run in outcome.runs})
    trials = [f"--trials {most}"] if most and most != said.item.trials else []
    plain = " ".join(["everlearn reproduce", said.name, "--data DIR", *trials, *cut])
    kinds: dict[Extra, set[str]] = {}
    for run in outcome.runs:
        options = run.run.config.options
        extra = next((one for one in outcome.extras if all(options.get(n) == v for n, v in one)), ())
        kinds.setdefault(extra, set()).add(run.run.config.method)
    return [
        " ".join([plain, *_rows(said.item, methods), *(f"--option {name}={value}" for name, value in extra)])
        for extra, methods in sorted(kinds.items(), key=lambda kind: (len(kind[0]), str(kind[0])))
    ]


def _rows(item: Item, methods: set[str]) -> list[str]:
    """The flag that leaves these rows of an item; none where that is all of them."""
    names = list(dict.fromkeys(with_changes(row.method)[0] for row in item.rows))
    return [] if methods >= set(names) else ["--methods " + ",".join(name for name in names if name in methods)]


def _difference(one: Difference) -> str:
    name, ours, published = one
    if name == "epochs":
        return f"{int(ours):,} epoch{'' if ours == 1 else 's'} instead of {int(published):,}"
    unit = f" {_unit(name, ours)}".rstrip()
    instead = f" instead of {_number(published)}" if published != "" else ""
    return f"{name.replace('_', ' ')} {_number(ours)}{unit}{instead}"


def _number(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _unit(name: str, value: Value) -> str:
    """What a setting counts, where it is a whole number."""
    unit = _UNITS.get(name, "") if str(value).isdecimal() else ""
    return unit.removesuffix("s") if str(value) == "1" else unit


def _item(said: Said) -> Iterator[str]:
    item = said.item
    yield f"### {said.name}: {item.title}"
    told = f", ± {item.interval}" if item.interval else ""
    yield f"{item.place}; published: {item.trials} trials{told}."
    if item.drawn:
        yield f"Drawn in the paper; ours: {item.drawn}, which the command of the runs below writes."
    shown = said.outcomes[:1] if item.drawn else said.outcomes
    tables, missing = item_blocks(item, shown)
    for one, blocks in zip(shown, tables, strict=True):
        yield f"**{heading(item, one)[0].upper()}{heading(item, one)[1:]}**"
        file, folder = _own_file(one)
        where = [f"# in {folder}, where {file} lies"] if folder else []
        yield "```sh\n" + "\n".join(where + commands(said, one)) + "\n```"
        if any(line.relative for line in one.lines):
            yield f"Rows with a sign are differences from {_label(item, item.relative)}, in points."
        yield from map(_table, blocks)
    yield from map(_table, missing)


def _label(item: Item, method: str) -> str:
    return next(row.label for row in item.rows if row.method == method)


def _overview(said: Sequence[Said]) -> Block:
    rows: list[tuple[str, ...]] = []
    for one in said:
        if one.item.drawing:
            continue
        cells = [cell for found in one.outcomes[:1] for line in found.lines for cell in line.cells.values()]
        run = sum(bool(cell.ours.n) for cell in cells)
        judged = [cell.inside for cell in cells if cell.inside is not None]
        inside = f"{sum(judged)} of {len(judged)}" if judged else ""
        best = _nearest(one.item, one.outcomes[0]) if one.outcomes else f"{NOT_RUN}; needs {one.item.needs or TIME}"
        rows.append((one.name, one.item.title, best, str(run or ""), inside))
    return Block(("", "what", "our nearest runs", "cells", "inside the printed interval"), tuple(rows))


def _nearest(item: Item, outcome: Outcome) -> str:
    """The heading of an item's nearest runs, and of how many of its rows they are."""
    rows = f"; {len(outcome.rows)} of {len(item.rows)} rows" if len(outcome.rows) < len(item.rows) else ""
    return heading(item, outcome) + rows


def _table(block: Block) -> str:
    lines = [block.headings, ["---"] * len(block.headings), *block.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _rich(block: Block) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    for place, title in enumerate(block.headings):
        table.add_column(escape(title), justify="right" if place else "left")
    for row in block.rows:
        table.add_row(*map(escape, row))
    return table
