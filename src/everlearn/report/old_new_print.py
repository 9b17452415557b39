"""The table of old and new tasks on a console."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from everlearn.report.fitting import fitting
from everlearn.report.old_new import HALVES, Half, Line, OldNewTable

_TITLE = "Old and new tasks"


def print_old_new(table: OldNewTable, console: Console) -> None:
    """Print a table; streams that the console has no room for go to a further table below rather than being cut."""
    title = f"{_TITLE}, {table.title}" if table.title else _TITLE
    for number, chunk in enumerate(_fitting(table, console.width)):
        console.print(_rich(table, chunk, escape(title) if number == 0 else None))
    if table.reference:
        said = f"{table.reference}: final test value in %; the others: difference from it in points, over paired trials"
        console.print(said, style="dim", markup=False, highlight=False)


def trials_of(line: Line) -> str:
    """How many trials a row rests on: one number, or the least and the most over the streams that it was run on."""
    known = {number for number in line.trials if number}
    return str(*known) if len(known) == 1 else f"{min(known)}–{max(known)}"


def heading(table: OldNewTable, place: int, half: Half) -> tuple[str, str]:
    """Of half a column: old or new, with the number of tasks where there are several; and what was measured."""
    column = table.columns[place]
    several = f", mean of {column.tasks[half]}" if column.tasks[half] > 1 else ""
    absent = " (values)" if table.reference and not column.relative else ""
    return f"{half}{several}{absent}", column.measured[half]


def _rich(table: OldNewTable, places: list[int], title: str | None) -> Table:
    drawn = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    drawn.add_column("method", no_wrap=True, vertical="bottom")
    drawn.add_column("trials", justify="right", vertical="bottom")
    for place in places:
        for half in HALVES:
            above = Text("\n".join(_lines(table, place, half)))
            drawn.add_column(above, justify="right", no_wrap=True, vertical="bottom")
    for line in table.lines:
        if not any(line.trials[place] for place in places):
            continue
        cells = [table.cell(line, place, half) for place in places for half in HALVES]
        drawn.add_row(escape(line.label), trials_of(line), *cells)
    return drawn


def _lines(table: OldNewTable, place: int, half: Half) -> list[str]:
    """The stream above the first of its two columns, then what stands in each; as many lines in both."""
    first, second = heading(table, place, half)
    name = table.columns[place].name
    words = _words(name, max(12, *(len(table.cell(line, place, half)) for line in table.lines)))
    return [*(words if half == "old" else [""] * len(words)), *first.split(", "), second]


def _words(name: str, width: int) -> list[str]:
    """A name in lines that are no longer than they need to be, broken at blanks and hyphens alone."""
    lines = [""]
    for word in name.replace("-", "-\0").replace(" ", " \0").split("\0"):
        if lines[-1] and len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _fitting(table: OldNewTable, width: int) -> list[list[int]]:
    """Cut the streams into runs that fit the width, each beside the method's name and number of trials."""
    left = max(6, *(len(line.label) for line in table.lines)) + 12
    needs = [0] * len(table.columns)
    for place in range(len(table.columns)):
        for half in HALVES:
            cells = [table.cell(line, place, half) for line in table.lines]
            needs[place] += max(len(one) for one in [*cells, *_lines(table, place, half)]) + 2
    return fitting(needs, left, width)
