"""What is said of an item's runs: how they differ from those published, and the commands that make them."""

import math
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from everlearn.experiments.plan import Value, with_changes
from everlearn.plugins import fingerprint_of, is_plugin
from everlearn.reproducing.comparing import Outcome
from everlearn.reproducing.matching import CODE, PRECISION, SAME_STREAM, SEEDS, Difference, Extra
from everlearn.reproducing.published import Item

_UNITS = {
    "evaluate_every": "epochs", "evaluate_others_every": "epochs", "patience": "epochs", "batch": "images",
    "train": "images", "validation": "images", "test": "images",
}  # fmt: skip
"""What whole numbers of a setting count."""


@dataclass(frozen=True)
class Said:
    """What is said of one item.

    Attributes:
        name: of the item.
        item: itself.
        outcomes: its runs, by the way in which they differ from what was published.
        rows: the places of the rows that are shown; None: all.
        only: what the rows were asked for by; empty: all were.
    """

    name: str
    item: Item
    outcomes: list[Outcome]
    rows: frozenset[int] | None = None
    only: tuple[str, ...] = ()


def heading(item: Item, outcome: Outcome) -> str:
    """How runs differ from what was published, in words: `300 epochs instead of 2,000; 1 of 5 trials`."""
    words = [_code(outcome, str(one[1])) if one[0] == CODE else _difference(one) for one in outcome.differences]
    words = words or [_alike(item, outcome)]
    least, most = outcome.trials
    if most:
        several = f"{least} to {most}" if least != most else str(most)
        words.append(f"{several} of {item.trials} trials" if item.trials > 1 else f"{several} trial")
    elif item.drawn:
        words.append("one run" if len(outcome.runs) == 1 else f"{len(outcome.runs)} runs")
    for precision, rows in sorted(_lent(outcome).items()):
        words.append(f"{len(rows)} row{'s' if len(rows) > 1 else ''} in {precision}")
    return "; ".join(words)


def _alike(item: Item, outcome: Outcome) -> str:
    """What is said of runs that differ in nothing."""
    printed = any(not math.isnan(cell.published.mean) for line in outcome.lines for cell in line.cells.values())
    if printed or (item.drawn and not item.stand_in):
        return "as published"
    lacks = "on data that the paper does not have" if item.stand_in else "where the paper prints no values"
    return f"settings as published, {lacks}"


def _code(outcome: Outcome, mark: str) -> str:
    """The file of a backbone of somebody's own: where it lies, or else what tells it from others of that name."""
    file, folder = own_file(outcome)
    return f"its file in {folder}" if folder else f"its file {file} with the SHA-256 {mark}..."


def own_file(outcome: Outcome) -> tuple[str, Path | None]:
    """The file that a backbone was read from as it was given, and the folder, around the runs, in which it lies."""
    for run in outcome.runs:
        name = run.run.config.backbone
        for folder in run.folder.parents if is_plugin(name) else ():
            there = f"{folder}/{name}"
            if Path(there.rpartition(":")[0]).is_file() and fingerprint_of(there) == run.run.config.code.get(name):
                return name.rpartition(":")[0], folder
        if is_plugin(name):
            return name.rpartition(":")[0], None
    return "", None


def commands(said: Said, outcome: Outcome, file: Path | None = None) -> list[str]:
    """The commands that make an outcome's runs: of the rows without options of their own, and of those with each.

    What they make besides, and runs that none of them makes, are said in comments of the shell.

    Args:
        said: the item.
        outcome: the runs.
        file: of the published values, where they are not the papers'.
    """
    if how := _seeds(outcome):
        return [f"# `everlearn reproduce` does not make these runs; `everlearn run` does, with {how}"]
    words = ["everlearn", "reproduce", said.name, *(["--published", str(file)] if file else []), "--data", "DIR"]
    kinds: dict[Extra, set[int]] = {}
    for place, extra in outcome.kinds:
        kinds.setdefault(extra, set()).add(place)
    lines: list[str] = []
    for extra, places in sorted(kinds.items(), key=lambda kind: (len(kind[0]), str(kind[0]))):
        trials = _trials(outcome, extra)
        count = max(trials) + 1
        only = [f"# of these trials, only {', '.join(map(str, sorted(trials)))}"] if len(trials) < count else []
        lines += [line for line in only if line not in lines]
        many = ["--trials", str(count)] if count != said.item.trials else []
        names, more = _rows(said.item, places)
        lines += [f"# this makes {', '.join(more)} as well"] if more else []
        given = [part for name, value in extra for part in (_flag_of(name), f"{name}={value}")]
        methods = ["--methods", ",".join(names)] if names else []
        lines.append(shlex.join([*words, *many, *_flags(outcome), *methods, *given]))
    return lines


def _trials(outcome: Outcome, extra: Extra) -> set[int]:
    """The trials of all rows that are in one precision: in that which a row is lent in, or in that of the others."""
    lent = _lent(outcome)
    own = dict(extra).get(PRECISION)
    configs = [run.run.config for run in outcome.runs]
    return {
        one.trial for one in configs if (one.training.precision == own if own else one.training.precision not in lent)
    }


def _lent(outcome: Outcome) -> dict[str, set[int]]:
    """The places of the rows that are lent, by their precision."""
    found: dict[str, set[int]] = {}
    for place, extra in outcome.kinds:
        if PRECISION in dict(extra):
            found.setdefault(str(dict(extra)[PRECISION]), set()).add(place)
    return found


def _flag_of(name: str) -> str:
    """The flag that gives a row what it has beyond the published one."""
    return "--set" if name == PRECISION else "--option"


def _seeds(outcome: Outcome) -> str:
    """The flags of `everlearn run` that give runs the seeds of these; empty where they are those of the item."""
    for name, ours, _ in outcome.differences:
        seed = str(ours).rpartition(" ")[2]
        if name == SEEDS:
            return f"--seed {seed}"
        if name == SAME_STREAM:
            return f"--seed {seed} --same-stream" if seed.isdecimal() else "--same-stream"
    return ""


def _flags(outcome: Outcome) -> list[str]:
    """The flags that make an item's runs differ as these do."""
    stream_options = {name for run in outcome.runs for name in run.run.config.stream.options}
    words: list[str] = []
    for name, ours, _ in outcome.differences:
        if name in ("epochs", "backbone"):
            words += [f"--{name}", str(ours)]
        elif name != CODE:  # which is the backbone's, and said with where its file lies
            words += ["--stream-option" if name in stream_options else "--set", f"{name}={ours}"]
    return words


def _rows(item: Item, places: Collection[int]) -> tuple[list[str], list[str]]:
    """What leaves these rows of an item (nothing where that is all of them), and the rows that it leaves besides.

    A method's name stands for its rows under all options, so a row without any cannot be asked for alone, nor can one
    whose options have commas.
    """
    ran = {item.rows[place].method for place in places}
    kinds: dict[str, list[str]] = {}
    for method in dict.fromkeys(row.method for row in item.rows):
        kinds.setdefault(with_changes(method)[0], []).append(method)
    names: list[str] = []
    more: list[str] = []
    for kind, methods in kinds.items():
        own = [method for method in methods if method in ran]
        if own and (own == methods or any(method == kind or "," in method for method in own)):
            names.append(kind)
            more += [method for method in methods if method not in ran]
        else:
            names += own
    return ([] if ran >= {row.method for row in item.rows} else names), more


def _difference(one: Difference) -> str:
    name, ours, published = one
    if name == "epochs":
        return f"{int(ours):,} epoch{'' if ours == 1 else 's'} instead of {int(published):,}"
    unit = f" {_unit(name, ours)}".rstrip()
    instead = f" instead of {_number(published)}" if published != "" else ""
    return f"{name.replace('_', ' ')} {_number(ours)}{unit}{instead}"


def _number(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _unit(name: str, value: Value) -> str:
    """What a setting counts, where it is a whole number."""
    unit = _UNITS.get(name, "") if str(value).isdecimal() else ""
    return unit.removesuffix("s") if str(value) == "1" else unit


def label_of(item: Item, method: str) -> str:
    """What the paper calls a method of an item."""
    return next(row.label for row in item.rows if row.method == method)
