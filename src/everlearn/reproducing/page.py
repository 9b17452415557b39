"""The page of results: every table and figure that has runs, in Markdown; and the same of one item for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlearn.experiments.plan import with_changes
from everlearn.experiments.store import StoredRun
from everlearn.reproducing.blocks import NOT_RUN, TIME, Block, item_blocks
from everlearn.reproducing.comparing import Outcome, outcomes
from everlearn.reproducing.matching import is_shown
from everlearn.reproducing.planning import NO_CUT, Cut
from everlearn.reproducing.published import Item, Published
from everlearn.reproducing.saying import Said, commands, heading, label_of, own_file

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
works, not how it compares. Rows that were run in another precision than the others, and only so, stand among them and
say so. What was learned of each difference stands on the method's page. Times are of runs on shared
machines, compared only where both are known to have run on one kind: on a GPU of one name, or on a processor whose name
says which it is ("Intel(R) Xeon(R) Processor" alone does not); "–" stands for those of other runs. They are no
benchmark (that is [performance](performance.md)).
"""


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
            kinds=frozenset((place, extra) for place, extra in one.kinds if place in rows),
            lines=tuple(line for line in one.lines if rows >= set(line.rows)),
            gaps=tuple(line for line in one.gaps if rows >= set(line.rows)),
            runs=tuple(run for run in one.runs if run.run.config.method in methods),
        )
        for one in said.outcomes
    ]
    return replace(said, outcomes=[one for one in narrow if one.rows], rows=rows, only=cut.methods)


def markdown(known: Published, said: Sequence[Said], command: str, file: Path | None = None) -> str:
    """The whole page; items that nothing was run for and that print no values stand in its first table alone.

    Args:
        known: the papers.
        said: what is said of each item.
        command: that writes the page.
        file: of the published values, where they are not the papers'.
    """
    parts = [HEAD.format(command=command), _table(_overview(said))]
    for paper, citation in known.papers.items():
        own = [one for one in said if one.name.partition("/")[0] == paper and _has_values(one)]
        if own:
            parts += [f"## {paper}", f"{citation}."]
        for one in own:
            parts += list(_item(one, file))
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
        if note := _note(said.item, one):
            console.print(note, soft_wrap=True, highlight=False, markup=False)
        for block in blocks:
            console.print(_rich(block))
    if only and not said.outcomes:
        console.print(f"\n{NOT_RUN}{escape(only)}", soft_wrap=True, highlight=False)
    for block in missing:
        console.print(_rich(block))


def _item(said: Said, file: Path | None) -> Iterator[str]:
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
        own, folder = own_file(one)
        where = [f"# in {folder}, where {own} lies"] if folder else []
        yield "```sh\n" + "\n".join(where + commands(said, one, file)) + "\n```"
        if note := _note(item, one):
            yield note
        yield from map(_table, blocks)
    yield from map(_table, missing)


def _note(item: Item, outcome: Outcome) -> str:
    """What a sign says, where rows are differences from another one."""
    if not any(line.relative for line in outcome.lines):
        return ""
    return f"Rows with a sign are differences from {label_of(item, item.relative)}, in points."


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
