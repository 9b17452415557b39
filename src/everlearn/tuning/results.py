"""What a search found: the sets that were tried, the best of them, the command that uses it."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from everlearn.experiments.execute import Place
from everlearn.experiments.plan import Request
from everlearn.tuning.search import Dimension

if TYPE_CHECKING:
    from optuna.study import Study


RUNS = "runs"
"""The attribute of a set in its study that names its run folders."""

Measure = Literal["final", "peak"]
"""Which validation accuracy of a task counts: after the last task, or the best in the task's own phase."""


@dataclass(frozen=True)
class TriedSet:
    """A set of values.

    Attributes:
        values: by name, as text.
        state: `finished`; or `given up`, because it fell behind the others or diverged.
        validation: mean over runs and tasks of the validation accuracy that was measured, from 0 to 1; of a set that
            was given up, over those tasks that it finished, which are not those of the other sets.
        tasks: how many tasks that is, over all runs.
        runs: names of its run folders.
    """

    values: dict[str, str]
    state: Literal["finished", "given up"]
    validation: float
    tasks: int
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Tuned:
    """What a search found for one method.

    Attributes:
        method: its name, as it was asked for.
        study: name of the Optuna study.
        measure: of which validation accuracy.
        space: what was searched over, by name, in words.
        source: which paper the space comes from; empty: it was given.
        sets: what was tried: the finished ones first, the best of them in front.
        command: the `everlearn run` that uses the best set; empty if none is finished, or the tasks are one's own.
    """

    method: str
    study: str
    measure: Measure
    space: dict[str, str]
    source: str
    sets: tuple[TriedSet, ...]
    command: str

    @property
    def best(self) -> TriedSet | None:
        """The set with the highest validation accuracy; None while none is finished."""
        return self.sets[0] if self.sets and self.sets[0].state == "finished" else None


def tried_sets(study: "Study", space: Mapping[str, Dimension]) -> dict[int, TriedSet]:
    """The sets of a study that are over, by number.

    Args:
        study: where they lie.
        space: what is searched over.
    """
    from everlearn.tuning.study import OVER, as_text

    found: dict[int, TriedSet] = {}
    for trial in study.get_trials(deepcopy=False, states=OVER):
        if trial.value is not None:
            found[trial.number] = TriedSet(
                values=as_text(space, trial.params),
                state="finished" if trial.state == OVER[0] else "given up",
                validation=trial.value,
                tasks=max(trial.intermediate_values, default=0),
                runs=tuple(trial.user_attrs.get(RUNS, ())),
            )
    return found


def ranked(sets: Iterable[TriedSet]) -> tuple[TriedSet, ...]:
    """The finished ones first, by validation accuracy; then the others, by how far they came. Ties keep their order."""
    return tuple(sorted(sets, key=lambda one: (one.state != "finished", -one.tasks, -one.validation)))


def best_command(sets: Sequence[TriedSet], request: Request, settings: frozenset[str], place: Place) -> str:
    """The `everlearn run` that uses the best set, whose runs it finds done; empty if there is none.

    Args:
        sets: ranked.
        request: what is the same for all sets.
        settings: the names that are settings of the training.
        place: where the runs lie.
    """
    if not sets or sets[0].state != "finished" or request.given is not None:
        return ""
    best = sets[0].values
    words = ["everlearn", "run", request.stream, "--methods", ",".join(request.methods)]
    words += ["--trials", str(request.trials)]
    words += ["--seed", str(request.seed)] if request.seed else []
    words += ["--same-stream"] if request.same_stream else []
    for flag, value in (("--backbone", request.backbone), ("--data", request.data), ("--start", request.start)):
        words += [flag, str(value)] if value else []
    tables = {
        "--stream-option": request.stream_options,
        "--first": request.first,
        "--set": {**request.training, **{name: value for name, value in best.items() if name in settings}},
        "--option": {**request.options, **{name: value for name, value in best.items() if name not in settings}},
    }
    for flag, table in tables.items():
        for name, value in table.items():
            words += [flag, f"{name}={value}"]
    words += ["--runs", str(place.root)] if str(place.root) != "runs" else []
    return shlex.join(words)
