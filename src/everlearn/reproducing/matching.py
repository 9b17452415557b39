"""Which stored runs are runs of a table, and how they differ from what was published."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from everlearn.experiments.plan import Value, settings
from everlearn.experiments.records import RunConfig
from everlearn.experiments.store import StoredRun
from everlearn.methods.catalogue import said_options
from everlearn.reproducing.planning import Cut, own_options, template
from everlearn.reproducing.published import Item

Extra = tuple[tuple[str, Value], ...]
"""Options, and what else is said of a row, that the published one does not have."""

Difference = tuple[str, Value, Value]
"""A setting, what the runs have, and what was published."""

CODE = "code of the backbone"
"""The setting that tells two files of one name."""

PRECISION = "precision"
"""The setting that changes how numbers are computed and not which: a row that was run in another one alone is lent."""

SAME_STREAM = "stream of every trial"
SEEDS = "seeds"
"""The settings of `everlearn run --same-stream`, and of `--seed`: trial n is published with the stream of seed n."""


@dataclass(frozen=True)
class Match:
    """A run of a cell.

    Attributes:
        run: as stored.
        extra: options of its method that the published row does not have; the precision of a row that is lent.
        differences: of its backbone, its training, its stream and, once all are found, its seeds from those published.
    """

    run: StoredRun
    extra: Extra
    differences: tuple[Difference, ...]


Cells = dict[tuple[int, str], list[Match]]
"""The runs of each cell, by the row's place and the column's key (empty for an item without columns)."""


def cells(item: Item, runs: Sequence[StoredRun]) -> Cells:
    """The runs of every cell of an item; finished ones alone.

    A run that several rows of one method fit is of the row that says most of its options: `lwf+response=l1`, not `lwf`.
    """
    finished = [run for run in runs if run.result is not None]
    apart = own_options(item)
    found: Cells = {}
    columns = {key: one for key, one in item.columns.items() if one.measure} or ({} if item.columns else {"": None})
    for key, column in columns.items():
        wanted = {place: template(item, row, column) for place, row in enumerate(item.rows)}
        for run in finished:
            matches = {place: m for place, one in wanted.items() if (m := _match(run, one, apart))}
            said = max((len(wanted[place].options) for place in matches), default=0)
            for place, match in matches.items():
                if len(wanted[place].options) == said:
                    found.setdefault((place, key), []).append(match)
    return _lent(_with_seeds(found))


def _lent(found: Cells) -> Cells:
    """The matches, where rows that were run in another precision alone stand beside those of the published one.

    Such a row says its precision as it says an option. Where a row was run in both, those of the other one are a table
    of their own, in which nothing else differs.
    """
    kinds: dict[tuple[Difference, ...], set[tuple[int, Extra]]] = {}
    for (place, _), matches in found.items():
        for match in matches:
            kinds.setdefault(match.differences, set()).add((place, match.extra))
    beside: dict[tuple[Difference, ...], tuple[Difference, ...]] = {}
    for way, own in kinds.items():
        other = tuple(one for one in way if one[0] != PRECISION)
        if other in kinds and own.isdisjoint(kinds[other]):
            beside[way] = other
    return {
        cell: [_lend(match, beside.get(match.differences, match.differences)) for match in matches]
        for cell, matches in found.items()
    }


def _lend(match: Match, other: tuple[Difference, ...]) -> Match:
    """A match with all else than these differences said of its row."""
    said = tuple(
        (name, ours) for name, ours, _ in match.differences if name == PRECISION and match.differences != other
    )
    return Match(match.run, (*match.extra, *said), other)


def _with_seeds(found: Cells) -> Cells:
    """The matches with what is to be said of their seeds, which those of the other trials tell."""
    beside: dict[tuple[Difference, ...], set[tuple[int, int]]] = {}
    for match in (match for matches in found.values() for match in matches):
        beside.setdefault(match.differences, set()).add(_seeds_of(match))
    return {
        cell: [
            replace(match, differences=(*match.differences, *way))
            for match in matches
            for way in _seed_ways(*_seeds_of(match), beside[match.differences])
        ]
        for cell, matches in found.items()
    }


def _seeds_of(match: Match) -> tuple[int, int]:
    """The stream's seed and the trial's number."""
    return match.run.run.config.stream.seed, match.run.run.config.trial


def _seed_ways(seed: int, trial: int, beside: Collection[tuple[int, int]]) -> list[tuple[Difference, ...]]:
    """How the seed of a run differs from the published one, which is its trial.

    The seeds of `--seed 10` are 10, 11, 12, and those of `--same-stream` are all the same: a first trial may be of
    both, and so may one that is as published.

    Args:
        seed: of its stream.
        trial: its number.
        beside: seed and trial of all runs that differ as it does otherwise, itself among them.
    """
    alone = _is_of_one_stream(seed, trial, beside)
    same = any(_is_of_one_stream(seed, other, beside) for at, other in beside if at == seed)
    shifted = any(
        at - other == seed - trial and other and not _is_of_one_stream(at, other, beside) for at, other in beside
    )
    ways: list[tuple[Difference, ...]] = []
    if seed == trial:
        ways.append(())
    elif not alone and (shifted or not same):
        ways.append(((SEEDS, f"from {seed - trial}", ""),))
    if alone or (same and trial in (0, seed)):
        ways.append(((SAME_STREAM, "the same" if seed == 0 else f"of seed {seed}", "its own"),))
    return ways


def _is_of_one_stream(seed: int, trial: int, beside: Collection[tuple[int, int]]) -> bool:
    """Whether a trial has the seed of another one: more runs share its seed than its distance from the trial."""
    if trial in (0, seed):
        return False
    same = sum(at == seed for at, _ in beside)
    return seed < trial or same > sum(at - other == seed - trial for at, other in beside)


def is_planned(run: RunConfig, planned: RunConfig) -> bool:
    """Whether a stored run of a table is the one that was planned, of those options that its method has."""
    return (
        (run.method, run.stream.name) == (planned.method, planned.stream.name)
        and (run.backbone, run.code) == (planned.backbone, planned.code)
        and (run.stream.seed, run.trial) == (planned.stream.seed, planned.trial)
        and run.training.compared == planned.training.compared
        and _same_options(run.stream.options, planned.stream.options)
        and {name: str(value) for name, value in run.options.items()} == _taken(planned)
    )


def is_shown(run: RunConfig, cut: Cut) -> bool:
    """Whether a stored run is among those that a cut leaves, whichever rows it leaves.

    Raises:
        UnknownNameError: a setting that does not exist.
        ConfigurationError: a value that a setting cannot have.
    """
    asked = run.model_copy(update={"options": {**run.options, **cut.options}})
    given = {name: str(value) for name, value in run.options.items()}
    return (
        (cut.trials is None or run.trial < cut.trials)
        and (cut.backbone or run.backbone) == run.backbone
        and settings(run.training, cut.training) == run.training
        and all(str(run.stream.options.get(name)) == str(value) for name, value in cut.stream_options.items())
        and (not cut.options or given == _taken(asked))
    )


def _match(run: StoredRun, wanted: RunConfig, apart: set[str]) -> Match | None:
    config = run.run.config
    if (config.stream.name, config.method, config.tasks) != (wanted.stream.name, wanted.method, wanted.tasks):
        return None
    if {name: mark for name, mark in config.code.items() if name != config.backbone} != wanted.code:
        return None
    if config.training.protocol != wanted.training.protocol or bool(config.start) != bool(wanted.start):
        return None
    own = {name: str(value) for name, value in config.options.items()}
    if any(own.get(name) != value for name, value in _taken(wanted).items()):
        return None
    extra = tuple(sorted((name, value) for name, value in config.options.items() if name not in wanted.options))
    found: list[Difference] = []
    if config.backbone != wanted.backbone:
        found.append(("backbone", config.backbone, wanted.backbone))
    if config.backbone in config.code:  # of two files of one name each has rows of its own
        found.append((CODE, config.code[config.backbone], ""))
    for name, value in wanted.stream.options.items():
        given = config.stream.options.get(name, value)
        if str(given) != str(value):
            if name in apart:
                return None
            found.append((name, given, value))
    now, then = asdict(config.training.compared), asdict(wanted.training.compared)
    found += [(name, now[name], then[name]) for name in then if now[name] != then[name]]
    return Match(run, extra, tuple(found))


def _taken(planned: RunConfig) -> dict[str, str]:
    """The options of a planned run as they are recorded."""
    return said_options(planned.method, planned.backbone, 10, planned.options)


def _same_options(ours: Mapping[str, Value], planned: Mapping[str, Value]) -> bool:
    return all(str(ours.get(name, value)) == str(value) for name, value in planned.items())
