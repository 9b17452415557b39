"""From records to arrays."""

import dataclasses

import numpy as np
import pytest

from everlearn.errors import StoreError
from everlearn.experiments.records import Evaluation, FindingRecord, Phase
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


def test_of_several_attempts_only_the_one_that_was_kept_counts(make_run) -> None:
    def attempt(number: int | None, epoch: int, task: str, accuracy: float) -> Evaluation:
        return line(epoch, task, "test", accuracy).model_copy(update={"training": "b", "attempt": number})

    lines = [
        line(40, "a", "test", 0.5),  # a was not tried more than once
        attempt(0, 60, "b", 0.6),
        attempt(0, 80, "a", 0.1),
        attempt(1, 60, "b", 0.7),
        attempt(1, 80, "b", 0.8),
        attempt(2, 60, "b", 0.99),
        attempt(None, 80, "a", 0.4),  # once it was settled
    ]
    kept = FindingRecord(epoch=80, task="b", configuration="10", attempt=1, settled=True)
    begun = FindingRecord(epoch=60, task="b", configuration="10", attempt=2)
    no = np.nan
    found = history(dataclasses.replace(stored(make_run, lines), findings=(kept, begun)))
    assert found.epochs.tolist() == [40, 60, 80]
    np.testing.assert_array_equal(found.test, [[0.5, no], [no, 0.7], [0.4, 0.8]])
    # While nothing is settled, no attempt counts.
    found = history(dataclasses.replace(stored(make_run, lines), findings=(begun,)))
    np.testing.assert_array_equal(found.test, [[0.5, no], [no, no], [0.4, no]])


def test_a_finding_of_an_unknown_task_is_refused(make_run) -> None:
    finding = FindingRecord(epoch=1, task="c", configuration="1")
    with pytest.raises(StoreError, match="a task 'c'"):
        history(dataclasses.replace(stored(make_run, []), findings=(finding,)))


def test_one_phase_for_all_in_the_multi_task_protocol(make_run, multi_task) -> None:
    assert history(make_run("stl", 0, training=multi_task)).phases == ((0, 100),) * 5


def test_a_line_of_an_unknown_task_is_refused(make_run) -> None:
    with pytest.raises(StoreError, match="a task 'c'"):
        history(stored(make_run, [line(1, "c", "test", 0.5)]))


def test_a_task_without_its_phase_is_refused(make_run) -> None:
    with pytest.raises(StoreError, match="task 'b' 0 phases"):
        history(stored(make_run, [], [Phase(task="a", first=0, last=40)]))
