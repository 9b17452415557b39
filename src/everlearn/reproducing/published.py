"""The data file of published values: tables and figures, what each was run on, and what it prints."""

import math
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.plan import Value

MEASURES = {
    "peak_accuracy": "%", "final_accuracy": "%", "multi_task_error": "%", "auroc": "area", "old": "%", "new": "%",
    "forgetting_ratio": "ratio", "convergence": "epochs", "parameters_total": "count", "training_seconds": "seconds",
    "capacity": "ratio",
}  # fmt: skip
"""What a column may show, and its unit; `old` and `new`: final accuracy of the old and of the new tasks."""

QUALITY = ("peak_accuracy", "final_accuracy", "multi_task_error", "auroc", "old", "new")
"""The measures of which the papers claim differences."""


class Printed(NamedTuple):
    """A value as it is printed: `31.2 ± 2.2`; NaN where there is no interval.

    `rounding` is half a unit of its last digit.
    """

    mean: float
    half_width: float = math.nan
    rounding: float = 0.0


def _printed(value: object) -> Printed:
    parts = re.fullmatch(r"(-?[\d.]+)(?: ± ([\d.]+))?", str(value))
    if parts is None:
        raise ValueError(f"needs a number, or one with its interval (31.2 ± 2.2), but came as {value!r}")
    digits = len(parts[1].partition(".")[2])
    return Printed(float(parts[1]), float(parts[2]) if parts[2] else math.nan, 0.5 * 10**-digits)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Part):
    """One number of every row.

    Attributes:
        title: its heading.
        measure: one of `MEASURES`; empty: nothing that everlearn brings can be run for it.
        stream: where it differs from the item's.
        stream_options: that this column adds.
        beside: the method whose value ours and theirs are divided by; empty: none.
        scale: what a printed number is multiplied by to be a count or seconds.
        needs: what must be there to run it.
    """

    title: str
    measure: str = ""
    stream: str = ""
    stream_options: dict[str, Value] = {}
    beside: str = ""
    scale: float = 1.0
    needs: str = ""


class Row(_Part):
    """One method.

    Attributes:
        method: as `everlearn run` takes it, with its options.
        label: as the paper calls it.
        group: of rows that are compared with each other.
        stream_options: that this row adds.
        beside: instead of the column's.
        absolute: printed as it is, although the item's others are printed as differences.
        printed: by column.
    """

    method: str
    label: str
    group: str = ""
    stream_options: dict[str, Value] = {}
    beside: str = ""
    absolute: bool = False
    printed: dict[str, Annotated[Printed, BeforeValidator(_printed)]] = {}


class Item(_Part):
    """A table or a figure; the data file's head says what each field is."""

    title: str
    place: str
    stream: str = ""
    stream_options: dict[str, Value] = {}
    training: dict[str, Value] = {}
    trials: int = 1
    interval: str = ""
    columns: dict[str, Column] = {}
    rows: list[Row] = []
    differences: list[tuple[str, str]] = []
    relative: str = ""
    needs: str = ""
    drawing: bool = False
    drawn: str = ""
    stand_in: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "Item":
        if self.drawing:
            return self
        methods = {row.method for row in self.rows}
        named = {name for pair in self.differences for name in pair}
        named |= {column.beside for column in self.columns.values()} | {row.beside for row in self.rows}
        if unknown := (named | {self.relative}) - methods - {""}:
            raise ValueError(f"it names rows that it does not have: {', '.join(sorted(unknown))}")
        if self.relative and any(self.relative in pair for pair in self.differences):
            raise ValueError(f"its rows are differences from {self.relative} already")
        for row in self.rows:
            if unknown := row.printed.keys() - self.columns.keys():
                raise ValueError(f"{row.label} has columns that it does not have: {', '.join(sorted(unknown))}")
        for key, column in self.columns.items():
            if column.measure and column.measure not in MEASURES:
                raise ValueError(f"{key} measures {column.measure}; known are {', '.join(MEASURES)}")
            if column.measure and not self.stream_of(column):
                raise ValueError(f"{key} names no stream")
        self._check_runs()
        self._check_relations()
        return self

    def _check_runs(self) -> None:
        """Whether there is something to run, and something that it can be run on."""
        if not self.rows:
            raise ValueError("it has no rows; name the methods, or say that it is no result (drawing: true)")
        if not self.columns and not self.stream:
            raise ValueError("it names no stream; say what its rows are run on (stream: digits)")
        if self.trials < 1:
            raise ValueError(f"it needs one trial or more, but came with {self.trials}")

    def _check_relations(self) -> None:
        """Whether all that is relative to another row has one, and can be divided by it."""
        for row in self.rows:
            if self.relative and self.row_of(self.relative, row.group) is None:
                raise ValueError(
                    f"{row.label} is a difference from {self.relative}, of which its group ({row.group or 'none'}) has "
                    "no row; add one, or leave out relative"
                )
            for key, column in self.columns.items():
                other = self.other_of(row, column)
                if other is not None and key in other.printed and not other.printed[key].mean:
                    raise ValueError(f"{key} of {row.label} is divided by that of {other.label}, which is 0")

    def row_of(self, method: str, group: str) -> Row | None:
        """The first row of a method in a group."""
        return next((row for row in self.rows if (row.method, row.group) == (method, group)), None)

    def other_of(self, row: Row, column: Column) -> Row | None:
        """The row that a row's values in a column are divided by."""
        return self.row_of(row.beside or column.beside, row.group) if column.beside else None

    def stream_of(self, column: Column | None) -> str:
        """The stream of a column; of an item that is drawn, its own."""
        return (column.stream if column else "") or self.stream


class Published(_Part):
    """The whole file: citations by the paper's short name, items by `paper/table-1`."""

    papers: dict[str, str]
    items: dict[str, Item]

    @model_validator(mode="after")
    def _cited(self) -> "Published":
        for name in self.items:
            paper = name.partition("/")[0]
            if paper not in self.papers:
                raise ValueError(f"{name} is of {paper}, which is not among papers; add its citation there")
        return self


def published(file: Path | None = None) -> Published:
    """The values of the four papers, or those of a file of the same form.

    Raises:
        ConfigurationError: the file cannot be read, or is not what it should be.
    """
    try:
        text = file.read_text() if file else (files("everlearn") / "reproducing" / "published.yaml").read_text()
        content: Any = yaml.safe_load(text)
        return Published.model_validate(content)
    except OSError as error:
        raise ConfigurationError(f"the file {file} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        said = first["msg"].removeprefix("Value error, ")  # so pydantic begins what our own checks say
        raise ConfigurationError(f"{file} is no file of published values: {where}: {said}.") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # the latter of 2020-13-45, !!bool x
        raise ConfigurationError(f"{file} is no valid YAML: {' '.join(str(error).split()).rstrip('.')}.") from None


def item_of(known: Published, name: str) -> Item:
    """One table or figure by its name.

    Raises:
        UnknownNameError: there is no such one.
        ConfigurationError: it is a paper, or a drawing.
    """
    own = {key: one for key, one in known.items.items() if key.startswith(f"{name}/")}
    if own:
        drawn = [key for key, one in own.items() if one.drawing]
        beside = f" ({', '.join(drawn)} {'is a drawing' if len(drawn) == 1 else 'are drawings'})" if drawn else ""
        raise ConfigurationError(
            f"{name} is a whole paper; name some of its tables and figures: "
            f"{', '.join(key for key in own if key not in drawn)}{beside}."
        )
    if name not in known.items:
        raise UnknownNameError("table or figure", name, known.items)
    item = known.items[name]
    if item.drawing:
        raise ConfigurationError(f"{name} ({item.title}) is no result: there is nothing to run.")
    return item
