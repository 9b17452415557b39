"""How the numbers of a comparison were obtained, in words."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from everlearn.experiments.records import RunConfig
from everlearn.experiments.store import StoredRun
from everlearn.report.groups import Comparison, Entry, Trial
from everlearn.report.starts import trained_by
from everlearn.training.settings import READ_BY

_SETTINGS = {
    "protocol": "Protocol",
    "epochs": "Epochs",
    "batch": "Batch",
    "optimiser": "Optimiser",
    "rate": "Learning rate",
    "schedule": "Schedule",
    "decay": "Decay",
    "drop_at": "Drop after",
    "patience": "Patience",
    "momentum": "Momentum",
    "beta1": "Decay of mean gradients",
    "beta2": "Decay of mean squares",
    "weight_decay": "Weight decay",
    "reduction": "Loss of a batch",
    "augment": "Augmentation",
    "evaluate_every": "Evaluation",
    "memory_format": "Memory format",
    "precision": "Precision",
}
_OWN_FLAG = ("protocol", "epochs", "batch", "rate")
"""Settings that `everlearn run` has a flag for; the others are given with `--set`."""


@dataclass(frozen=True)
class Unfinished:
    """A run that has begun and not ended."""

    method: str
    trial: int
    folder: str
    epochs: str


def settings(comparison: Comparison) -> list[tuple[str, str]]:
    """The training in words: name and value of every setting."""
    training = comparison.training
    values = asdict(training)
    together = training.protocol == "multi-task"
    said = {
        "protocol": "multi-task: all tasks together, a random one each epoch"
        if together
        else "lifelong: one task after the other",
        "epochs": f"{training.epochs:,} {'in all' if together else 'per task'}",
        "batch": f"{training.batch} images",
        "schedule": _schedule(comparison),
        "drop_at": f"{training.drop_at:g} of a stage",
        "patience": f"{training.patience} epochs",
        "evaluate_every": f"every task every {training.evaluate_every} epochs"
        if together
        else f"the task in training every {training.evaluate_every} epochs, earlier ones every "
        f"{training.evaluate_others_every}; a task that cannot have changed keeps its last value",
    }
    unused = {name for name in READ_BY if not training.reads(name)}
    unused |= {"augment"} if not training.augment else set()
    unused |= {"weight_decay"} if not training.weight_decay else set()
    return [
        (title, said.get(name, f"{values[name]:g}" if isinstance(values[name], float) else str(values[name])))
        for name, title in _SETTINGS.items()
        if name not in unused
    ] + [("Begun from", words) for words in _distinct(_beginning(trial) for trial in comparison.trials()) if words]


def tasks(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """For each order in which trials presented the tasks: which trials, and the tasks with their classes."""
    orders: dict[tuple[str, ...], set[int]] = {}
    for trial in comparison.trials():
        run = trial.stored.run
        named = tuple(
            f"{task} ({count} classes{_how(trial, place)})"
            for place, (task, count) in enumerate(zip(run.tasks, run.classes, strict=True))
        )
        orders.setdefault(named, set()).add(trial.stored.run.config.trial)
    if len(orders) == 1:
        return [("every trial", list(next(iter(orders))))]
    return [
        (f"trial {', '.join(str(trial) for trial in sorted(trials))}", list(order)) for order, trials in orders.items()
    ]


def warnings(comparison: Comparison) -> list[str]:
    """What a reader should know before comparing these numbers; empty if nothing."""
    found: list[str] = []
    counts = {len(entry.trials) for entry in comparison.entries}
    if len(counts) > 1:
        found.append(f"The methods have different numbers of trials ({min(counts)} to {max(counts)}).")
    if min(counts) == 1:
        found.append("A method with a single trial has no interval: its number may be chance.")
    found += [said for entry in comparison.entries if (said := _alike(entry))]
    prints: dict[tuple[int, int], set[str]] = {}
    for trial in comparison.trials():
        prints.setdefault(trial.key, set()).add(trial.stored.run.fingerprint)
    differing = sorted(key for key, seen in prints.items() if len(seen) > 1)
    if differing:
        listed = ", ".join(f"trial {trial} of seed {seed}" for seed, trial in differing)
        found.append(f"Not all methods saw the same images: the data's fingerprints differ in {listed}.")
    starts: dict[tuple[str, int, int], set[str]] = {}
    for trial in comparison.trials():
        starts.setdefault((trial.stored.run.config.backbone, *trial.key), set()).add(trial.stored.run.config.start)
    if any(len(seen) > 1 for seen in starts.values()):
        found.append("In one trial, not all methods went on from the same trained network.")
    if any("mAP" in trial.stored.run.metrics for trial in comparison.trials()):
        found.append("Of multi-label tasks, what is called accuracy is the mean average precision.")
    if len(machines(comparison)) > 1:
        found.append("The runs come from different machines, so their times cannot be compared.")
    if len(versions(comparison)) > 1:
        found.append("The runs come from different versions of the software.")
    doubts = [
        f"{entry.label}: {doubt}"
        for entry in comparison.entries
        for one in entry.trials
        for doubt in one.result.warnings
    ]
    return found + _distinct(doubts)


def _alike(entry: Entry) -> str:
    """What is to be said of a row in which some trials have one stream and others their own; empty of any other."""
    trials: dict[int, list[int]] = {}
    for trial in entry.trials:
        seed, number = trial.key
        trials.setdefault(seed, []).append(number)
    several = {seed: sorted(numbers) for seed, numbers in trials.items() if len(numbers) > 1}
    if not several or len(trials) == 1:
        return ""
    listed = " and ".join(
        f"trials {', '.join(map(str, numbers))} have the stream of seed {seed}"
        for seed, numbers in sorted(several.items())
    )
    return (
        f"{entry.label}: {listed} (--same-stream), and others one of their own, so that they are not independent and "
        "the interval is of neither kind; keep the two kinds in folders apart."
    )


def _beginning(trial: Trial) -> str:
    """The trained network that a run went on from, in words."""
    if not trial.stored.run.config.start:
        return ""
    config = trained_by(trial.stored)
    if config is None:
        return "a trained network that was given"
    one = config.training
    return (
        f"a network trained on the first task by {config.method}: {one.epochs:,} epochs, batch {one.batch}, "
        f"{one.optimiser}, rate {one.rate:g}, {one.schedule}"
    )


def _how(trial: Trial, task: int) -> str:
    """Of a task that came with a trained network, and of one that is not measured by accuracy, that it is so."""
    kinds = trial.stored.run.metrics
    mean = ", mean average precision" if kinds and kinds[task] == "mAP" else ""
    return mean + (", given with its network" if trial.history.given(task) else "")


def machines(comparison: Comparison) -> list[str]:
    """The machines that the runs ran on."""
    return _distinct(
        ", ".join(f"{name} {value}" for name, value in trial.result.machine.items()) for trial in comparison.trials()
    )


def versions(comparison: Comparison) -> list[str]:
    """The software that the runs ran with."""
    return _distinct(
        ", ".join(f"{name} {value}" for name, value in trial.result.versions.items()) for trial in comparison.trials()
    )


def commands(comparison: Comparison) -> list[str]:
    """The commands that do these runs again, one for each set of options; every setting is spelled out.

    Entries whose trials no single command makes (a gap in their numbers) are left out, and all of a stream that was
    given to `everlearn.run` as an object.
    """
    if any("fingerprint" in entry.config.stream.options for entry in comparison.entries):
        return []
    together: dict[tuple[str, ...], list[str]] = {}
    for entry in comparison.entries:
        trials = _trial_flags(entry)
        if trials is not None:
            together.setdefault((*trials, *_flags(entry.config), *_start_flags(entry)), []).append(entry.config.method)
    return [
        shlex.join(["everlearn", "run", comparison.stream, "--methods", ",".join(methods), *flags])
        for flags, methods in together.items()
    ]


def unfinished(runs: Iterable[StoredRun], name: Callable[[StoredRun], str]) -> list[Unfinished]:
    """The runs that have begun and not ended.

    Args:
        runs: finished ones are passed over.
        name: a run's folder, as it is to be shown.
    """
    return [
        Unfinished(
            method=run.run.config.method,
            trial=run.run.config.trial,
            folder=name(run),
            epochs=f"{max((line.epoch for line in run.evaluations), default=0):,} of "
            f"{max((phase.last for phase in run.run.phases), default=0):,}",
        )
        for run in runs
        if run.result is None
    ]


def _schedule(comparison: Comparison) -> str:
    return {
        "hyperbolic": "hyperbolic: rate / (1 + decay × epochs of the whole sequence so far)",
        "exponential": "exponential: rate × exp(−decay × epochs of the whole sequence so far)",
        "constant": "constant",
        "cosine": "cosine, to zero over each stage",
        "step": "a tenth of the rate in the last part of each stage",
        "plateau": "a tenth of the rate, once a stage, when the validation accuracy no longer rises",
    }[comparison.training.schedule]


def _trial_flags(entry: Entry) -> list[str] | None:
    if entry.config.tasks is not None:
        return None
    keys = [trial.key for trial in entry.trials]
    seeds, numbers = [seed for seed, _ in keys], sorted(number for _, number in keys)
    if numbers != list(range(len(keys))):
        return None
    flags = ["--trials", str(len(keys)), "--seed", str(seeds[0])]
    if all(seed == seeds[0] + number for seed, number in keys):
        return flags
    return [*flags, "--same-stream"] if len(set(seeds)) == 1 else None


def _flags(config: RunConfig) -> list[str]:
    flags = ["--backbone", config.backbone]
    for name, value in asdict(config.training).items():
        flags += [f"--{name}", str(value)] if name in _OWN_FLAG else ["--set", f"{name}={value}"]
    for flag, pairs in (("--option", config.options), ("--stream-option", config.stream.options)):
        flags += [part for name, value in pairs.items() for part in (flag, f"{name}={value}")]
    return flags


def _start_flags(entry: Entry) -> list[str]:
    """How to get the trained network again: by its training, or from the file that it came in."""
    if not entry.config.start:
        return []
    config = trained_by(entry.trials[0].stored)
    if config is None:
        return ["--start", "FILE"]
    return [part for name, value in asdict(config.training).items() for part in ("--first", f"{name}={value}")]


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
