"""What a tracker receives of a finished run: the numbers of the report, by name."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from everlearn.experiments.records import Evaluation
from everlearn.experiments.store import StoredRun
from everlearn.report.groups import Trial, comparisons
from everlearn.report.measures import ACCURACIES, COSTS, KINDS, of_kind
from everlearn.tracking.findings import chosen, found_points, grown_points

Value = str | int | float | bool

FORM = 2
"""Goes into the hash of the contents: another number, and every run is written anew."""


@dataclass(frozen=True)
class Curve:
    """A number over epochs.

    Attributes:
        name: such as `accuracy/test/task 1`.
        points: `(epoch, value)`, by epoch of the whole run.
    """

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Contents:
    """A run for trackers.

    Attributes:
        name: of its folder.
        run: its id.
        stream: name of the stream.
        finished: when, ISO 8601.
        settings: stream, method, options, backbone, training, trial, by name.
        final: the report's numbers of this run, in the recorded units: shares from 0 to 1, epochs, seconds, counts.
        curves: accuracy and loss of each task by split, the area under the ROC curve where it was measured; what the
            method weighed and counted; performance and seconds task by task.
        chosen: by task the configuration that it got, as "0110", where the method chooses one.
    """

    name: str
    run: str
    stream: str
    finished: str
    settings: dict[str, Value]
    final: dict[str, float]
    curves: tuple[Curve, ...]
    chosen: dict[str, str]

    @property
    def mark(self) -> str:
        """A hash of all this."""
        text = json.dumps([FORM, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def contents(runs: Iterable[StoredRun]) -> list[Contents]:
    """What trackers receive of the finished ones of these runs; copies of a run count once.

    Forward transfer is to single-task learning of the same trial, so that run has to be among them.

    Raises:
        StoreError: a run whose records contradict each other.
    """
    return [_contents(trial) for comparison in comparisons(runs) for trial in comparison.trials()]


def _contents(trial: Trial) -> Contents:
    run, result = trial.stored.run, trial.result
    kinds = [of_kind(kind) for kind in (*KINDS, *result.parameters) if kind in result.parameters and kind != "total"]
    final = {measure.key: measure.of(trial) for measure in (*ACCURACIES, *COSTS, *kinds)}
    final |= {"steps": float(result.steps), "epochs": float(result.epochs)}
    return Contents(
        name=trial.stored.folder.name,
        run=run.id,
        stream=run.config.stream.name,
        finished=result.finished,
        settings=_settings(trial.stored),
        final={name: value for name, value in final.items() if math.isfinite(value)},
        curves=tuple(_curves(trial)),
        chosen=chosen(trial),
    )


def _settings(stored: StoredRun) -> dict[str, Value]:
    config = stored.run.config
    return {
        "stream": config.stream.name,
        "seed": config.stream.seed,
        **{f"stream.{name}": value for name, value in config.stream.options.items()},
        "method": config.method,
        **{f"option.{name}": value for name, value in config.options.items()},
        "backbone": config.backbone,
        "trial": config.trial,
        **({"start": config.start} if config.start else {}),
        **asdict(config.training),
    }


def _curves(trial: Trial) -> list[Curve]:
    """By kind, split and task; where an epoch has two evaluations, the later, of the network that goes on."""
    stored = trial.stored
    kept = {found.task: found.attempt for found in stored.findings if found.settled}
    points: dict[str, dict[int, float]] = {}
    for line in stored.evaluations:
        if line.attempt is not None and line.attempt != kept.get(line.training or ""):
            continue  # an attempt at the task that was not kept
        for kind, value in _values(line).items():
            points.setdefault(f"{kind}/{line.split}/{line.task}", {})[line.epoch] = value
    points |= found_points(trial) | grown_points(trial)
    return [Curve(name, tuple(sorted(found.items()))) for name, found in points.items() if found]


def _values(line: Evaluation) -> dict[str, float]:
    values = {"accuracy": line.accuracy, "loss": line.loss, "auroc": line.auroc}
    return {kind: value for kind, value in values.items() if value is not None and math.isfinite(value)}
