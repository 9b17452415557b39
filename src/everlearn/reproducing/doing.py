"""Doing what is missing of a table or figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from everlearn.errors import MissingDataError
from everlearn.experiments.asking import first_stream
from everlearn.experiments.cluster import Cluster
from everlearn.experiments.execute import Place
from everlearn.experiments.plan import Request
from everlearn.experiments.records import RunConfig
from everlearn.experiments.run import complete
from everlearn.experiments.store import StoredRun
from everlearn.reproducing.matching import cells, is_planned
from everlearn.reproducing.planning import Cut, Part, parts
from everlearn.reproducing.published import Item


@dataclass(frozen=True)
class Plan:
    """What is to be done of an item.

    Attributes:
        parts: with the runs of each that have no finished record.
        planned: runs in all.
    """

    parts: tuple[tuple[Part, tuple[RunConfig, ...]], ...]
    planned: int

    @property
    def missing(self) -> int:
        """Runs that are still to be done."""
        return sum(len(missing) for _, missing in self.parts)


def plan(item: Item, cut: Cut, runs: Sequence[StoredRun], data: Path | None = None) -> Plan:
    """What of an item's runs is there, and what is missing.

    Raises:
        EverlearnError: a method or a setting that does not exist.
    """
    every = parts(item, cut, data)
    found = [match.run.run.config for matches in cells(item, runs).values() for match in matches]
    split = tuple(
        (part, tuple(c for c in part.configs if not any(is_planned(run, c) for run in found))) for part in every
    )
    return Plan(split, sum(len(part.configs) for part in every))


def lacking(item: Item, data: Path) -> dict[str, str]:
    """The columns whose images are not in a folder of data sets, though nothing says that they need any."""
    wanted = [key for key, column in item.columns.items() if column.measure and not (column.needs or item.needs)]
    there: dict[str, bool] = {}
    for key in wanted:
        column = item.columns[key]
        options = {**item.stream_options, **item.rows[0].stream_options, **column.stream_options}
        request = Request(item.stream_of(column), stream_options=options, data=data)
        if request.stream not in there:
            try:
                there[request.stream] = bool(first_stream(request))
            except MissingDataError:
                there[request.stream] = False
    streams = {key: item.stream_of(item.columns[key]) for key in wanted}
    return {key: f"the images of {name}, which are not in {data}" for key, name in streams.items() if not there[name]}


def do(work: Plan, place: Place, count: int | Cluster, runs: Sequence[StoredRun], quiet: bool) -> list[str]:
    """Do what is missing of a plan, stream by stream.

    Args:
        work: the plan.
        place: where new runs go.
        count: processes at a time, or a cluster.
        runs: those that are there.
        quiet: no progress bars.

    Returns:
        what was looked for, of each part that could not be done for want of data.

    Raises:
        EverlearnError: a run could not be done.
    """
    finished = {run.run.id for run in runs if run.result is not None}
    wanting: list[str] = []
    for part in (part for part, missing in work.parts if missing):
        try:
            complete(part.request, place, count, quiet, finished)
        except MissingDataError as error:
            wanting.append(f"{part.request.stream}: {error}")
    return wanting
