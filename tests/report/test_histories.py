"""From records to arrays."""

import dataclasses

import numpy as np
import pytest

from everlearn.errors import StoreError
from everlearn.experiments.records import Evaluation, Phase
from everlearn.report.histories import history


def line(epoch: int, task: str, split: str, accuracy: float) -> Evaluation:
    return Evaluation.model_validate(
        {"epoch": epoch, "training": "a", "task": task, "split": split, "accuracy": accuracy, "loss": 0.0}
    )


def stored(make_run, lines, phases=None):
    run = make_run("stl", 0, tasks=["a", "b"])
    record = run.run if phases is None else run.run.model_copy(update={"phases": phases})
    return dataclasses.replace(run, run=record, evaluations=tuple(lines))


def test_lines_find_their_epoch_task_and_split(make_run) -> None:
    lines = [
        line(0, "a", "test", 0.1),
        line(40, "a", "test", 0.2),
        line(40, "a", "validation", 0.3),
        line(40, "a", "train", 0.9),
        line(80, "b", "test", 0.4),
    ]
    found = history(stored(make_run, lines))
    assert found.tasks == ("a", "b")
    assert found.phases == ((0, 40), (40, 80))
    assert found.epochs.tolist() == [0, 40, 80]
    no = np.nan
    np.testing.assert_array_equal(found.test, [[0.1, no], [0.2, no], [no, 0.4]])
    np.testing.assert_array_equal(found.validation, [[no, no], [0.3, no], [no, no]])


def test_the_later_of_two_lines_of_one_epoch_counts(make_run) -> None:
    found = history(stored(make_run, [line(40, "a", "test", 0.2), line(40, "a", "test", 0.6)]))
    assert found.test[0, 0] == 0.6


def test_one_phase_for_all_in_the_multi_task_protocol(make_run, multi_task) -> None:
    assert history(make_run("stl", 0, training=multi_task)).phases == ((0, 100),) * 5


def test_a_line_of_an_unknown_task_is_refused(make_run) -> None:
    with pytest.raises(StoreError, match="a task 'c'"):
        history(stored(make_run, [line(1, "c", "test", 0.5)]))


def test_a_task_without_its_phase_is_refused(make_run) -> None:
    with pytest.raises(StoreError, match="task 'b' 0 phases"):
        history(stored(make_run, [], [Phase(task="a", first=0, last=40)]))
