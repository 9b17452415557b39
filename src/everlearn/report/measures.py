"""What a table shows of every method: each measure with its unit, its definition, its function of a trial."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from everlearn import metrics
from everlearn.intervals import Interval
from everlearn.report.groups import Trial

Unit = Literal["%", "points", "ratio", "area", "epochs", "seconds", "count"]


@dataclass(frozen=True)
class Measure:
    """One column.

    Attributes:
        key: its name in the data frame.
        title: its heading.
        unit: of what is shown; `%` and `points` are recorded as fractions and shown times 100.
        definition: one or two sentences for people.
        of: its value in one trial; NaN where it is not defined.
        narrow: shown where room is short.
        better: whether more or less is better, if either is.
    """

    key: str
    title: str
    unit: Unit
    definition: str
    of: Callable[[Trial], float]
    narrow: bool = False
    better: Literal["more", "less", ""] = ""


def _forward(trial: Trial) -> float:
    if trial.alone is None:
        return math.nan
    return metrics.mean(metrics.forward_transfer(trial.history, trial.alone))


def _multi_task_error(trial: Trial) -> float:
    together = trial.stored.run.config.training.protocol == "multi-task"
    return metrics.multi_task_error(trial.history) if together else math.nan


ACCURACIES = (
    Measure(
        "peak_accuracy",
        "Peak accuracy",
        "%",
        "The best test accuracy of a task among the evaluations in its own learning phase, mean over tasks "
        "(Lee et al. 2019). A maximum over the evaluated epochs only: a denser schedule can only raise it.",
        lambda trial: metrics.mean(metrics.peak_accuracy(trial.history)),
        narrow=True,
        better="more",
    ),
    Measure(
        "accuracy_at_best_validation",
        "At best validation",
        "%",
        "A task's test accuracy at the epoch of its own phase with the best validation accuracy (the "
        "earliest on ties), mean over tasks. Unlike the peak, it chooses nothing on test images.",
        lambda trial: metrics.mean(metrics.accuracy_at_best_validation(trial.history)),
        better="more",
    ),
    Measure(
        "final_accuracy",
        "Final accuracy",
        "%",
        "Test accuracy after the whole sequence, mean over tasks.",
        lambda trial: metrics.mean(metrics.final_accuracy(trial.history)),
        narrow=True,
        better="more",
    ),
    Measure(
        "auroc",
        "AUROC",
        "area",
        "The area under the ROC curve on the test images after the whole sequence, each class against the rest, mean "
        "over classes, then over tasks (Yoon et al. 2018).",
        lambda trial: metrics.final_average(trial.history, "auroc"),
        narrow=True,
        better="more",
    ),
    Measure(
        "multi_task_error",
        "Multi-task error",
        "%",
        "1 minus the mean test accuracy over tasks, at the epoch with the best mean validation accuracy.",
        _multi_task_error,
        narrow=True,
        better="less",
    ),
    Measure(
        "forgetting_ratio",
        "Forgetting ratio",
        "ratio",
        "A task's final test accuracy divided by its peak accuracy, mean over all tasks (Lee et al. 2019): 1 "
        "means nothing lost. A method that cannot forget still stays below 1 where a task's peak was not at "
        "the end of its phase.",
        lambda trial: metrics.final_forgetting_ratio(trial.history, by="peak"),
        narrow=True,
        better="more",
    ),
    Measure(
        "forgetting_ratio_by_end",
        "Forgetting ratio, by end of phase",
        "ratio",
        "The same, divided by the accuracy at the end of the task's own phase: exactly 1 for a method that "
        "cannot forget.",
        lambda trial: metrics.final_forgetting_ratio(trial.history, by="end"),
        better="more",
    ),
    Measure(
        "convergence",
        "Convergence",
        "epochs",
        "Epochs of a task's own phase until its test accuracy first reaches 98 % of its peak, mean over "
        "tasks (Lee et al. 2019). Known to the spacing of the evaluations.",
        lambda trial: metrics.mean(metrics.convergence(trial.history)),
        narrow=True,
        better="less",
    ),
    Measure(
        "backward_transfer",
        "Backward transfer",
        "points",
        "Final test accuracy minus that at the end of the task's own phase, mean over all tasks but the last "
        "(Lopez-Paz and Ranzato 2017, equation 3). Negative means forgotten.",
        lambda trial: metrics.backward_transfer(trial.history),
        better="more",
    ),
    Measure(
        "forward_transfer",
        "Forward transfer",
        "points",
        "Peak accuracy minus the peak accuracy of the same task under single-task learning (stl) in the same "
        "trial on the same backbone, mean over tasks.",
        _forward,
        better="more",
    ),
)

COSTS = (
    Measure(
        "training_seconds",
        "Training time",
        "seconds",
        "Wall-clock time inside training steps, over the whole run, without evaluation.",
        lambda trial: trial.result.training_seconds,
        narrow=True,
        better="less",
    ),
    Measure(
        "evaluation_seconds",
        "Evaluation time",
        "seconds",
        "Wall-clock time inside evaluations, over the whole run.",
        lambda trial: trial.result.evaluation_seconds,
    ),
    Measure(
        "parameters_total",
        "Parameters",
        "count",
        "Numbers held after the last task, those of all tasks together.",
        lambda trial: float(trial.result.parameters.get("total", math.nan)),
        narrow=True,
    ),
)

KINDS = {
    "shared": "Parameters that several tasks share.",
    "own": "Parameters of the layers below the heads that belong to one task each, all tasks together.",
    "head": "Parameters of the tasks' output layers, all tasks together.",
}


def of_kind(kind: str) -> Measure:
    """The measure that counts one kind of parameters."""

    def count(trial: Trial) -> float:
        return float(trial.result.parameters.get(kind, math.nan))

    definition = KINDS.get(kind, f"Parameters of the kind {kind}.")
    return Measure(f"parameters_{kind}", f"Parameters, {kind}", "count", definition, count)


def shown(unit: Unit, interval: Interval, scale: float = 1.0) -> str:
    """A mean and its half width as people read them; a dash where there is none.

    Args:
        unit: decides the digits.
        interval: in the recorded unit.
        scale: for seconds: how many make the unit shown.
    """
    if math.isnan(interval.mean):
        return "–"
    factor = 100.0 if unit in ("%", "points") else 1 / scale
    mean, half = interval.mean * factor, interval.half_width * factor
    digits = _digits(unit, mean)
    sign = "+" if unit == "points" and round(mean, digits) > 0 else ""
    text = f"{sign}{mean:,.{digits}f}".replace("-", "−" if round(mean, digits) else "")
    if math.isnan(half) or (unit == "count" and half == 0):
        return text
    return f"{text} ± {half:,.{digits}f}"


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which a duration is best read, and how many seconds make one."""
    if seconds >= 3 * 3600:
        return "h", 3600.0
    return ("min", 60.0) if seconds >= 600 else ("s", 1.0)


def _digits(unit: Unit, mean: float) -> int:
    if unit in ("%", "points"):
        return 1
    if unit in ("ratio", "area"):
        return 2 if unit == "ratio" else 4
    return 0 if unit == "count" or abs(mean) >= 100 else 1
