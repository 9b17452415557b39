"""What there is to say of one stream: where its data come from, its options, and its tasks as a table."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from everlearn.tasks.info import Outline, StreamInfo, Value
from everlearn.tasks.task import SPLITS, Split, Task, TaskStream

_NAMED = 4
"""Classes of a task that the table names."""


def describe(info: StreamInfo, options: Mapping[str, Value] | None = None) -> Group:
    """What the stream is, where its data come from, their licence, and its options.

    Args:
        info: its entry in the table of streams.
        options: what was asked for; None: the defaults alone are shown.
    """
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("tasks", Text(info.content))
    table.add_row("data", Text(info.data + (f"; on the hub {info.hub}" if info.hub else "")))
    table.add_row("licence", Text(info.licence))
    for key, option in info.options.items():
        if option.hidden:
            continue
        chosen = (options or {}).get(key, option.default)
        words = [option.help]
        words += [f"one of {', '.join(option.choices)}"] if option.choices and options is not None else []
        words += [f"default {_typed(option.default) or 'empty'}"] if chosen != option.default else []
        table.add_row(Text(f"{key}={_typed(chosen)}"), Text("; ".join(words)))
    return Group(Text.assemble((info.name, "bold"), "  ", info.about), table)


def _typed(value: Value) -> str:
    """As a person would type it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def task_table(stream: TaskStream) -> Table:
    """The tasks: classes, and images of each split; training images of the rarest and the commonest class."""
    table = _table("train", "validation", "test", "train a class")
    for number, task in enumerate(stream.tasks, start=1):
        counts = [f"{len(split):,}" if (split := task.splits().get(name)) else "-" for name in SPLITS]
        table.add_row(*_named(number, task.name, task.classes), *counts, _spread(task))
    return table


def outline_table(outline: Outline) -> Table:
    """As much as is known without the images."""
    table = _table()
    for number, count in enumerate(outline.classes, start=1):
        table.add_row(str(number), "", str(count))
    return table


def _table(*more: str) -> Table:
    table = Table(box=None, pad_edge=True, padding=(0, 1), header_style="bold")
    table.add_column("", justify="right")
    table.add_column("task", overflow="fold")
    table.add_column("classes", overflow="fold")
    for name in more:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _named(number: int, name: str, classes: Sequence[str]) -> tuple[str, Text, Text]:
    rest = ", ..." if len(classes) > _NAMED else ""
    return str(number), Text(name), Text(f"{len(classes)}: {', '.join(classes[:_NAMED])}{rest}")


def _spread(task: Task) -> str:
    if task.train is None:
        return "-"
    counts = _per_class(task.train, len(task.classes))
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def _per_class(split: Split, classes: int) -> list[int]:
    if split.multi_label:
        return [int(count) for count in split.labels.sum(0).tolist()]
    return split.labels.bincount(minlength=classes).tolist()


def shape_in_words(shape: tuple[int, int, int]) -> str:
    """Of an image: its pixels and channels."""
    channels, height, width = shape
    if (height, width) == (1, 1):
        return f"{channels} features"
    return f"{height} x {width} pixels, " + {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
