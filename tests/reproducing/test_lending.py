"""Rows that were run in another precision alone: they stand among the others, and say so."""

import dataclasses

import pytest

from everlearn.experiments.records import RunConfig
from everlearn.experiments.store import StoredRun
from everlearn.reproducing.comparing import Outcome, outcomes
from everlearn.reproducing.page import Said, commands, heading, markdown
from everlearn.reproducing.published import Item, Published
from tests.reproducing.conftest import planned, stored


@pytest.fixture
def item(known: Published) -> Item:
    """STL, HPS and DF-CNN, of which HPS is compared with STL, and DF-CNN with HPS."""
    return known.items["mine/table-1"]


def lower(config: RunConfig, **how: object) -> RunConfig:
    training = dataclasses.replace(config.training, precision="bfloat16", **how)  # type: ignore[arg-type]
    return config.model_copy(update={"training": training})


@pytest.fixture
def runs(item: Item) -> list[StoredRun]:
    """Two trials of STL (88, 90) and one of DF-CNN (94) as published, one of HPS (81) in bfloat16."""
    return [
        stored(planned(item, "stl", 0), [0.88], seconds=10),
        stored(planned(item, "stl", 1), [0.90], seconds=10),
        stored(planned(item, "df-cnn", 0), [0.94], seconds=20),
        stored(lower(planned(item, "hps", 0)), [0.81], seconds=30),
    ]


@pytest.fixture
def outcome(item: Item, runs: list[StoredRun]) -> Outcome:
    found = outcomes(item, runs)
    assert [one.differences for one in found] == [()]
    return found[0]


def test_such_a_row_stands_among_the_others_and_says_its_precision(item: Item, outcome: Outcome) -> None:
    assert [line.label for line in outcome.lines] == ["STL", "HPS (precision bfloat16)", "DF-CNN"]
    assert [line.cells["peak"].ours.mean for line in outcome.lines] == pytest.approx([0.89, 0.81, 0.94])
    assert outcome.rows == {0, 1, 2}
    assert heading(item, outcome) == "as published; 1 to 2 of 3 trials; 1 row in bfloat16"


def test_it_is_paired_on_both_sides_of_a_difference(outcome: Outcome) -> None:
    gaps = {gap.label: gap.cells["peak"].ours for gap in outcome.gaps}
    assert set(gaps) == {"HPS (precision bfloat16) minus STL", "DF-CNN minus HPS (precision bfloat16)"}
    assert [(gap.n, gap.mean) for gap in gaps.values()] == [(1, pytest.approx(-0.07)), (1, pytest.approx(0.13))]


def test_its_seconds_are_not_compared_with_those_of_another_precision(outcome: Outcome) -> None:
    stl, hps, deconvolved = (line.cells["time"].ours for line in outcome.lines)
    assert (stl.mean, deconvolved.mean) == pytest.approx((1.0, 2.0))
    assert hps.n == 0


def test_each_precision_has_a_command_with_its_own_trials(item: Item, outcome: Outcome) -> None:
    assert commands(Said("mine/table-1", item, [outcome]), outcome) == [
        "everlearn reproduce mine/table-1 --data DIR --trials 2 --methods stl,df-cnn",
        "everlearn reproduce mine/table-1 --data DIR --trials 1 --methods hps --set precision=bfloat16",
    ]


def test_more_trials_of_such_a_row_are_not_asked_of_the_others(item: Item, runs: list[StoredRun]) -> None:
    second = stored(lower(planned(item, "hps", 1)), [0.82])
    [found] = outcomes(item, [runs[0], *runs[2:], second])
    assert [line.split(" --trials ")[1] for line in commands(Said("mine/table-1", item, [found]), found)] == [
        "1 --methods stl,df-cnn",
        "2 --methods hps --set precision=bfloat16",
    ]


def test_the_page_says_what_such_rows_are(known: Published, item: Item, outcome: Outcome) -> None:
    page = markdown(known, [Said("mine/table-1", item, [outcome])], "x")
    assert "| HPS (precision bfloat16) | 80.0 ± 2.0 | 81.0 | 1 | +1.0 | yes |" in page
    assert "| HPS (precision bfloat16) | 2.00 | – |  |  |" in page
    assert "Rows that were run in another precision than the others" in page


def test_a_row_that_was_run_in_both_makes_a_table_of_its_own_with_what_was_run_beside_it(
    item: Item, runs: list[StoredRun]
) -> None:
    both = stored(lower(planned(item, "stl", 0)), [0.85])
    plain, other = outcomes(item, [*runs, both])
    assert [line.label for line in plain.lines if line.cells["peak"].ours.n] == ["STL", "DF-CNN"]
    assert [line.label for line in other.lines if line.cells["peak"].ours.n] == ["STL", "HPS"]
    assert other.differences == (("precision", "bfloat16", "float32"),)
    [gap] = other.gaps
    assert gap.cells["peak"].ours.mean == pytest.approx(-0.04)


def test_it_stands_among_rows_that_differ_as_it_does_otherwise(item: Item) -> None:
    short = planned(item, "stl", 0)
    short = short.model_copy(update={"training": dataclasses.replace(short.training, epochs=20)})
    beside = lower(planned(item, "hps", 0), epochs=20)
    alone = lower(planned(item, "df-cnn", 0), epochs=10)
    found = outcomes(item, [stored(short, [0.9]), stored(beside, [0.8]), stored(alone, [0.7])])
    assert [heading(item, one) for one in found] == [
        "20 epochs instead of 60; 1 of 3 trials; 1 row in bfloat16",
        "10 epochs instead of 60; precision bfloat16 instead of float32; 1 of 3 trials",
    ]
