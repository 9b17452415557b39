"""The page of results: every table and figure that has runs, in Markdown; and the same of one item for the terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlearn.experiments.plan import with_changes
from everlearn.experiments.store import StoredRun
from everlearn.reproducing.blocks import TIME, Block, missing_blocks, outcome_blocks
from everlearn.reproducing.comparing import Extra, Outcome, outcomes
from everlearn.reproducing.matching import Difference
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
machines, compared where both ran on the same kind: they are no benchmark (that is [performance](performance.md)).
"""


@dataclass(frozen=True)
class Said:
    """What is said of one item.

    Attributes:
        name: of the item.
        item: itself.
        outcomes: its runs, by the way in which they differ from what was published.
    """

    name: str
    item: Item
    outcomes: list[Outcome]

    @property
    def columns(self) -> set[str]:
        """The columns that something was run for."""
        return {key for one in self.outcomes for line in one.lines for key, cell in line.cells.items() if cell.ours.n}


def said_of(known: Published, names: Sequence[str], runs: Sequence[StoredRun]) -> list[Said]:
    """What our runs say of items.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    return [Said(name, known.items[name], outcomes(known.items[name], runs)) for name in names]


def markdown(known: Published, said: Sequence[Said], command: str) -> str:
    """The whole page; items that nothing was run for stand in its first table alone."""
    parts = [HEAD.format(command=command), _table(_overview(said))]
    for paper, citation in known.papers.items():
        own = [one for one in said if one.name.partition("/")[0] == paper and one.outcomes]
        if own:
            parts += [f"## {paper}", f"{citation}."]
        for one in own:
            parts += list(_item(one))
    return "\n\n".join(parts) + "\n"


def print_item(said: Said, console: Console) -> None:
    """One item on the terminal."""
    console.print(
        f"[bold]{escape(said.name)}[/bold]  {escape(said.item.title)} ({escape(said.item.place)})", soft_wrap=True
    )
    for place, one in enumerate(said.outcomes):
        console.print(f"\n{escape(heading(said.item, one))}", soft_wrap=True, highlight=False)
        for block in outcome_blocks(said.item, one, whole=place == 0):
            console.print(_rich(block))
    for block in missing_blocks(said.item, list(said.columns)):
        console.print(_rich(block))


def heading(item: Item, outcome: Outcome) -> str:
    """How runs differ from what was published, in words: `300 epochs instead of 2,000; 1 of 5 trials`."""
    printed = any(not math.isnan(cell.published.mean) for line in outcome.lines for cell in line.cells.values())
    paper = printed or (item.drawn and not item.stand_in)
    alike = "as published" if paper else "settings as published, on data that the paper does not have"
    words = [_difference(one) for one in outcome.differences] or [alike]
    least, most = outcome.trials
    if most:
        several = f"{least} to {most}" if least != most else str(most)
        words.append(f"{several} of {item.trials} trials" if item.trials > 1 else f"{several} trial")
    elif item.drawn:
        words.append("one run" if len(outcome.runs) == 1 else f"{len(outcome.runs)} runs")
    return "; ".join(words)


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
    instead = f" instead of {published}" if published != "" else ""
    return f"{name.replace('_', ' ')} {ours}{instead}"


def _item(said: Said) -> Iterator[str]:
    item = said.item
    yield f"### {said.name}: {item.title}"
    told = f", ± {item.interval}" if item.interval else ""
    yield f"{item.place}; published: {item.trials} trials{told}."
    if item.drawn:
        yield f"Drawn in the paper; ours: {item.drawn}, which the command of the runs below writes."
    for place, one in enumerate(said.outcomes[:1] if item.drawn else said.outcomes):
        yield f"**{heading(item, one)[0].upper()}{heading(item, one)[1:]}**"
        yield "```sh\n" + "\n".join(commands(said, one)) + "\n```"
        if any(line.relative for line in one.lines):
            yield f"Rows with a sign are differences from {_label(item, item.relative)}, in points."
        yield from (_table(block) for block in outcome_blocks(item, one, whole=place == 0))
    yield from (_table(block) for block in missing_blocks(item, list(said.columns)))


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
        best = heading(one.item, one.outcomes[0]) if one.outcomes else f"not run; needs {one.item.needs or TIME}"
        rows.append((one.name, one.item.title, best, str(run or ""), inside))
    return Block(("", "what", "our nearest runs", "cells", "inside the printed interval"), tuple(rows))


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
