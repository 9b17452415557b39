"""Worked by hand: which runs belong to a table, and every number that it shows of them."""

import dataclasses
import math
import re
from pathlib import Path

import pytest

from everlearn.errors import ConfigurationError, StoreError, UnknownNameError
from everlearn.experiments.plan import spelt, with_changes
from everlearn.experiments.records import RunConfig
from everlearn.experiments.store import StoredRun
from everlearn.reproducing.comparing import Outcome, outcomes
from everlearn.reproducing.doing import plan
from everlearn.reproducing.matching import SAME_STREAM, cells
from everlearn.reproducing.page import Said, commands, heading, markdown
from everlearn.reproducing.planning import Cut, parts
from everlearn.reproducing.published import Published, published
from tests.reproducing.conftest import planned, stored


def changed(config: RunConfig, **how: object) -> RunConfig:
    return config.model_copy(update={"training": dataclasses.replace(config.training, **how)})  # type: ignore[arg-type]


@pytest.fixture
def runs(known: Published) -> list[StoredRun]:
    """Two trials of STL (88, 90), two of HPS (81, 85), one of DF-CNN (94), as published."""
    item = known.items["mine/table-1"]
    return [
        stored(planned(item, "stl", 0), [0.86, 0.90], seconds=10, size=52_930),
        stored(planned(item, "stl", 1), [0.90, 0.90], seconds=20, size=52_930),
        stored(planned(item, "hps", 0), [0.81, 0.81], seconds=5, size=36_450),
        stored(planned(item, "hps", 1), [0.85, 0.85], seconds=20, size=36_450),
        stored(planned(item, "df-cnn", 1), [0.94, 0.94], seconds=30, size=98_314),
    ]


@pytest.fixture
def outcome(known: Published, runs: list[StoredRun]) -> Outcome:
    found = outcomes(known.items["mine/table-1"], runs)
    assert len(found) == 1
    return found[0]


def test_our_mean_stands_beside_the_published_one(outcome: Outcome) -> None:
    stl, hps, deconvolved = (line.cells["peak"] for line in outcome.lines)
    assert stl.published[:2] == pytest.approx((0.90, 0.01))
    assert stl.ours.mean == pytest.approx(0.89)  # (0.88 + 0.90) / 2
    assert stl.ours.half_width == pytest.approx(12.7062 * 0.01, rel=1e-4)  # t of one degree; s / sqrt(2) = 0.01
    assert stl.difference == pytest.approx(-0.01)
    assert stl.inside is True  # on the edge of 90 ± 1
    assert hps.inside is False  # 83 is not within 80 ± 2
    assert deconvolved.inside is None  # nothing was printed to lie in
    assert (deconvolved.ours.n, outcome.trials) == (1, (1, 2))
    assert math.isnan(deconvolved.ours.half_width)


def test_times_are_relative_to_another_row_trial_by_trial(outcome: Outcome) -> None:
    stl, hps, deconvolved = (line.cells["time"] for line in outcome.lines)
    assert hps.published.mean == 2.0
    assert hps.ours.mean == pytest.approx(0.75)  # (5 / 10 + 20 / 20) / 2
    assert (stl.ours.mean, stl.published.mean) == (1.0, 1.0)
    assert deconvolved.ours.mean == pytest.approx(1.5)


def test_times_of_different_machines_are_not_divided(known: Published, runs: list[StoredRun]) -> None:
    assert runs[3].result
    elsewhere = dataclasses.replace(runs[3], result=runs[3].result.model_copy(update={"machine": {"device": "a GPU"}}))
    _, hps, _ = outcomes(known.items["mine/table-1"], [*runs[:3], elsewhere, runs[4]])[0].lines
    assert (hps.cells["time"].ours.n, hps.cells["time"].ours.mean) == (1, 0.5)  # 5 / 10
    assert hps.cells["peak"].ours.n == 2


def test_a_size_is_the_printed_one_if_it_rounds_to_it(outcome: Outcome) -> None:
    stl, hps, _ = (line.cells["size"] for line in outcome.lines)
    assert stl.same  # 0.05293 M is printed as 0.05
    assert not hps.same  # 0.03645 M is not printed as 0.03


def test_differences_are_paired_and_the_published_ones_have_both_intervals(outcome: Outcome) -> None:
    lower, higher = outcome.gaps
    assert lower.label == "HPS minus STL"
    gap = lower.cells["peak"]
    assert gap.published[:2] == pytest.approx((-0.10, math.hypot(0.01, 0.02)))
    assert gap.ours.mean == pytest.approx(-0.06)  # (-0.07 - 0.05) / 2
    assert gap.ours.half_width == pytest.approx(12.7062 * 0.01, rel=1e-4)
    assert gap.inside is False
    assert higher.cells["peak"].ours[::2] == pytest.approx((0.09, 1))  # the one trial that both have
    assert set(lower.cells) == {"peak"}  # of sizes and times nothing is claimed


def test_rows_may_be_printed_as_differences_from_one(known: Published) -> None:
    item = known.items["mine/table-2"]
    values = {"lwf": (0.60, 0.62), "fine-tuning": (0.57, 0.57), "l2": (0.59, 0.60)}
    made = [stored(planned(item, m, n), [v]) for m, both in values.items() for n, v in enumerate(both)]
    lwf, tuned, held = (line.cells["final"] for line in outcomes(item, made)[0].lines)
    assert (lwf.ours.mean, lwf.published.mean) == pytest.approx((0.61, 0.60))
    assert (tuned.ours.mean, tuned.published.mean) == pytest.approx((-0.04, -0.05))
    assert (held.ours.mean, held.published.mean) == pytest.approx((-0.015, -0.015))  # printed as 58.5, LwF as 60


def test_the_row_that_others_are_relative_to_is_no_difference_under_any_option(known: Published) -> None:
    item = known.items["mine/table-2"]
    own = planned(item, "lwf", 0).model_copy(update={"options": {"temperature": 1.0}})
    found = outcomes(item, [stored(planned(item, "lwf", 0), [0.6]), stored(own, [0.7])])
    page = markdown(known, [Said("mine/table-2", item, found)], "x")
    assert "Rows with a sign are differences from LwF, in points." in page
    assert "| LwF (temperature 1.0) | 60.0 | 70.0 | 1 | +10.0 |" in page
    assert "| fine-tuning | −5.0 | not run |  |  |" in page


def test_shorter_runs_stand_apart_and_the_nearest_come_first(known: Published, runs: list[StoredRun]) -> None:
    item = known.items["mine/table-1"]
    config = runs[0].run.config
    short, shorter = (stored(changed(config, epochs=epochs), [0.5]) for epochs in (20, 10))
    other = stored(changed(config, rate=0.5), [0.4])
    moved = config.model_copy(update={"trial": 1})  # of the first trial's stream
    same = stored(moved, [0.3])
    found = outcomes(item, [other, shorter, short, *runs, same])
    told = [[difference[:2] for difference in one.differences] for one in found]
    assert told == [[], [("epochs", 20)], [("epochs", 10)], [("rate", 0.5)], [(SAME_STREAM, "the same")]]
    assert found[1].differences == (("epochs", 20, 60),)
    assert heading(item, found[1]) == "20 epochs instead of 60; 1 of 3 trials"
    said = Said("mine/table-1", item, found)
    assert commands(said, found[1]) == [
        "everlearn reproduce mine/table-1 --data DIR --trials 1 --epochs 20 --methods stl"
    ]
    assert commands(said, found[3]) == [
        "everlearn reproduce mine/table-1 --data DIR --trials 1 --set rate=0.5 --methods stl"
    ]


def test_what_is_of_another_experiment_is_not_in_the_table(known: Published, runs: list[StoredRun]) -> None:
    item = known.items["mine/table-1"]
    config = runs[0].run.config
    others = [
        stored(config.model_copy(update={"method": "tf"}), [0.1]),
        stored(config.model_copy(update={"start": "run:5f3a"}), [0.1]),
        stored(config.model_copy(update={"tasks": 2}), [0.1]),
        stored(changed(config, protocol="multi-task"), [0.1]),
        dataclasses.replace(stored(changed(config, epochs=7), [0.1]), result=None),
    ]
    assert [one.runs for one in outcomes(item, [*runs, *others])] == [tuple(runs)]


def test_an_option_that_the_paper_does_not_have_makes_a_row_of_its_own(known: Published, runs: list[StoredRun]) -> None:
    item = known.items["mine/table-1"]
    own = runs[4].run.config.model_copy(update={"options": {"bias_start": "lasem"}})
    found = outcomes(item, [*runs, stored(own, [0.97])])[0]
    assert [line.label for line in found.lines] == ["STL", "HPS", "DF-CNN", "DF-CNN (bias_start lasem)"]
    assert [line.label for line in found.gaps][1:] == ["DF-CNN minus HPS", "DF-CNN (bias_start lasem) minus HPS"]
    assert found.gaps[2].cells["peak"].ours.mean == pytest.approx(0.12)
    assert commands(Said("mine/table-1", item, [found]), found)[1].endswith("--option bias_start=lasem")


def test_differences_are_of_rows_with_the_same_options_where_there_are_such(
    known: Published, runs: list[StoredRun]
) -> None:
    item = known.items["mine/table-1"]
    odd = {"options": {"x": 1}}
    others = [stored(runs[n].run.config.model_copy(update=odd), [value]) for n, value in ((0, 0.5), (2, 0.7))]
    gaps = {gap.label: gap.cells["peak"].ours.mean for gap in outcomes(item, [*runs, *others])[0].gaps}
    assert gaps["HPS (x 1) minus STL (x 1)"] == pytest.approx(0.2)
    assert gaps["HPS minus STL"] == pytest.approx(-0.06)


def test_a_row_that_others_are_relative_to_may_have_options_of_its_own(known: Published, runs: list[StoredRun]) -> None:
    item = known.items["mine/table-1"]
    odd = {"options": {"e_step_every": 10}}
    alone = [stored(run.run.config.model_copy(update=odd), [0.9], seconds=40) for run in runs[:2]]
    lines = {line.label: line for line in outcomes(item, [*alone, *runs[2:]])[0].lines}
    assert lines["HPS"].cells["time"].ours.mean == pytest.approx((5 / 40 + 20 / 40) / 2)
    both = {line.label: line for line in outcomes(item, [*alone, *runs])[0].lines}
    assert both["HPS"].cells["time"].ours.mean == pytest.approx(0.75)  # the plain one, where there is one
    assert both["STL (e_step_every 10)"].cells["time"].ours.mean == 1.0


def test_contradicting_records_are_told(known: Published, runs: list[StoredRun]) -> None:
    broken = dataclasses.replace(runs[0], run=runs[0].run.model_copy(update={"tasks": ["another"]}))
    with pytest.raises(StoreError):
        outcomes(known.items["mine/table-1"], [broken])


# ---------------------------------------------------------------- plans


def test_a_plan_counts_what_is_there(known: Published, runs: list[StoredRun]) -> None:
    item = known.items["mine/table-1"]
    work = plan(item, Cut(), runs)
    assert (work.planned, work.missing) == (9, 4)
    missing = [(config.method, config.trial) for _, configs in work.parts for config in configs]
    assert missing == [("df-cnn", 0), ("stl", 2), ("hps", 2), ("df-cnn", 2)]
    assert plan(item, Cut(trials=2, methods=("stl", "hps")), runs).missing == 0
    assert plan(item, Cut(training={"epochs": 5}), runs).missing == 9
    assert plan(item, Cut(options={"bias_start": "lasem"}), runs).missing == 3 + 2  # stl and hps have no such option
    assert plan(known.items["mine/figure-2"], Cut(), runs).missing == 1
    work = plan(item, Cut(stream_options={"train": 10}), runs)  # they learned from 40 images a task
    assert work.missing == 9
    assert work.parts[0][0].request.stream_options == {"train": 10}


def test_a_plan_is_of_what_exists(known: Published) -> None:
    item = known.items["mine/table-1"]
    rows = re.escape("there is no method of this table named 'lwf'; there are stl (STL), hps (HPS), df-cnn (DF-CNN).")
    with pytest.raises(ConfigurationError, match=rows):
        parts(item, Cut(methods=("lwf",)))
    with pytest.raises(UnknownNameError, match="training setting"):
        parts(item, Cut(training={"epoch": 3}))
    with pytest.raises(ConfigurationError):
        parts(item, Cut(trials=0))


# ---------------------------------------------------------------- the page


def test_the_page_says_it_all(known: Published, runs: list[StoredRun]) -> None:
    said = [Said(name, item, outcomes(item, runs)) for name, item in known.items.items()]
    page = markdown(known, said, "everlearn reproduce --runs here --out there.md")
    assert "everlearn reproduce --runs here --out there.md" in page
    assert "| mine/table-1 | Digits | as published; 1 to 2 of 3 trials | 9 | 1 of 2 |" in page
    assert "| mine/table-2 | Digits, taught | not run; needs nothing but computing time |  |  |" in page
    assert "mine/figure-1" not in page
    assert "| STL | 90.0 ± 1.0 | 89.0 ± 12.7 | 2 | −1.0 | yes |" in page
    assert "| DF-CNN | 95.0 | 94.0 | 1 | −1.0 |  |" in page
    assert "| STL | 0.05M | 0.05M | 2 |  | yes |" in page
    assert "| HPS | 2.00 | 0.75 ± 3.18 | 2 | −1.25 |" in page
    assert "| HPS minus STL | −10.0 ± 2.2 | −6.0 ± 12.7 | 2 | +4.0 | no |" in page
    assert (
        "| Published, not run here | Accuracy far away, % |\n| --- | --- |\n| STL | 50.0 |\n| needs | a ship |" in page
    )
    assert "Drawn in the paper; ours: the accuracy panels of the report" in page


def test_where_nothing_is_printed_the_heading_does_not_say_as_published(
    known: Published, outcome: Outcome, runs: list[StoredRun]
) -> None:
    item = known.items["mine/table-1"]
    assert heading(item, outcome).startswith("as published; ")
    bare = item.model_copy(update={"rows": [row.model_copy(update={"printed": {}}) for row in item.rows]})
    (found,) = outcomes(bare, runs)
    assert heading(bare, found).startswith("settings as published, where the paper prints no values; ")
    apart = bare.model_copy(update={"stand_in": True})
    assert heading(apart, found).startswith("settings as published, on data that the paper does not have; ")
    for stand_in in (False, True):
        drawn = bare.model_copy(update={"drawn": "a figure", "stand_in": stand_in})
        assert heading(drawn, found).startswith("settings as published, on" if stand_in else "as published; ")
    assert commands(Said("mine/table-1", bare, [found]), found) == [
        "everlearn reproduce mine/table-1 --data DIR --trials 2"
    ]


def test_a_row_with_options_of_its_own_is_not_there_because_the_plain_one_is() -> None:
    item = published().items["lwf/table-2"]
    plain, losses = Cut(methods=("lwf",)), "lwf+response=l1"
    [part] = parts(item, plain)
    own = [config.options for config in part.configs[:4]]
    assert own == [{}, {"response": "l1"}, {"response": "l2"}, {"response": "cross-entropy"}]
    done = [stored(planned(item, "lwf", trial), [0.4, 0.6]) for trial in range(3)]
    assert plan(item, plain, done).missing == 9
    [(_, missing)] = plan(item, Cut(methods=("lwf", losses)), [*done, stored(part.configs[1], [0.4, 0.6])]).parts
    assert len(missing) == 8
    assert part.configs[1] not in missing


def test_a_run_is_spelt_as_it_is_asked_for() -> None:
    item = published().items["lwf/table-2"]
    cut = Cut(methods=("lwf+response=l1",), options={"temperature": 3})
    config = parts(item, cut)[0].configs[0]
    assert spelt(config) == "lwf+temperature=3+response=l1"
    assert spelt(config, cut.options) == "lwf+response=l1"
    assert with_changes(spelt(config)) == ("lwf", {"temperature": "3", "response": "l1"})


def test_a_run_is_of_the_row_that_says_most_of_its_options() -> None:
    item = published().items["lwf/table-2"]
    plain, l1 = parts(item, Cut(methods=("lwf",)))[0].configs[:2]
    cooler = l1.model_copy(update={"options": {"response": "l1", "temperature": 1.0}})
    found = cells(item, [stored(config, [0.4, 0.6]) for config in (plain, l1, cooler)])
    labels = {item.rows[place].label: [match.extra for match in found[place, key]] for place, key in found}
    assert labels == {
        "LwF (output layer, distillation)": [()],
        "(c) LwF (L1)": [(), (("temperature", 1.0),)],
    }


def test_another_backbone_is_said_and_is_not_taken_for_the_published_one(known: Published) -> None:
    item = known.items["mine/table-1"]
    cut = Cut(methods=("stl",), backbone="digits-large")
    run = stored(planned(item, "stl", 0, cut), [0.9, 0.9])
    assert run.run.config.backbone == "digits-large"
    [outcome] = outcomes(item, [run])
    assert heading(item, outcome) == "backbone digits-large instead of digits; 1 of 3 trials"
    [command] = commands(Said("mine/table-1", item, [outcome]), outcome)
    assert command == "everlearn reproduce mine/table-1 --data DIR --trials 1 --backbone digits-large --methods stl"
    assert plan(item, cut, [run]).missing == 2
    assert plan(item, Cut(methods=("stl",)), [run]).missing == 3
    mine = run.run.config.model_copy(update={"backbone": "my.py:Net", "code": {"my.py:Net": "5f3a"}})
    changed_file = mine.model_copy(update={"code": {"my.py:Net": "9b01"}})
    both = outcomes(item, [stored(mine, [0.9]), stored(changed_file, [0.8])])
    assert [heading(item, one) for one in both] == [
        f"backbone my.py:Net instead of digits; its file my.py with the SHA-256 {mark}...; 1 of 3 trials"
        for mark in ("5f3a", "9b01")
    ]
    [command] = commands(Said("mine/table-1", item, both), both[0])
    assert command == "everlearn reproduce mine/table-1 --data DIR --trials 1 --backbone my.py:Net --methods stl"


def test_a_method_of_a_file_is_the_row_s_only_as_the_file_is_now(known: Published, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("its text is what counts: nothing is loaded to tell whose runs there are")
    name = f"{tmp_path}/mine.py:Mine"
    row = known.items["mine/table-1"].rows[0].model_copy(update={"method": name})
    item = known.items["mine/table-1"].model_copy(update={"rows": [row], "differences": []})
    now = planned(item, name, 0)
    assert cells(item, [stored(now, [0.9])])
    assert not cells(item, [stored(now.model_copy(update={"code": {name: "before"}}), [0.9])])
