"""What a search says: a line for each set that is over, and at the end a table or JSON."""

import json
import sys
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlearn.tuning.results import Measure, TriedSet, Tuned

MEASURES: dict[Measure, str] = {
    "final": "validation accuracy after the last task, mean over tasks",
    "peak": "best validation accuracy of each task in its own phase, mean over tasks",
}

SHOWN = 10
"""Sets in the table."""


def tell(method: str, over: int, wanted: int, one: TriedSet) -> None:
    """Say what came of a set: the method, how many sets are over, of how many."""
    values = ", ".join(f"{name} {_short(value)}" for name, value in one.values.items())
    say(f"{method}, set {over} of {wanted}: {values}: {_worth(one)}")


def _worth(one: TriedSet) -> str:
    given_up = f", given up after {one.tasks} task{'' if one.tasks == 1 else 's'}"
    return f"{100 * one.validation:.1f} %{'' if one.state == 'finished' else given_up}"


def _short(value: str) -> str:
    """A number as a table has room for; other text as it is."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def say(text: str) -> None:
    """Print on the error stream, so that what is found stands alone on the other."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def as_json(found: list[Tuned]) -> str:
    """All that was found."""
    plain = [{**asdict(one), "best": None if one.best is None else asdict(one.best)} for one in found]
    return json.dumps(plain, indent=2)


def show(found: Tuned, console: Console) -> None:
    """Print the best sets of a method, and the command that uses the best."""
    table = Table(
        box=box.SIMPLE, title=f"{escape(found.method)}: best sets, {MEASURES[found.measure]}", title_justify="left"
    )
    for name in found.space:
        table.add_column(escape(name), justify="right")
    table.add_column("validation, %", justify="right")
    table.add_column("tasks", justify="right")
    table.add_column("")
    for one in found.sets[:SHOWN]:
        state = "" if one.state == "finished" else one.state
        values = [escape(_short(one.values.get(name, ""))) for name in found.space]
        table.add_row(*values, f"{100 * one.validation:.1f}", str(one.tasks), state)
    console.print(table)
    over = sum(one.state == "finished" for one in found.sets)
    console.print(
        f"{over} set{'' if over == 1 else 's'} finished, {len(found.sets) - over} given up early.", highlight=False
    )
    if found.source:
        console.print(f"Searched over the grid of {escape(found.source)}.", highlight=False, soft_wrap=True)
    if found.command:
        console.print("With the best set, on the test images:", highlight=False)
        console.print(f"  {escape(found.command)}", highlight=False, soft_wrap=True)
