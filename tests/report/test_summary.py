"""The paragraph of a comparison whose methods were not run in the same trials."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from everlearn.experiments.store import StoredRun
from everlearn.report.summary import summary
from everlearn.report.table import summary_tables
from everlearn.training.settings import Training


def level(made: StoredRun, accuracy: float) -> StoredRun:
    """The run with one accuracy of all tasks at all times."""
    lines = tuple(line.model_copy(update={"accuracy": accuracy}) for line in made.evaluations)
    return dataclasses.replace(made, evaluations=lines)


def of(make_run: Callable[..., StoredRun], method: str, values: Sequence[float], **how: object) -> list[StoredRun]:
    """A trial a value."""
    return [level(make_run(method, trial, tasks=["a", "b"], **how), value) for trial, value in enumerate(values)]


def test_a_lead_that_shared_trials_contradict_is_said_to_be_so(make_run: Callable[..., StoredRun]) -> None:
    # stl leads by its fourth trial alone: 61.5 on average; hps wins each of the three that both have.
    (table,) = summary_tables([*of(make_run, "stl", (0.5, 0.5, 0.5, 0.96)), *of(make_run, "hps", (0.6, 0.6, 0.6))])
    text = summary(table)
    assert "stl reached the highest mean peak accuracy, 61.5" in text
    assert " %, before hps (60.0 ± 0.0 %), which is 10.0 ± 0.0 points ahead over paired trials." in text
    assert "points from hps" not in text
    # Gaps of 2, 4 and 6 points: 4.0 with half width 5.0.
    (table,) = summary_tables([*of(make_run, "stl", (0.58, 0.56, 0.54, 0.95)), *of(make_run, "hps", (0.6, 0.6, 0.6))])
    assert "which is 4.0 ± 5.0 points ahead over paired trials, too close to tell the two apart." in summary(table)


@pytest.mark.parametrize(("stl", "said"), [(0.4, "before stl ("), (0.6, "10.0 ± 0.0 points from stl, the next")])
def test_of_errors_the_lowest_leads(
    make_run: Callable[..., StoredRun], multi_task: Training, stl: float, said: str
) -> None:
    # Errors of hps: 0.3 in three trials and 0.1 in two more, or in none; those of stl in three.
    hps = (0.7, 0.7, 0.7) if stl == 0.6 else (0.3, 0.3, 0.3, 0.9, 0.9)
    (table,) = summary_tables(
        [*of(make_run, "hps", hps, training=multi_task), *of(make_run, "stl", (stl,) * 3, training=multi_task)]
    )
    text = summary(table)
    assert "hps has the lowest multi-task error" in text
    assert said in text
    assert ("which is 10.0 ± 0.0 points ahead" in text) == (stl == 0.4)
