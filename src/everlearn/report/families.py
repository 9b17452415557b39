"""Static configurations of one sharing rule, and the methods that choose a configuration for each task.

A method's name says what it is: `hps@top-2` is the rule of `hps` with one configuration for all tasks, plain `hps` the
same with every block, and `lasem-hps` a search (`lasem`) over the configurations of that rule.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from everlearn import metrics
from everlearn.intervals import Interval, interval
from everlearn.report.groups import Comparison, Entry, Trial
from everlearn.report.transfer import selecting, settled

ALL = "All"
"""What the papers call the configuration in which every block transfers."""


@dataclass(frozen=True)
class Static:
    """One configuration for all tasks: its name as the papers write it ("Top 2"), and its trials."""

    name: str
    entry: Entry


@dataclass(frozen=True)
class Search:
    """A method that chooses a configuration for each task: its name without the rule's ("lasem"), and its trials."""

    name: str
    entry: Entry


@dataclass(frozen=True)
class Family:
    """Everything that was run with one sharing rule on one backbone.

    Attributes:
        name: of the rule; with backbone or options where the name alone would be ambiguous.
        statics: All, Top k, Bottom k, Alternating, None, then what is written out.
        searches: those over the same rule.
    """

    name: str
    statics: tuple[Static, ...]
    searches: tuple[Search, ...]

    @property
    def whole(self) -> Static | None:
        """The configuration in which every block transfers, if it was run."""
        return next((static for static in self.statics if static.name == ALL), None)

    @property
    def best(self) -> Static | None:
        """The static configuration with the highest mean peak accuracy; the first of equals."""
        known = [static for static in self.statics if peak(static.entry)[1].n]
        return max(known, key=lambda static: peak(static.entry)[1].mean) if known else None


def families(comparison: Comparison) -> list[Family]:
    """Every rule of a comparison that was run with a static configuration, in the order of its entries.

    Methods with a configuration of their own for each task (`hps@all/top-2/...`) belong to none.
    """
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in comparison.entries:
        if not settled(entry) and "/" not in _configuration(entry):
            groups.setdefault(_key(entry), []).append(entry)
    bases = [base for base, _, _ in groups]
    found: list[Family] = []
    for (base, backbone, _), members in groups.items():
        name = base if bases.count(base) == 1 else base + _extra(members[0])
        statics = sorted((Static(_shown(_configuration(one)), one) for one in members), key=_order)
        over = [
            one for one in selecting(comparison) if _searched(one, bases) == base and one.config.backbone == backbone
        ]
        found.append(Family(name, tuple(statics), _searches(over, base)))
    return found


def peak(entry: Entry) -> tuple[list[float], Interval]:
    """The mean peak accuracy of every trial, and their interval."""
    return _over_trials(entry, lambda trial: metrics.mean(metrics.peak_accuracy(trial.history)))


def kept(entry: Entry) -> tuple[list[float], Interval]:
    """The forgetting ratio after all tasks in every trial, and their interval."""
    return _over_trials(entry, lambda trial: metrics.final_forgetting_ratio(trial.history))


def kept_by_task(entry: Entry) -> tuple[list[int], list[Interval]]:
    """The forgetting ratio after each task (`metrics.forgetting_by_task`): numbers of tasks, and their intervals.

    Only the numbers at which every trial has one.
    """
    curves = [metrics.forgetting_by_task(trial.history).tolist() for trial in entry.trials]
    rows = [
        (place + 1, values)
        for place, values in enumerate(zip(*curves, strict=False))
        if not any(math.isnan(value) for value in values)
    ]
    return [number for number, _ in rows], [interval(values) for _, values in rows]


def _over_trials(entry: Entry, of: Callable[[Trial], float]) -> tuple[list[float], Interval]:
    values = [of(trial) for trial in entry.trials]
    return values, interval(values)


def _key(entry: Entry) -> tuple[str, str, str]:
    options = {name: value for name, value in entry.config.options.items() if name != "configuration"}
    return _base(entry), entry.config.backbone, json.dumps(options, sort_keys=True)


def _base(entry: Entry) -> str:
    return entry.config.method.partition("@")[0]


def _configuration(entry: Entry) -> str:
    return entry.config.method.partition("@")[2] or str(entry.config.options.get("configuration", "all"))


def _searched(entry: Entry, bases: Iterable[str]) -> str:
    """The rule that a search is over: the longest that its name ends with."""
    return max((base for base in bases if _base(entry).endswith(f"-{base}")), key=len, default="")


def _searches(entries: list[Entry], base: str) -> tuple[Search, ...]:
    names = [_base(entry).removesuffix(f"-{base}") for entry in entries]
    return tuple(
        Search(name if names.count(name) == 1 else name + _extra(entry), entry)
        for name, entry in zip(names, entries, strict=True)
    )


def _extra(entry: Entry) -> str:
    """What its label says besides the method's name."""
    return entry.label.removeprefix(entry.config.method)


def _shown(configuration: str) -> str:
    """As the papers write it."""
    if configuration == "all" or set(configuration) == {"1"}:
        return ALL
    if configuration in ("alternating", "none"):
        return configuration.capitalize()
    side, _, number = configuration.partition("-")
    return f"{side.capitalize()} {number}" if side in ("top", "bottom") and number.isdecimal() else configuration


def _order(static: Static) -> tuple[int, int, str]:
    first, _, number = static.name.partition(" ")
    kinds = (ALL, "Top", "Bottom", "Alternating", "None")
    place = kinds.index(first) if first in kinds else len(kinds)
    return place, int(number) if number.isdecimal() else 0, static.name
