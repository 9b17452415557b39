"""Which runs may be compared: trials of one method, and methods on one stream under one training."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from everlearn.experiments.records import ResultRecord, RunConfig
from everlearn.experiments.store import StoredRun
from everlearn.metrics import History
from everlearn.report.histories import history
from everlearn.report.starts import trained_by
from everlearn.training.settings import Training

REFERENCE = "stl"
"""The method that learns every task alone: what forward transfer is measured against."""

SINGLE_TASK = (REFERENCE, "stl-large")
"""The methods that learn every task alone: dotted lines in the figures, first in the tables."""


@dataclass(frozen=True)
class Trial:
    """One finished run.

    Attributes:
        stored: as it lies on disk.
        result: its sizes and seconds.
        history: its accuracies.
        alone: the history of single-task learning in the same trial on the same backbone, if there is one.
    """

    stored: StoredRun
    result: ResultRecord
    history: History
    alone: History | None

    @property
    def key(self) -> tuple[int, int]:
        """The stream's seed and the trial's number: trials of two methods that agree in it are a pair."""
        return self.stored.run.config.stream.seed, self.stored.run.config.trial


@dataclass(frozen=True)
class Entry:
    """The trials of one method: one row of a table, one line of a figure.

    Attributes:
        label: the method's name; with its backbone or options where the name alone would be ambiguous.
        config: of the first trial.
        trials: at least one, by the stream's seed, then by number.
    """

    label: str
    config: RunConfig
    trials: tuple[Trial, ...]

    @property
    def single_task(self) -> bool:
        """Whether this is single-task learning."""
        return _is_single(self.config)


@dataclass(frozen=True)
class Comparison:
    """Methods that learned one stream under one training: one table.

    Attributes:
        stream: the stream's name.
        seeds: the seeds of the stream, over trials.
        options: the stream's options.
        training: settings of the loop.
        entries: single-task learning first, then by label.
        tasks: only so many of the stream's tasks, the first ones; None: all.
        starts: the trained networks that its runs went on from; empty: none.
    """

    stream: str
    seeds: tuple[int, ...]
    options: dict[str, str | int | float | bool]
    training: Training
    entries: tuple[Entry, ...]
    tasks: int | None = None
    starts: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The stream and what it was made with, in one line."""
        seeds = ", ".join(str(seed) for seed in self.seeds)
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        first = "" if self.tasks is None else f", first {'task' if self.tasks == 1 else f'{self.tasks} tasks'} only"
        return f"{self.stream} ({'seed' if len(self.seeds) == 1 else 'seeds'} {seeds}{options}{first})"

    @property
    def labels(self) -> list[str]:
        """The labels of the entries."""
        return [entry.label for entry in self.entries]

    @property
    def given(self) -> bool:
        """Whether a task came with a trained network."""
        return any(first == last for trial in self.trials() for first, last in trial.history.phases)

    def trials(self) -> list[Trial]:
        """Every trial of every method."""
        return [trial for entry in self.entries for trial in entry.trials]

    def singles(self) -> list[Entry]:
        """The entries of single-task learning."""
        return [entry for entry in self.entries if entry.single_task]


def comparisons(runs: Iterable[StoredRun]) -> list[Comparison]:
    """Sort finished runs into what may be compared.

    Runs of one stream (name and options) under one training belong together, whatever the stream's seed: a
    trial is known by its number and its seed. Runs that went on from a trained network stand apart from those that
    began without. Unfinished runs are left out; copies of one run count once.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    finished = {run.run.id: run for run in runs if run.result is not None}.values()
    found = [_comparison(group) for members in _split(finished, _setting) for group in _by_start(members)]
    return sorted(found, key=lambda one: (one.stream, json.dumps(one.options, sort_keys=True), one.tasks is not None))


def distinctions(found: Sequence[Comparison]) -> list[str]:
    """For each comparison, the settings of the training in which not all agree; empty for a single one.

    Also what its runs began from, where no more than that tells two comparisons apart.
    """
    settings = [asdict(comparison.training) for comparison in found]
    differing = [name for name in settings[0] if len({one[name] for one in settings}) > 1] if found else []
    said = [[str(one[name]) if name == "protocol" else f"{name} {one[name]}" for name in differing] for one in settings]
    return [", ".join([*words, *_beginning(one, found)]) for words, one in zip(said, found, strict=True)]


def _comparison(runs: list[StoredRun]) -> Comparison:
    configs = [run.run.config for run in runs]
    histories = {run.run.id: history(run) for run in runs}
    alone = {_place(run.run.config): histories[run.run.id] for run in runs if run.run.config.method == REFERENCE}
    entries: list[Entry] = []
    for members in _split(runs, identity):
        members.sort(key=lambda run: (run.run.config.stream.seed, run.run.config.trial))
        trials: list[Trial] = []
        for run in members:
            assert run.result is not None
            config, own = run.run.config, histories[run.run.id]
            other = None if _is_single(config) else alone.get(_place(config))
            if other is not None and set(other.tasks) != set(own.tasks):
                other = None
            trials.append(Trial(run, run.result, own, other))
        entries.append(Entry(label_of(members[0].run.config, configs), members[0].run.config, tuple(trials)))
    entries.sort(key=lambda entry: (not entry.single_task, entry.label))
    return Comparison(
        stream=configs[0].stream.name,
        seeds=tuple(sorted({config.stream.seed for config in configs})),
        options=configs[0].stream.options,
        training=configs[0].training.compared,
        entries=tuple(entries),
        tasks=configs[0].tasks,
        starts=tuple(sorted({config.start for config in configs} - {""})),
    )


def _by_start(runs: list[StoredRun]) -> list[list[StoredRun]]:
    """Apart by how the network was trained that they went on from, where one trial of one method went on from several.

    Each trial may have a network of its own, so that trials of different networks belong together otherwise.
    """
    seen: dict[tuple[str, int, int], set[str]] = {}
    for run in runs:
        config = run.run.config
        seen.setdefault((identity(config), config.stream.seed, config.trial), set()).add(config.start)
    if all(len(starts) == 1 for starts in seen.values()):
        return [runs]
    ways = {run.run.config.start: _way(run) for run in runs}
    return _split(runs, lambda config: ways[config.start])


def _way(run: StoredRun) -> str:
    """How the network was trained that a run went on from; where that is not known, which one it was."""
    config = trained_by(run)
    return run.run.config.start if config is None else _setting(config) + identity(config)


def _beginning(one: Comparison, found: Sequence[Comparison]) -> list[str]:
    same = [other for other in found if (other.title, other.training) == (one.title, one.training)]
    if not one.starts or len(same) == 1:
        return []
    alone = sum(bool(other.starts) for other in same) == 1
    return ["from a trained network" if alone else f"from {', '.join(one.starts)}"]


def label_of(config: RunConfig, others: Sequence[RunConfig]) -> str:
    """The method's name, and no more of backbone, options and files than is needed to tell it from the others.

    An option that has its default is not named, so that a method with nothing but defaults has its plain name.
    """
    extra: list[str] = []
    if len({other.backbone for other in others}) > 1:
        extra.append(config.backbone)
    same = [other for other in others if other.method == config.method]
    names = sorted({name for other in same for name in other.options})
    extra.extend(
        f"{name} {config.options[name]}"
        for name in names
        if name in config.options and len({json.dumps(other.options.get(name)) for other in same}) > 1
    )
    for name, mark in config.code.items():  # of a user's own file, which was changed between runs
        if len({other.code[name] for other in others if name in other.code}) > 1:
            extra.append(f"file {mark[:6]}")
    return f"{config.method} ({', '.join(extra)})" if extra else config.method


def _split(runs: Iterable[StoredRun], key: Callable[[RunConfig], str]) -> list[list[StoredRun]]:
    groups: dict[str, list[StoredRun]] = {}
    for run in runs:
        groups.setdefault(key(run.run.config), []).append(run)
    return list(groups.values())


def _setting(config: RunConfig) -> str:
    stream = [config.stream.name, sorted(config.stream.options.items())]
    return json.dumps([stream, repr(config.training.compared), config.tasks, bool(config.start)])


def _place(config: RunConfig) -> tuple[str, str, int, int]:
    return config.backbone, config.code.get(config.backbone, ""), config.stream.seed, config.trial


def _is_single(config: RunConfig) -> bool:
    return config.method in SINGLE_TASK


def identity(config: RunConfig) -> str:
    """What the trials of one method have in common: its name, options and backbone, and the files that they lie in."""
    return json.dumps([config.method, sorted(config.options.items()), config.backbone, sorted(config.code.items())])
