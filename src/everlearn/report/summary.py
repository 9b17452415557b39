"""One plain paragraph on a comparison, computed from its table."""

import math
from collections.abc import Callable

from everlearn.intervals import Interval, paired_interval
from everlearn.report.measures import ACCURACIES, Measure, shown
from everlearn.report.table import Row, SummaryTable

_ROUNDING = 1e-12
"""What a mean of differences may be off from a difference of means."""
_MEASURES = {measure.key: measure for measure in ACCURACIES}


def summary(table: SummaryTable) -> str:
    """What was run and what came out, in a few sentences that claim no more than the intervals allow."""
    sentences = [_what(table)]
    if table.comparison.training.protocol == "multi-task":
        sentences += _extreme(table, "multi_task_error", "{} has the lowest multi-task error, {} %", min)
    else:
        sentences += _extreme(table, "peak_accuracy", "{} reached the highest mean peak accuracy, {} %", max)
        sentences += _extreme(
            table, "final_accuracy", "After the whole sequence {} has the highest mean accuracy, {} %", max
        )
        sentences += _forgetting(table)
    return " ".join(sentences)


def _what(table: SummaryTable) -> str:
    comparison, training = table.comparison, table.comparison.training
    methods = len(comparison.entries)
    tasks = len(comparison.entries[0].trials[0].history.tasks)
    trials = {row.trials for row in table.rows}
    often = f"{min(trials)} to {max(trials)} trials" if len(trials) > 1 else _plural(min(trials), "trial")
    together = training.protocol == "multi-task"
    length = f"{training.epochs:,} epochs {'in all' if together else 'each'}"
    learned = f"{'together' if together else 'one after the other'}, {length}" if tasks > 1 else f"for {length}"
    history = comparison.entries[0].trials[0].history
    given = sum(history.given(task) for task in range(tasks))
    who = _plural(methods, "method").capitalize()
    each = " of each method" if methods > 1 else ""
    if given:
        came = f"a network that came with {_plural(given, 'task')}"
        new = f"{_plural(tasks - given, 'new task')} of {comparison.stream}"
        learned = f"one after the other, {length}" if tasks - given > 1 else f"for {training.epochs:,} epochs"
        return f"{who} went on from {came} and learned {new} {learned}, in {often}{each}."
    return f"{who} learned the {_plural(tasks, 'task')} of {comparison.stream} {learned}, in {often}{each}."


def _extreme(table: SummaryTable, key: str, words: str, best: Callable[..., Row]) -> list[str]:
    measure = _MEASURES[key]
    rows = [row for row in table.rows if row.intervals[key].n]
    if not rows:
        return []
    first = best(rows, key=lambda row: row.intervals[key].mean)
    told = words.format(first.entry.label, shown(measure.unit, first.intervals[key]))
    others = [row for row in rows if row is not first]
    if not others:
        return [told + "."]
    second = best(others, key=lambda row: row.intervals[key].mean)
    return [told + _lead(first, second, measure, 1 if best is max else -1)]


def _lead(first: Row, second: Row, measure: Measure, better: int) -> str:
    """How far the first is from the second in the trials that both have, and whether that is settled.

    The first has the best mean over its own trials; where the two have other trials, that of the shared ones may be
    worse than the second's, which is then said.

    Args:
        first: the row with the best mean.
        second: that with the next.
        measure: what is compared.
        better: 1 if more of it is better, -1 if less is.
    """
    values = [{trial.key: measure.of(trial) for trial in row.entry.trials} for row in (first, second)]
    shared = sorted(values[0].keys() & values[1].keys())
    gap = paired_interval([values[0][key] for key in shared], [values[1][key] for key in shared])
    name = second.entry.label
    next_to = f"{name} ({shown(measure.unit, second.intervals[measure.key])} %)"
    if math.isnan(gap.half_width):
        return f", before {next_to}."
    # A gap between two percentages is read like one, without the sign that transfers carry.
    distance = shown("%", Interval(abs(gap.mean), gap.half_width, gap.n))
    settled = abs(gap.mean) > gap.half_width
    if better * gap.mean < -_ROUNDING:
        doubt = "" if settled else ", too close to tell the two apart"
        return f", before {next_to}, which is {distance} points ahead over paired trials{doubt}."
    if settled:
        return f", {distance} points from {name}, the next, over paired trials."
    return f"; {name}, the next, is {distance} points away over paired trials, too close to tell the two apart."


def _forgetting(table: SummaryTable) -> list[str]:
    measure = _MEASURES["forgetting_ratio"]
    rows = [row for row in table.rows if row.intervals[measure.key].n]
    if not rows:
        return []
    most = min(rows, key=lambda row: row.intervals[measure.key].mean)
    least = max(rows, key=lambda row: row.intervals[measure.key].mean)
    kept = shown(measure.unit, most.intervals[measure.key])
    if len(rows) == 1:
        return [f"It kept {kept} of its peak accuracy."]
    if round(most.intervals[measure.key].mean, 2) == round(least.intervals[measure.key].mean, 2):
        return [f"All methods kept the same share of their peak accuracy, {most.intervals[measure.key].mean:.2f}."]
    if round(most.intervals[measure.key].mean, 2) >= 1:
        return ["On average no method ended below its peak accuracy."]
    return [
        f"{most.entry.label} forgot most, keeping {kept} of its peak accuracy; {least.entry.label} least, "
        f"keeping {shown(measure.unit, least.intervals[measure.key])}."
    ]


def _plural(number: int, noun: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"{words[number] if number < len(words) else number} {noun}{'' if number == 1 else 's'}"
