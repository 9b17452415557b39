"""Every metric on one history small enough to work out by hand."""

import dataclasses
import math

import numpy as np
import pytest

from everlearn import intervals, metrics
from everlearn.errors import ConfigurationError
from everlearn.intervals import Interval
from everlearn.metrics import History

NO = math.nan

# Three tasks of 4 epochs each, evaluated every 2. Task b starts before its phase (epoch 4) at 0.99, a value
# that no metric of its own phase may use; c's phase ends the run. After epoch 10 a is no longer evaluated.
TEST = [
    # a     b     c
    [0.10, NO, NO],  # epoch 0: before anything
    [0.80, NO, NO],  # 2
    [0.75, 0.99, NO],  # 4: end of a
    [NO, 0.49, NO],  # 6
    [0.60, 0.50, NO],  # 8: end of b
    [0.40, NO, 0.70],  # 10
    [NO, 0.55, 0.90],  # 12: end of c, and of everything
]
VALIDATION = [
    [0.1, NO, NO],
    [0.7, NO, NO],  # a: a tie between epochs 2 and 4; the earlier one counts
    [0.7, 0.99, NO],
    [NO, 0.6, NO],  # b: best validation at 6, where test is 0.49
    [0.5, 0.5, NO],
    [NO, NO, 0.3],
    [NO, 0.5, 0.8],
]


def example() -> History:
    return History(
        tasks=("a", "b", "c"),
        epochs=np.array([0, 2, 4, 6, 8, 10, 12]),
        test=np.array(TEST),
        validation=np.array(VALIDATION),
        phases=((0, 4), (4, 8), (8, 12)),
    )


def together() -> History:
    """Two tasks learned together for 4 epochs, evaluated at 2, 3 and 4; at 3 only the first one was."""
    return History(
        tasks=("a", "b"),
        epochs=np.array([2, 3, 4]),
        test=np.array([[0.6, 0.8], [0.99, NO], [0.9, 0.7]]),
        validation=np.array([[0.7, 0.9], [0.99, NO], [0.8, 0.8]]),
        phases=((0, 4), (0, 4)),
    )


def handed_over() -> History:
    """Tasks a and z came with a trained network, z without any data; b and c were then learned, 4 epochs each.

    At epoch 0 the network was evaluated as it came, and b at chance.
    """
    return History(
        tasks=("a", "z", "b", "c"),
        epochs=np.array([0, 2, 4, 6, 8]),
        test=np.array(
            [
                [0.80, NO, 0.10, NO],  # 0: how a came
                [0.90, NO, 0.40, NO],  # 2: a is better than it came, but this is not a's peak
                [0.60, NO, 0.50, NO],  # 4: end of b
                [NO, NO, 0.45, 0.70],  # 6
                [0.40, NO, NO, 0.60],  # 8: end of c
            ]
        ),
        validation=np.array([[0.7, NO, 0.1, NO], [0.9, NO, 0.6, NO], [0.5, NO, 0.5, NO], [NO] * 4, [NO] * 4]),
        phases=((0, 0), (0, 0), (0, 4), (4, 8)),
    )


def empty() -> History:
    nothing = np.empty((0, 2))
    return History(("a", "b"), np.empty(0, dtype=np.int64), nothing, nothing, ((0, 4), (4, 8)))


def test_peak_is_the_best_test_accuracy_of_the_own_phase() -> None:
    # a: max(0.80, 0.75); b: max(0.49, 0.50), not 0.99 before its phase nor 0.55 after it; c: max(0.70, 0.90)
    np.testing.assert_allclose(metrics.peak_accuracy(example()), [0.80, 0.50, 0.90])


def test_accuracy_at_best_validation_takes_the_earliest_on_ties() -> None:
    # a: validation 0.7 at epochs 2 and 4, so the test accuracy of 2; b: 0.6 at epoch 6; c: 0.8 at epoch 12
    np.testing.assert_allclose(metrics.accuracy_at_best_validation(example()), [0.80, 0.49, 0.90])


def test_end_of_phase_and_final_accuracy() -> None:
    np.testing.assert_allclose(metrics.end_of_phase_accuracy(example()), [0.75, 0.50, 0.90])
    # a was last evaluated at epoch 10
    np.testing.assert_allclose(metrics.final_accuracy(example()), [0.40, 0.55, 0.90])


def test_forward_fill_carries_the_last_value_and_invents_nothing_before_the_first() -> None:
    filled = metrics.forward_filled(np.array([[NO, 0.1], [0.5, NO], [NO, NO], [0.6, 0.2]]))
    np.testing.assert_array_equal(filled, [[NO, 0.1], [0.5, 0.1], [0.5, 0.1], [0.6, 0.2]])


def test_forgetting_ratio_over_time_by_peak() -> None:
    ratio = metrics.forgetting_ratio(example(), by="peak")
    expected = [
        [NO, NO, NO],
        [NO, NO, NO],
        [0.9375, NO, NO],  # 0.75 / 0.80
        [0.9375, NO, NO],  # not evaluated: carried forward
        [0.75, 1.0, NO],  # 0.60 / 0.80, 0.50 / 0.50
        [0.50, 1.0, NO],  # 0.40 / 0.80
        [0.50, 1.1, 1.0],  # 0.55 / 0.50: more than its peak
    ]
    np.testing.assert_allclose(ratio, expected)


def test_forgetting_ratio_over_time_by_end_of_phase() -> None:
    ratio = metrics.forgetting_ratio(example(), by="end")
    # a is divided by 0.75 instead of 0.80; b's and c's peaks were at their phases' ends
    np.testing.assert_allclose(ratio[2:, 0], [1.0, 1.0, 0.8, 0.40 / 0.75, 0.40 / 0.75])
    np.testing.assert_allclose(ratio[-1, 1:], [1.1, 1.0])


def test_final_forgetting_ratio_is_the_mean_over_all_tasks() -> None:
    # by peak (0.5 + 1.1 + 1.0) / 3; by end (0.5333.. + 1.1 + 1.0) / 3
    assert metrics.final_forgetting_ratio(example(), by="peak") == pytest.approx(2.6 / 3)
    assert metrics.final_forgetting_ratio(example(), by="end") == pytest.approx((0.40 / 0.75 + 2.1) / 3)


def test_forgetting_after_lines_tasks_up_at_the_end_of_their_phase() -> None:
    # a was evaluated 0, 4 and 6 epochs after its phase, b 0 and 4; phases end 0, 4 and 8 epochs after a's.
    distances, ratio = metrics.forgetting_after(example(), by="peak")
    assert distances.tolist() == [0, 4, 6, 8]
    # 0: (0.9375 + 1.0) / 2.  4: a at epoch 8, b at epoch 12: (0.75 + 1.1) / 2.  6 and 8: a alone, 0.40 /
    # 0.80.
    np.testing.assert_allclose(ratio, [0.96875, 0.925, 0.5, 0.5])


def test_forgetting_by_task_is_over_the_tasks_learned_before() -> None:
    # after b (epoch 8): a 0.60 / 0.80 = 0.75; b itself does not count
    # after c (epoch 12): a 0.40 / 0.80 = 0.5, carried from epoch 10, and b 0.55 / 0.50 = 1.1: mean 0.8
    np.testing.assert_allclose(metrics.forgetting_by_task(example()), [NO, 0.75, 0.8])
    # by the end of the phase: 0.60 / 0.75 = 0.8; then the mean of 0.40 / 0.75 and 1.1
    np.testing.assert_allclose(metrics.forgetting_by_task(example(), "end"), [NO, 0.8, (0.4 / 0.75 + 1.1) / 2])


def test_a_task_that_is_never_evaluated_again_keeps_its_ratio() -> None:
    history = History(
        tasks=("a", "b"),
        epochs=np.array([1, 2, 3, 4]),
        test=np.array([[0.8, NO], [0.6, NO], [NO, 0.5], [NO, 0.5]]),
        validation=np.full((4, 2), NO),
        phases=((0, 2), (2, 4)),
    )
    distances, ratio = metrics.forgetting_after(history, by="end")
    assert distances.tolist() == [0, 2]
    np.testing.assert_allclose(ratio, [1.0, 1.0])
    assert metrics.backward_transfer(history) == 0.0
    # by peak, the same frozen task is at 0.6 / 0.8, and the mean with b's 1 is 0.875
    assert metrics.final_forgetting_ratio(history, by="peak") == pytest.approx(0.875)
    assert metrics.final_forgetting_ratio(history, by="end") == 1.0


def test_convergence_counts_epochs_within_the_own_phase() -> None:
    # a: 98 % of 0.80 is 0.784, passed at epoch 2. b: 98 % of 0.50 is 0.49, reached exactly at epoch 6, two
    # after its phase began. c: 98 % of 0.90 is 0.882; 0.70 at epoch 10 is below, 0.90 at 12 is four after.
    np.testing.assert_allclose(metrics.convergence(example()), [2, 2, 4])
    # 99 % of 0.50 is 0.495: b now needs epoch 8
    np.testing.assert_allclose(metrics.convergence(example(), fraction=0.99), [2, 4, 4])


def test_convergence_forgives_the_last_bit() -> None:
    # 0.98 * 0.46 = 0.4508, but in binary the product is the larger by one bit
    assert 0.98 * 0.46 > 0.4508
    values = np.array([[0.4508], [0.46]])
    history = History(("a",), np.array([1, 2]), values, values, ((0, 2),))
    np.testing.assert_array_equal(metrics.convergence(history), [1])


def test_backward_transfer_leaves_out_the_last_task() -> None:
    # a: 0.40 - 0.75 = -0.35; b: 0.55 - 0.50 = 0.05; mean -0.15
    assert metrics.backward_transfer(example()) == pytest.approx(-0.15)


def test_forward_transfer_finds_the_tasks_by_name() -> None:
    # Alone, in another order: c 0.85 then 0.80, a 0.70, b 0.60.
    alone = History(
        tasks=("c", "a", "b"),
        epochs=np.array([2, 4, 8, 12]),
        test=np.array([[0.85, NO, NO], [0.80, NO, NO], [NO, 0.70, NO], [NO, NO, 0.60]]),
        validation=np.full((4, 3), NO),
        phases=((0, 4), (4, 8), (8, 12)),
    )
    # peaks: 0.80 - 0.70, 0.50 - 0.60, 0.90 - 0.85; ends: 0.75 - 0.70, 0.50 - 0.60, 0.90 - 0.80
    np.testing.assert_allclose(metrics.forward_transfer(example(), alone), [0.10, -0.10, 0.05])
    np.testing.assert_allclose(metrics.forward_transfer(example(), alone, by="end"), [0.05, -0.10, 0.10])


def test_forward_transfer_refuses_other_tasks() -> None:
    with pytest.raises(ConfigurationError, match="the same tasks"):
        metrics.forward_transfer(example(), together())


def test_average_accuracy_is_over_the_tasks_presented_so_far() -> None:
    # 0: nothing presented. 2: a. 4: a (b's early value does not count yet). 6: a carried 0.75, b 0.49.
    # 8: 0.60, 0.50. 10: 0.40, b carried 0.50, c 0.70. 12: a carried 0.40, 0.55, 0.90.
    expected = [NO, 0.80, 0.75, 0.62, 0.55, 1.6 / 3, 1.85 / 3]
    np.testing.assert_allclose(metrics.average_accuracy(example()), expected)


def test_multi_task_error_is_read_at_the_best_mean_validation() -> None:
    # Mean validation: 0.8 at epoch 2 and at epoch 4; epoch 3, where b is missing, does not count. The earlier
    # one: 1 - (0.6 + 0.8) / 2 = 0.3
    assert metrics.multi_task_error(together()) == pytest.approx(0.3)
    # Without a's test accuracy at epoch 2 that one does not count either: 1 - (0.9 + 0.7) / 2 = 0.2
    lacking = dataclasses.replace(together(), test=np.array([[NO, 0.8], [0.99, NO], [0.9, 0.7]]))
    assert metrics.multi_task_error(lacking) == pytest.approx(0.2)


def test_the_multi_task_protocol_has_nothing_to_forget() -> None:
    assert math.isnan(metrics.final_forgetting_ratio(together()))
    assert math.isnan(metrics.backward_transfer(together()))
    distances, ratio = metrics.forgetting_after(together())
    assert len(distances) == len(ratio) == 0
    assert np.isnan(metrics.forgetting_by_task(together())).all()


def test_nothing_recorded_gives_nan_everywhere() -> None:
    for metric in (
        metrics.peak_accuracy,
        metrics.accuracy_at_best_validation,
        metrics.end_of_phase_accuracy,
        metrics.final_accuracy,
        metrics.convergence,
        metrics.forgetting_by_task,
    ):
        np.testing.assert_array_equal(metric(empty()), [NO, NO])
    for number in (metrics.final_forgetting_ratio, metrics.backward_transfer, metrics.multi_task_error):
        assert math.isnan(number(empty()))
    assert metrics.average_accuracy(empty()).shape == (0,)
    assert np.isnan(metrics.forgetting_after(empty())[1]).all()


def test_a_given_task_has_its_own_value_where_it_came() -> None:
    history = handed_over()
    assert [history.given(task) for task in range(4)] == [True, True, False, False]
    assert history.own(0).tolist() == [True, False, False, False, False]
    assert history.own(2).tolist() == [False, True, True, False, False]
    # a: 0.80 at epoch 0, not 0.90 afterwards; z: never evaluated
    np.testing.assert_allclose(metrics.peak_accuracy(history), [0.80, NO, 0.50, 0.70])
    np.testing.assert_allclose(metrics.end_of_phase_accuracy(history), [0.80, NO, 0.50, 0.60])
    np.testing.assert_allclose(metrics.accuracy_at_best_validation(history), [0.80, NO, 0.40, NO])
    np.testing.assert_allclose(metrics.final_accuracy(history), [0.40, NO, 0.45, 0.60])


def test_what_is_forgotten_of_a_given_task_counts_from_where_it_came() -> None:
    history = handed_over()
    assert history.followed() == [0, 1, 2]
    ratio = metrics.forgetting_ratio(history)
    np.testing.assert_allclose(ratio[:, 0], [1.0, 0.9 / 0.8, 0.75, 0.75, 0.5])
    assert np.isnan(ratio[:, 1]).all()
    # a 0.4 / 0.8, b 0.45 / 0.50, c 0.6 / 0.7; z is not defined
    assert metrics.final_forgetting_ratio(history) == pytest.approx((0.5 + 0.9 + 0.6 / 0.7) / 3)
    # a 0.40 - 0.80, b 0.45 - 0.50
    assert metrics.backward_transfer(history) == pytest.approx(-0.225)
    # a was followed for 8 epochs; b, evaluated 2 after its phase, for 4
    distances, means = metrics.forgetting_after(history)
    assert distances.tolist() == [0, 2, 4, 8]
    np.testing.assert_allclose(means, [1.0, (0.9 / 0.8 + 0.9) / 2, (0.75 + 0.9) / 2, 0.5])
    # after b: a alone; after c: a and b
    np.testing.assert_allclose(metrics.forgetting_by_task(history), [NO, NO, 0.75, (0.5 + 0.9) / 2])


def test_a_given_task_was_not_learned_here() -> None:
    history = handed_over()
    # b reaches 98 % of 0.50 at epoch 4; c of 0.70 at epoch 6, two after its phase began
    np.testing.assert_array_equal(metrics.convergence(history), [NO, NO, 4, 2])
    alone = dataclasses.replace(history, phases=((0, 4), (0, 4), (0, 4), (4, 8)))
    np.testing.assert_allclose(metrics.forward_transfer(history, alone), [NO, NO, 0, 0])
    np.testing.assert_allclose(metrics.forward_transfer(alone, history), [NO, NO, 0, 0])


def test_a_given_task_counts_among_the_presented_from_where_it_came() -> None:
    # 0: a alone. 2 and 4: a and b. 6: a carried, b, c. 8: b carried.
    expected = [0.80, 0.65, 0.55, (0.60 + 0.45 + 0.70) / 3, (0.40 + 0.45 + 0.60) / 3]
    np.testing.assert_allclose(metrics.average_accuracy(handed_over()), expected)


def test_only_given_tasks_have_nothing_to_forget() -> None:
    values = np.array([[0.8, 0.7]])
    history = History(("a", "b"), np.array([0]), values, values, ((0, 0), (0, 0)))
    assert history.followed() == []
    assert math.isnan(metrics.final_forgetting_ratio(history))
    assert math.isnan(metrics.backward_transfer(history))
    np.testing.assert_array_equal(metrics.convergence(history), [NO, NO])
    np.testing.assert_allclose(metrics.average_accuracy(history), [0.75])


def test_a_peak_of_zero_has_no_ratio() -> None:
    values = np.array([[0.0, NO], [0.0, 0.5]])
    history = History(("a", "b"), np.array([2, 4]), values, values, ((0, 2), (2, 4)))
    assert np.isnan(metrics.forgetting_ratio(history)[:, 0]).all()
    assert metrics.final_forgetting_ratio(history) == 1.0  # b alone


def test_interval_uses_students_t() -> None:
    # 1, 2, 3: s = 1, t_2(0.975) = 4.302653, so 4.302653 / sqrt(3) = 2.484138
    assert intervals.interval([1, 2, 3]) == pytest.approx(Interval(2.0, 2.484138, 3), rel=1e-6)
    # t_2(0.95) = 2.919986 / sqrt(3) = 1.685855
    assert intervals.interval([1, 2, 3], level=0.9).half_width == pytest.approx(1.685855, rel=1e-6)


def test_interval_of_one_or_no_trial_has_no_width() -> None:
    one = intervals.interval([0.5])
    assert one.mean == 0.5
    assert one.n == 1
    assert math.isnan(one.half_width)
    assert intervals.interval([]).n == 0
    assert math.isnan(intervals.interval([]).mean)


def test_interval_leaves_undefined_trials_out_and_says_so() -> None:
    assert intervals.interval([1, NO, 2, 3]) == pytest.approx(Interval(2.0, 2.484138, 3), rel=1e-6)


def test_paired_interval_is_of_the_differences() -> None:
    # differences 1, 2, 3, whatever the trials' own spread
    paired = intervals.paired_interval([101, 22, 3003], [100, 20, 3000])
    assert paired == pytest.approx(Interval(2.0, 2.484138, 3), rel=1e-6)
    with pytest.raises(ConfigurationError, match="as many values"):
        intervals.paired_interval([1, 2], [1])


def test_interval_refuses_a_level_in_percent() -> None:
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        intervals.interval([1, 2], level=95)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": np.array([0, 2, 4, 6, 8, 10])}, "shape"),
        ({"epochs": np.array([0, 2, 4, 4, 8, 10, 12])}, "rise"),
        ({"phases": ((0, 4), (4, 8))}, "as many phases"),
        ({"phases": ((0, 4), (8, 4), (8, 12))}, "ends at epoch 4"),
    ],
)
def test_a_history_that_does_not_fit_together_is_refused(change: dict[str, object], message: str) -> None:
    parts = {name: getattr(example(), name) for name in ("tasks", "epochs", "test", "validation", "phases")}
    with pytest.raises(ConfigurationError, match=message):
        History(**{**parts, **change})
