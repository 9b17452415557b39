"""From a table or figure to its runs, cut down if need be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from everlearn.errors import ConfigurationError, EverlearnError, UnknownNameError
from everlearn.experiments.asking import check_option
from everlearn.experiments.plan import Request, Value, plan_runs, with_changes
from everlearn.experiments.records import RunConfig
from everlearn.methods.catalogue import make_method, option_names, plain_name
from everlearn.networks.papers import BACKBONES
from everlearn.networks.timm_models import PREFIX
from everlearn.plugins import is_plugin
from everlearn.reproducing.published import Column, Item, Row


@dataclass(frozen=True)
class Cut:
    """By how much less, or how differently, than published.

    Attributes:
        trials: None: as many as published.
        methods: only these rows; empty: all.
        training: settings of the training, epochs among them.
        options: of the methods.
        stream_options: of the streams.
        backbone: of all rows; None: as published.
    """

    trials: int | None = None
    methods: tuple[str, ...] = ()
    training: Mapping[str, Value] = field(default_factory=dict)
    options: Mapping[str, Value] = field(default_factory=dict)
    stream_options: Mapping[str, Value] = field(default_factory=dict)
    backbone: str | None = None

    def rows(self, item: Item) -> list[Row]:
        """The rows that are left of an item.

        Raises:
            ConfigurationError: it has no such row.
        """
        names = {row.method for row in item.rows} | {with_changes(row.method)[0] for row in item.rows}
        for name in self.methods:
            if name not in names:
                rows = dict.fromkeys(f"{_named(row)} ({row.label})" for row in item.rows)
                raise ConfigurationError(
                    f"there is no method of this table named {name!r}; there are {', '.join(rows)}."
                )
        return [
            row
            for row in item.rows
            if not self.methods or {row.method, with_changes(row.method)[0]} & set(self.methods)
        ]


@dataclass(frozen=True)
class Part:
    """What is run in one piece: rows of an item on one stream.

    Attributes:
        request: of `everlearn run`.
        configs: its runs, each trial of each row.
    """

    request: Request
    configs: tuple[RunConfig, ...]


NO_CUT = Cut()


def parts(item: Item, cut: Cut = NO_CUT, data: Path | None = None) -> list[Part]:
    """The runs of an item, stream by stream; cells that nothing can be run for are not among them.

    Raises:
        UnknownNameError: a setting that does not exist.
        ConfigurationError: a row that the item does not have, or a value out of range.
    """
    columns: Sequence[Column | None] = [one for one in item.columns.values() if one.measure] or [None]
    if item.columns and columns == [None]:
        return []
    found: dict[str, Request] = {}
    for column in columns:
        for row in cut.rows(item):
            request = _request(item, row, column, cut, data)
            key = f"{request.stream} {sorted(request.stream_options.items())}"
            before = found.get(key, request)
            found[key] = replace(before, methods=tuple(dict.fromkeys((*before.methods, *request.methods))))
    return [Part(request, tuple(plan_runs(request))) for request in found.values()]


def check_items(items: Mapping[str, Item]) -> None:
    """Find streams and methods that do not exist, by the item that names them.

    Raises:
        ConfigurationError: there is one.
    """
    for name, item in items.items():
        try:
            every = [] if item.drawing else parts(item)
            for config in {(one.method, str(one.options)): one for part in every for one in part.configs}.values():
                make_method(plain_name(config.method), config.backbone, 10, config.options)
        except EverlearnError as error:
            raise ConfigurationError(f"{name}: {error}") from None


def check_options(part: Part) -> None:
    """Find options that a run would refuse, before there are images.

    Raises:
        UnknownNameError: an option that none of the methods has.
        ConfigurationError: a value that an option cannot have.
    """
    if not part.request.options:
        return
    known: set[str] = set()
    for config in {(one.method, str(one.options)): one for one in part.configs}.values():
        known |= set(option_names(make_method(config.method, config.backbone, 10, config.options)))
    for name in part.request.options:
        check_option(name, known)


def check_backbone(name: str | None) -> None:
    """Find a backbone that does not exist before there are images; what a file or timm has is seen with them.

    Raises:
        UnknownNameError: no backbone has this name.
    """
    if name is not None and not (is_plugin(name) or name.startswith(PREFIX) or name in BACKBONES):
        raise UnknownNameError("backbone", name, BACKBONES)


def _named(row: Row) -> str:
    """What a row is asked for by; options whose values have commas cannot be."""
    return with_changes(row.method)[0] if "," in row.method else row.method


def template(item: Item, row: Row, column: Column | None) -> RunConfig:
    """The first run of a cell as it was published."""
    return plan_runs(_request(item, row, column, Cut(trials=1), None))[0]


def own_options(item: Item) -> set[str]:
    """The options of streams that the item itself sets: a run that has another value is of another table."""
    differing = [item, *item.rows, *item.columns.values()]
    return {name for one in differing for name in one.stream_options}


def _request(item: Item, row: Row, column: Column | None, cut: Cut, data: Path | None) -> Request:
    own = {**item.stream_options, **row.stream_options, **(column.stream_options if column else {})}
    return Request(
        stream=item.stream_of(column),
        methods=(row.method,),
        trials=item.trials if cut.trials is None else cut.trials,
        training={**item.training, **cut.training},
        options=cut.options,
        stream_options={**own, **cut.stream_options},
        data=data,
        backbone=cut.backbone,
    )
