"""How large networks are beside the one that learns all tasks at once: the capacity of Yoon et al. 2018, Fig. 3.

The multi-task network (MTL) is one trunk with a head a task; its number of parameters is 100 %. A comparison has one
such network, on one backbone, so that the same method on a smaller backbone has a smaller capacity.
"""

import math
from collections import Counter
from statistics import fmean

from everlearn.errors import EverlearnError
from everlearn.experiments.presets import preset_of
from everlearn.report.groups import REFERENCE, Comparison, Entry, Trial
from everlearn.report.measures import Measure

_ONE_TRUNK = ("mtl", "joint", "hps")
"""The methods that hold one trunk and a head a task, and nothing else."""


def has_growth(comparison: Comparison) -> bool:
    """Whether a run measured areas under the ROC curve, or counted something of its layers (as networks that grow)."""
    return any(
        trial.history.auroc is not None or any(found.counts for found in trial.stored.findings)
        for trial in comparison.trials()
    )


def base_backbone(comparison: Comparison) -> str:
    """The backbone of the network that is 100 %: the stream's own, if a method was run on it, or else the one that most
    methods were run on."""
    counts = Counter(entry.config.backbone for entry in comparison.entries)
    own = preset_of(comparison.stream).backbone
    return own if own in counts else max(sorted(counts), key=lambda name: counts[name])


def multi_task_size(comparison: Comparison) -> float:
    """The parameters of the multi-task network on the base backbone; NaN where they cannot be known.

    They are those of a run of `mtl`, `joint` or `hps`; else follow from a run of `stl`, whose trunks are all of one
    size; else the network is built and counted, where its backbone and its stream are of the tables.
    """
    base = base_backbone(comparison)
    entries = {
        entry.config.method: entry
        for entry in comparison.entries
        if entry.config.backbone == base and "configuration" not in entry.config.options
    }
    for method in _ONE_TRUNK:
        if method in entries:
            return _mean(entries[method], "total")
    if REFERENCE in entries:
        tasks = len(entries[REFERENCE].trials[0].history.tasks)
        return _mean(entries[REFERENCE], "own") / tasks + _mean(entries[REFERENCE], "head")
    return _counted(comparison, base)


def relative(trial: Trial, size: float) -> float:
    """A trial's parameters, relative to so many: its capacity, where they are the multi-task network's."""
    return trial.result.parameters.get("total", math.nan) / size


def growth_measures(comparison: Comparison) -> tuple[Measure, ...]:
    """Capacity and training time a task, in comparisons where they matter; none elsewhere."""
    if not has_growth(comparison):
        return ()
    size, base = multi_task_size(comparison), base_backbone(comparison)

    def seconds(trial: Trial) -> float:
        learned = sum(not trial.history.given(task) for task in range(len(trial.history.tasks)))
        return trial.result.training_seconds / learned if learned else math.nan

    return (
        Measure(
            "capacity",
            "Capacity",
            "%",
            "Parameters after the last task, those of all tasks together, relative to the network that learns all "
            f"tasks at once: one trunk ({base}) with a head a task is 100 % (Yoon et al. 2018, Fig. 3).",
            lambda trial: relative(trial, size),
            narrow=True,
        ),
        Measure(
            "seconds_per_task",
            "Training time, per task",
            "seconds",
            "Wall-clock time inside training steps, without evaluation, divided by the number of tasks learned.",
            seconds,
            narrow=True,
            better="less",
        ),
    )


def _mean(entry: Entry, kind: str) -> float:
    return fmean(float(trial.result.parameters.get(kind, math.nan)) for trial in entry.trials)


def _counted(comparison: Comparison, backbone: str) -> float:
    """The same, of a network that is built for this alone: without data, and without running a user's own file."""
    from everlearn.networks.lifelong import LifelongNetwork
    from everlearn.networks.papers import BACKBONES, make_backbone
    from everlearn.sharing.hard import Hard
    from everlearn.tasks import stream_outline

    if backbone not in BACKBONES:
        return math.nan
    run = comparison.entries[0].trials[0].stored.run
    try:
        outline = stream_outline(run.config.stream.name, run.config.stream.options)
        network = LifelongNetwork(make_backbone(backbone, outline.image_shape), Hard(), 0)
        for classes in run.classes:
            network.add_task(classes, (True,) * len(network.sites))
    except EverlearnError:
        return math.nan  # a stream of the user's own, or a network that does not suit its images
    return float(network.counts()["total"])
