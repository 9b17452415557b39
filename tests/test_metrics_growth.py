"""Performance task by task, on one history small enough to work out by hand."""

import dataclasses
import math

import numpy as np
import pytest

from everlearn import metrics
from everlearn.errors import ConfigurationError
from everlearn.metrics import History

NO = math.nan

# Three tasks of 4 epochs each. b was measured before its phase, at 0.99; a no longer after epoch 8.
AUROC = [
    # a    b     c
    [0.5, NO, NO],  # epoch 2
    [0.9, 0.99, NO],  # 4: end of a
    [0.8, 0.6, NO],  # 8: end of b
    [NO, 0.9, 0.1],  # 10
    [NO, 0.8, 0.3],  # 12: end of c
]
HISTORY = History(
    tasks=("a", "b", "c"),
    epochs=np.array([2, 4, 8, 10, 12]),
    test=np.array(AUROC) / 2,
    validation=np.full((5, 3), NO),
    phases=((0, 4), (4, 8), (8, 12)),
    auroc=np.array(AUROC),
)
PLAIN = dataclasses.replace(HISTORY, auroc=None)


def test_each_task_at_each_stage_and_none_before_its_own() -> None:
    wanted = [[0.9, NO, NO], [0.8, 0.6, NO], [0.8, 0.8, 0.3]]
    assert metrics.performance_by_stage(HISTORY, "auroc") == pytest.approx(np.array(wanted), nan_ok=True)


def test_the_average_is_over_the_tasks_until_then() -> None:
    found = metrics.average_by_stage(HISTORY, "auroc")
    assert found == pytest.approx([0.9, (0.8 + 0.6) / 2, (0.8 + 0.8 + 0.3) / 3])
    assert metrics.final_average(HISTORY, "auroc") == pytest.approx(1.9 / 3)


def test_accuracy_stands_in_where_no_area_was_measured() -> None:
    assert (metrics.measured(HISTORY), metrics.measured(PLAIN)) == ("auroc", "accuracy")
    nowhere = dataclasses.replace(HISTORY, auroc=np.full((5, 3), NO))
    assert metrics.measured(nowhere) == "accuracy"
    assert metrics.average_by_stage(PLAIN, "accuracy") == pytest.approx([0.45, 0.35, 0.95 / 3])
    assert metrics.final_average(HISTORY, "accuracy") == pytest.approx(0.95 / 3)


def test_what_was_not_measured_is_nan_and_not_zero() -> None:
    assert np.isnan(metrics.average_by_stage(PLAIN, "auroc")).all()
    assert math.isnan(metrics.final_average(PLAIN, "auroc"))
    unmeasured = dataclasses.replace(HISTORY, epochs=np.array([5, 6, 8, 10, 12]))
    assert np.isnan(metrics.performance_by_stage(unmeasured, "auroc")[0]).all()


def test_all_tasks_together_have_in_every_stage_what_there_is_in_the_end() -> None:
    together = dataclasses.replace(HISTORY, phases=((0, 12),) * 3)
    assert metrics.average_by_stage(together, "auroc") == pytest.approx([0.8, 0.8, 1.9 / 3])


def test_seconds_add_up_over_phases() -> None:
    assert metrics.seconds_by_stage(HISTORY, [3.0, 2.0, 5.0]) == pytest.approx([3.0, 5.0, 10.0])
    together = dataclasses.replace(HISTORY, phases=((0, 12),) * 3)
    assert metrics.seconds_by_stage(together, [9.0]) == pytest.approx([9.0] * 3)
    for unknown in ([], [3.0, 2.0]):
        assert np.isnan(metrics.seconds_by_stage(HISTORY, unknown)).all()


def test_the_shape_is_checked() -> None:
    with pytest.raises(ConfigurationError, match=r"ROC curve need the shape .* \[5, 3\]"):
        dataclasses.replace(HISTORY, auroc=np.zeros((3, 5)))
