"""Figures of old and new tasks: what is drawn, with which values; and where the page shows them."""

import math
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from everlearn import intervals
from everlearn.report.figures import accuracy_panels, convergence_figure, forgetting_panels
from everlearn.report.groups import comparisons
from everlearn.report.old_new import old_new_tables
from everlearn.report.old_new_figures import size_figures, sizes, stage_names, stage_panels, stages
from everlearn.report.page import render_page
from everlearn.report.provenance import warnings
from tests.report.test_page import EVIL, Reader

ROOT = Path("runs")
NO = math.nan


@pytest.fixture
def parts(make_taught):
    """Three new tasks, one after the other: LwF in two trials, fine-tuning in one; feature extraction keeps all."""

    def run(method: str, trial: int, *rows):
        tasks = ("places2", "transport", "animals", "objects")
        return make_taught(
            method, trial, dict(zip(tasks, rows, strict=True)), stream="parts", metrics=["accuracy", *["mAP"] * 3]
        )

    return [
        run("lwf", 0, [0.44, 0.43, 0.42, 0.41], [0.1, 0.80, 0.78, 0.77], [None, None, 0.7, 0.6], [None] * 3 + [0.5]),
        run("lwf", 1, [0.44, 0.41, 0.40, 0.39], [0.1, 0.82, 0.80, 0.79], [None, None, 0.8, 0.6], [None] * 3 + [0.6]),
        run("fine-tuning", 0, [0.44, 0.40, 0.35, 0.30], [None, 0.8, 0.7, 0.6], [None] * 2 + [0.7, 0.6], [None] * 4),
        run("feature-extraction", 0, [0.44, None, None, None], [None, 0.7, None, None], [None] * 4, [None] * 4),
    ]


@pytest.fixture
def shares(make_taught):
    """LwF with all and with 3 % of the images, two trials; joint with all of them alone."""

    def run(method: str, trial: int, share: float, old: float, new: float):
        values = {"places2": [0.44, old], "voc": [None, new]}
        return make_taught(
            method, trial, values, stream_options={"fraction": share, "size": 64}, metrics=["accuracy", "mAP"],
            start=f"run:{trial}",
        )  # fmt: skip

    return [
        run("lwf", 0, 0.03, 0.40, 0.50),
        run("lwf", 1, 0.03, 0.38, 0.54),
        run("lwf", 0, 1.0, 0.43, 0.70),
        run("lwf", 1, 1.0, 0.41, 0.72),
        run("joint", 0, 1.0, 0.44, 0.73),
    ]


def only(runs):
    (found,) = comparisons(runs)
    return found


def named(figure, name: str) -> tuple:
    """A method's line, and its points."""
    line, points = (trace for trace in figure.data if trace.legendgroup == name)
    return line, points


class TestStages:
    def test_a_value_counts_from_where_the_task_was_learned_and_is_carried_forward(self, parts) -> None:
        found = only(parts)
        by_label = {entry.label: stages(entry.trials[0]) for entry in found.entries}
        # transport's 0.1 before it was learned is left out
        np.testing.assert_array_equal(by_label["lwf"][:, 1], [NO, 0.80, 0.78, 0.77])
        np.testing.assert_array_equal(by_label["feature-extraction"][:, 0], [0.44] * 4)
        np.testing.assert_array_equal(by_label["feature-extraction"][:, 1], [NO, 0.7, 0.7, 0.7])
        assert stage_names(found) == ["places2", "transport", "animals", "objects"]

    def test_one_panel_a_task_with_intervals_over_trials(self, parts) -> None:
        panels = stage_panels(only(parts))
        assert list(panels) == ["places2, given with the network", "transport", "animals", "objects"]
        line, points = named(panels["transport"], "lwf")
        assert list(line.x) == [1, 2, 3]
        assert list(line.y) == pytest.approx([0.81, 0.79, 0.78])
        half = intervals.interval([0.80, 0.82]).half_width
        assert list(points.error_y.array) == pytest.approx([half] * 3)
        assert list(points.y) == list(line.y)
        assert list(points.customdata) == ["after transport", "after animals", "after objects"]
        assert panels["transport"].layout.yaxis.title.text == "test mAP"
        assert panels["places2, given with the network"].layout.yaxis.title.text == "test accuracy"

    def test_points_are_moved_aside_and_lines_are_not(self, parts) -> None:
        panel = stage_panels(only(parts))["places2, given with the network"]
        lines, points = zip(*(named(panel, name) for name in ("feature-extraction", "fine-tuning", "lwf")), strict=True)
        assert {tuple(line.x) for line in lines} == {(0, 1, 2, 3)}
        assert [one.x[0] for one in points] == pytest.approx([-0.14, 0, 0.14])

    def test_one_trial_has_no_whiskers_and_what_has_no_value_no_line(self, parts) -> None:
        panels = stage_panels(only(parts))
        assert list(named(panels["animals"], "fine-tuning")[1].error_y.array) == [0, 0]
        assert {trace.legendgroup for trace in panels["objects"].data} == {"lwf"}
        assert "objects" not in stage_panels(only(parts[2:]))

    def test_a_single_new_task_and_other_runs_have_none(self, make_taught, runs, shares) -> None:
        assert stage_panels(only([make_taught("lwf", 0, {"a": [0.4, 0.4], "b": [None, 0.7]})])) == {}
        assert stage_panels(only(runs)) == {}

    def test_tasks_in_other_orders_have_numbers(self, make_taught) -> None:
        first = {"a": [0.4, 0.4, 0.4], "b": [None, 0.7, 0.7], "c": [None, None, 0.6]}
        second = {"a": [0.4, 0.4, 0.4], "c": [None, 0.5, 0.5], "b": [None, None, 0.6]}
        found = only([make_taught("lwf", trial, values) for trial, values in enumerate((first, second))])
        assert stage_names(found) == ["task 1", "task 2", "task 3"]
        assert named(stage_panels(found)["task 2"], "lwf")[0].y[0] == pytest.approx(0.6)


class TestSizes:
    def test_comparisons_that_differ_in_the_share_alone_are_gathered(self, shares) -> None:
        (found,) = sizes(comparisons(shares))
        assert list(found.comparisons) == [1.0, 0.03]
        assert {label: list(by_share) for label, by_share in found.entries.items()} == {
            "lwf": [1.0, 0.03],
            "joint": [1.0],
        }

    def test_lines_are_means_and_dots_are_trials(self, shares) -> None:
        (found,) = sizes(comparisons(shares))
        figures = size_figures(found)
        line, dots = named(figures["new"], "lwf")
        assert list(line.x) == [1.0, 0.03]
        assert list(line.y) == pytest.approx([0.71, 0.52])
        assert list(dots.y) == [0.70, 0.72, 0.50, 0.54]
        assert list(named(figures["old"], "joint")[0].y) == [0.44]
        axis = figures["old"].layout.xaxis
        assert (axis.type, list(axis.ticktext)) == ("log", ["100 %", "3 %"])
        assert axis.range[0] > axis.range[1]  # the largest share on the left
        assert [figures[half].layout.yaxis.title.text for half in ("old", "new")] == ["test accuracy", "test mAP"]

    def test_other_options_or_trainings_are_not_gathered(self, shares, make_taught, runs) -> None:
        values = {"places2": [0.44, 0.4], "voc": [None, 0.7]}
        other = [make_taught("lwf", 0, values, stream_options={"fraction": 0.3, "size": 32})]
        assert len(sizes(comparisons([*shares, *other]))) == 1
        assert sizes(comparisons([*shares[:2], *other])) == []
        assert sizes(comparisons(runs)) == []

    def test_the_same_share_from_two_networks_is_two_series(self, make_taught) -> None:
        values = {"places2": [0.44, 0.4], "voc": [None, 0.7]}
        runs = [
            make_taught("lwf", 0, values, stream_options={"fraction": share}, start=start)
            for share in (1.0, 0.03)
            for start in ("run:a", "run:b")
        ]
        found = sizes(comparisons(runs))
        assert [list(one.comparisons) for one in found] == [[1.0, 0.03]] * 2


class TestPage:
    def test_of_one_comparison_all_stands_in_its_section(self, parts) -> None:
        page = render_page(parts, ROOT)
        text = " ".join(Reader(page).text.split())
        assert 'id="old-new"' not in page
        (table,) = old_new_tables(comparisons(parts))
        for line in table.lines:
            for half in ("old", "new"):
                assert table.cell(line, 0, half) in text.replace("\N{NO-BREAK SPACE}", " ")
        for wanted in (
            "new, mean of 3 mAP",
            "The row of lwf holds its own values.",
            "New tasks, one after the other",
            "went on from a network that came with one task and learned three new tasks",
            "places2 (20 classes, given with its network)",
            "transport (20 classes, mean average precision)",
            "what is called accuracy is the mean average precision",
        ):
            assert wanted in text
        # accuracy 3, stages 4, forgetting 2, convergence 1
        assert len(Reader(page).figures) == 10

    def test_of_several_comparisons_it_stands_before_them(self, shares) -> None:
        page = render_page(shares, ROOT)
        assert page.count('id="old-new"') == 1
        assert page.index('id="old-new"') < page.index('id="comparison-1"')
        assert "Fewer training images: places-voc" in page
        addresses = [one for one in Reader(page).addresses if one.startswith("data:text/csv")]
        lines = unquote(addresses[0].split(",", 1)[1]).splitlines()
        assert lines[0].startswith("stream,method,backbone,trials,old_measured,new_measured,old,old_half_width,old_n,")
        assert len(lines) == 1 + 3

    def test_every_entry_of_a_legend_has_lines_below_it(self, parts, shares) -> None:
        page = render_page([*parts, *shares], ROOT)
        drawn = [part for part in page.split('class="figures"')[1:] if "Li and Hoiem" in part]
        assert len(drawn) == 2
        for part in drawn:
            listed = set(re.findall(r'data-group="([^"]*)"', part))
            assert listed
            assert listed <= {trace["legendgroup"] for one in Reader(part).figures for trace in one["data"]}

    def test_there_is_nothing_of_it_elsewhere(self, runs) -> None:
        text = Reader(render_page(runs, ROOT)).text
        assert [one in text for one in ("Old and new tasks", "New tasks, one", "Fewer training")] == [False] * 3

    def test_without_lwf_it_says_so(self, parts) -> None:
        assert "There is no run of lwf to measure the others against" in render_page(parts[2:], ROOT)

    def test_names_are_escaped(self, make_taught) -> None:
        runs = [
            make_taught(method, 0, {EVIL: [0.4] * 3, "b": [None, 0.7, 0.7], "c": [None, None, 0.7]},
                        stream=EVIL, stream_options={"fraction": share, "x": EVIL})
            for method in ("lwf", EVIL) for share in (1, 0.1)
        ]  # fmt: skip
        reader = Reader(render_page(runs, ROOT))
        assert not {"img", "b"} & set(reader.tags)
        assert reader.tags.count("script") == 2 + len(reader.figures)
        assert "<img" not in str(reader.figures)


def test_a_given_task_begins_with_a_point_where_it_came(parts) -> None:
    panel = accuracy_panels(only(parts))["lwf"]
    point, line = (trace for trace in panel.data if trace.name == "1: places2")
    assert (list(point.x), point.mode, point.y[0]) == ([0], "markers", 0.44)
    assert list(line.x) == [0, 40, 80, 120]
    assert list(line.y) == pytest.approx([0.44, 0.42, 0.41, 0.40])
    assert list(panel.layout.xaxis.tickvals) == [0, 40, 80, 120]


def test_the_usual_figures_bear_tasks_that_were_never_evaluated(make_taught) -> None:
    nothing = {"a": [None, None], "b": [None, None]}
    (found,) = comparisons([make_taught("lwf", 0, nothing)])
    assert list(accuracy_panels(found)) == ["lwf"]
    assert forgetting_panels(found) == {}
    assert convergence_figure(found) is None
    assert "–" in render_page([make_taught("lwf", 0, nothing)], ROOT)
    # A given task without data beside one that was learned.
    partly = [make_taught("lwf", trial, {"a": [None, None], "b": [None, 0.7]}) for trial in range(2)]
    assert len(Reader(render_page(partly, ROOT)).figures) == 2


def test_other_networks_in_one_trial_are_warned_of(make_taught) -> None:
    values = {"a": [0.4, 0.4], "b": [None, 0.7]}
    same = [make_taught(method, 0, values) for method in ("lwf", "joint")]
    other = [same[0], make_taught("joint", 0, values, start="run:other")]
    said = "In one trial, not all methods went on from the same trained network."
    assert [said in warnings(only(runs)) for runs in (same, other)] == [False, True]
