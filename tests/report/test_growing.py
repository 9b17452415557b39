"""Performance task by task, capacity, time and units: numbers worked out by hand, figures, frames, the page."""

import dataclasses
import io
import json
import math
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from rich.console import Console

import everlearn
from everlearn import commands, metrics
from everlearn.intervals import interval
from everlearn.report import growth, growth_frame, units_frame
from everlearn.report.capacity import base_backbone, has_growth, multi_task_size
from everlearn.report.findings import findings_frame, weights_frame
from everlearn.report.found import found_section
from everlearn.report.groups import comparisons
from everlearn.report.growth_figures import (
    average_figure,
    capacity_figure,
    drift_panels,
    growth_styles,
    selected_figure,
    time_figure,
    unit_panels,
)
from everlearn.report.histories import history
from everlearn.report.page import render_page
from everlearn.report.table import print_table, summary_tables, table_frame
from everlearn.report.transfer import selecting
from tests.report.test_page import EVIL, Reader

ROOT = Path("runs")
TITLE = "Performance task by task, and size"
COUNTS = [
    {"units": [10, 4]},
    {"units": [12, 4], "selected": [5, 2], "added": [2, 0], "split": [0, 0]},
    {"units": [15, 6], "selected": [9, 1], "added": [1, 1], "split": [2, 1]},
]
DEN = [((0.9,), (0.8, 0.7), (0.8, 0.6, 0.4)), ((0.7,), (0.7, 0.5), (0.6, 0.6, 0.6))]
SIZES = {"shared": 150, "own": 0, "head": 30, "total": 180}


@pytest.fixture
def den(make_grown):
    """Two trials of three tasks; in the second, each layer has one unit more."""
    more = [{what: [number + 1 for number in numbers] for what, numbers in each.items()} for each in COUNTS]
    return [
        make_grown("den", trial, DEN[trial], seconds=[2 + trial, 3, 5], parameters=SIZES, counts=counts)
        for trial, counts in enumerate((COUNTS, more))
    ]


@pytest.fixture
def stl(make_grown):
    level = ((0.9,), (0.9, 0.8), (0.9, 0.8, 0.7))
    sizes = {"shared": 0, "own": 270, "head": 30, "total": 300}
    return [make_grown("stl", trial, level, seconds=[1, 1, 1], parameters=sizes) for trial in range(2)]


@pytest.fixture
def comparison(den, stl):
    (found,) = comparisons([*den, *stl])
    return found


def trace(figure, name: str):
    (found,) = [one for one in figure.data if one.name == name]
    return found


def column(table, label: str) -> dict:
    return next(row.intervals for row in table.rows if row.entry.label == label)


class TestHistory:
    def test_areas_are_read_from_the_records(self, den) -> None:
        found = history(den[0]).auroc
        assert found is not None
        assert found == pytest.approx(
            pd.DataFrame([[0.9, math.nan, math.nan], [0.8, 0.7, math.nan], [0.8, 0.6, 0.4]]).to_numpy(), nan_ok=True
        )

    def test_runs_without_have_none(self, make_run) -> None:
        assert history(make_run("hps", 0)).auroc is None

    def test_those_of_other_splits_and_other_attempts_do_not_count(self, den) -> None:
        last = den[0].evaluations[-1]
        lines = (
            *den[0].evaluations,
            last.model_copy(update={"split": "validation", "auroc": 0.1}),
            last.model_copy(update={"attempt": 1, "auroc": 0.1}),
        )
        assert metrics.final_average(history(dataclasses.replace(den[0], evaluations=lines)), "auroc") == 0.6


class TestCapacity:
    def test_a_run_of_the_multi_task_network_is_a_hundred_per_cent(self, den, stl, make_grown) -> None:
        hps = make_grown("hps", 0, DEN[0], parameters={"shared": 70, "own": 0, "head": 30, "total": 100})
        (found,) = comparisons([*den, *stl, hps])
        assert multi_task_size(found) == 100
        mtl = make_grown("mtl", 0, DEN[0], parameters={"total": 90})
        (found,) = comparisons([*den, *stl, hps, mtl])
        assert multi_task_size(found) == 90

    def test_single_task_learning_tells_it(self, comparison) -> None:
        # 270 in three trunks, and heads of 30
        assert multi_task_size(comparison) == 120

    def test_one_configuration_for_some_blocks_is_another_network(self, den, make_grown) -> None:
        part = make_grown("hps", 0, DEN[0], parameters={"total": 7}, options={"configuration": "top-1"})
        (found,) = comparisons([*den, part, make_grown("hps@top-1", 0, DEN[0], parameters={"total": 8})])
        assert multi_task_size(found) not in (7, 8)

    def test_else_it_is_counted(self, den) -> None:
        (found,) = comparisons(den)
        # digits: 1-16-16-32 convolutions of 3 x 3, pooled by 2 twice; heads 128-32-2, three of them
        trunk = (9 + 1) * 16 + (9 * 16 + 1) * 16 + (9 * 16 + 1) * 32
        assert multi_task_size(found) == trunk + 3 * (129 * 32 + 33 * 2)

    @pytest.mark.parametrize("changes", [{"stream": "my own"}, {"backbone": "mine.py:Net"}])
    def test_what_cannot_be_counted_is_not_defined(self, make_grown, changes) -> None:
        runs = [make_grown("den", 0, DEN[0], **changes)]
        (found,) = comparisons(runs)
        assert math.isnan(multi_task_size(found))
        assert capacity_figure(found) is None
        assert "Performance over capacity" not in render_page(runs, ROOT)

    def test_the_base_is_the_streams_own_network_or_the_most_frequent(self, make_grown) -> None:
        runs = [make_grown(m, 0, DEN[0], backbone="large") for m in ("stl", "den")]
        (found,) = comparisons([*runs, make_grown("den", 0, DEN[0], backbone="digits")])
        assert base_backbone(found) == "digits"
        (found,) = comparisons([*runs, make_grown("den", 0, DEN[0], backbone="another")])
        assert base_backbone(found) == "large"


class TestTable:
    def test_columns(self, den, stl) -> None:
        (table,) = summary_tables([*den, *stl])
        found = column(table, "den")
        assert found["auroc"] == pytest.approx(interval([0.6, 0.6]))
        assert found["capacity"] == pytest.approx((180 / 120, 0, 2))
        assert found["seconds_per_task"] == pytest.approx(interval([10 / 3, 11 / 3]))
        frame = table_frame([*den, *stl]).set_index("method")
        assert frame.loc["stl", ["auroc", "capacity", "seconds_per_task"]].tolist() == pytest.approx([0.8, 2.5, 1])
        assert frame.loc["den", "auroc_half_width"] == pytest.approx(0)

    def test_on_a_console(self, den, stl) -> None:
        out = io.StringIO()
        print_table([*den, *stl], Console(file=out, width=100))
        assert "0.6000 ± 0.0000" in out.getvalue()
        assert "150.0 ± 0.0" in out.getvalue()

    def test_they_are_nowhere_else(self, runs, make_grown) -> None:
        for others in (runs, [make_grown("hps", 0, DEN[0], auroc=False)]):
            (table,) = summary_tables(others)
            assert not {"auroc", "capacity", "seconds_per_task"} & {measure.key for measure in table.measures}

    def test_a_network_that_grows_has_a_capacity_without_areas(self, make_grown) -> None:
        (table,) = summary_tables([make_grown("den", 0, DEN[0], auroc=False, counts=COUNTS)])
        assert {measure.key for measure in table.measures} >= {"capacity", "seconds_per_task"}
        assert "auroc" not in {measure.key for measure in table.measures}


class TestFigures:
    def test_average_performance_by_task(self, comparison) -> None:
        figure = average_figure(comparison)
        line = trace(figure, "den")
        assert list(line.x) == [1, 2, 3]
        assert list(line.y) == pytest.approx([(0.9 + 0.7) / 2, (0.75 + 0.6) / 2, (0.6 + 0.6) / 2])
        assert list(trace(figure, "stl").y) == pytest.approx([0.9, 0.85, 0.8])
        band = next(one for one in figure.data if one.fill == "toself" and one.legendgroup == "den")
        assert band.y[1] - line.y[1] == pytest.approx(interval([0.75, 0.6]).half_width)

    def test_references_alone_are_grey_and_dotted(self, den, stl, make_grown) -> None:
        others = [make_grown(name, 0, DEN[0]) for name in ("mtl", "ewc", "dnn-l2", "prognn")]
        (found,) = comparisons([*den, *stl, *others])
        styles = growth_styles(found)
        assert {name for name, style in styles.items() if style.dash == "dot"} == {"stl", "mtl"}
        assert len({style.colour for style in styles.values()}) == 6
        assert all(len(set(bytes.fromhex(styles[name].colour[1:]))) == 1 for name in ("stl", "mtl"))

    def test_performance_over_capacity_joins_the_sizes_of_a_method(self, den, stl, make_grown) -> None:
        large = make_grown("den", 0, DEN[1], parameters={"total": 600}, backbone="large", counts=COUNTS)
        (found,) = comparisons([*den, *stl, large])
        figure = capacity_figure(found)
        points = trace(figure, "den")
        assert list(points.x) == pytest.approx([150, 500])
        assert list(points.y) == pytest.approx([0.6, 0.6])
        assert list(points.customdata) == ["digits", "large"]
        assert list(trace(figure, "stl").x) == pytest.approx([250])
        assert figure.layout.xaxis.range[1] > 500
        # One line a method elsewhere, of the base network.
        assert trace(average_figure(found), "den").y[0] == pytest.approx(0.8)

    def test_performance_over_time(self, comparison) -> None:
        figure = time_figure(comparison)
        line = trace(figure, "den")
        assert list(line.x) == pytest.approx([2.5, 5.5, 10.5])
        assert list(line.y) == pytest.approx([0.8, 0.675, 0.6])
        assert figure.layout.xaxis.title.text == "training time, s"

    def test_no_times_no_figure(self, make_grown) -> None:
        (found,) = comparisons([make_grown("den", 0, DEN[0])])
        assert time_figure(found) is None

    def test_early_middle_and_later_tasks(self, make_grown) -> None:
        def stages(level: float) -> list[list[float]]:
            return [[level - stage / 100] * (stage + 1) for stage in range(10)]

        (found,) = comparisons([make_grown("den", 0, stages(0.9)), make_grown("ewc", 0, stages(0.7))])
        panels = drift_panels(found)
        assert list(panels) == ["1: a", "4: d", "7: g"]
        line = trace(panels["4: d"], "den")
        assert list(line.x) == [4, 5, 6, 7, 8, 9, 10]
        assert list(line.y) == pytest.approx([0.87, 0.86, 0.85, 0.84, 0.83, 0.82, 0.81])
        assert len({panel.layout.yaxis.range for panel in panels.values()}) == 1

    @pytest.mark.parametrize(("tasks", "wanted"), [(1, []), (2, [0]), (3, [0, 1]), (10, [0, 3, 6]), (50, [0, 16, 33])])
    def test_which_tasks_are_followed(self, make_grown, tasks: int, wanted: list[int]) -> None:
        (found,) = comparisons([make_grown("den", 0, [[0.5] * (stage + 1) for stage in range(tasks)])])
        assert growth.watched(found) == wanted

    def test_selected_units_are_means_over_the_tasks_but_the_first(self, comparison) -> None:
        bar = trace(selected_figure(comparison), "den")
        assert list(bar.x) == [1, 2]
        # trials (5 + 9) / 2 and one more; (2 + 1) / 2 and one more
        assert list(bar.y) == pytest.approx([7.5, 2.0])
        # of 10 and 12 units there were 5 and 9; in the second trial of 11 and 13 there were 6 and 10
        shares = [(5 / 10 + 9 / 12) / 2, (6 / 11 + 10 / 13) / 2]
        assert bar.customdata[0] == pytest.approx(sum(shares) / 2)

    def test_what_the_first_task_selected_of_nothing_does_not_count(self, make_grown) -> None:
        counts = [{**COUNTS[0], "selected": [0, 0]}, *COUNTS[1:]]
        (found,) = comparisons([make_grown("den", 0, DEN[0], counts=counts)])
        assert list(trace(selected_figure(found), "den").y) == pytest.approx([7.0, 1.5])

    def test_units_of_each_layer_over_tasks(self, comparison) -> None:
        (panel,) = unit_panels(comparison).values()
        lines = [one for one in panel.data if one.fill is None]
        assert [list(line.y) for line in lines] == [[10.5, 12.5, 15.5], [4.5, 4.5, 6.5]]
        assert lines[0].name == "layer 1, nearest the image"

    def test_no_counts_no_units(self, stl) -> None:
        (found,) = comparisons(stl)
        assert selected_figure(found) is None
        assert unit_panels(found) == {}


class TestFrames:
    def test_units(self, den, stl) -> None:
        frame = units_frame([*den, *stl])
        assert set(frame["method"]) == {"den"}
        assert len(frame) == 2 * 3 * 2
        row = frame[(frame.trial == 0) & (frame.task_number == 3) & (frame.layer == 2)].iloc[0]
        assert row[["task", "units", "selected", "added", "split"]].tolist() == ["c", 6, 1, 1, 1]
        first = frame[(frame.trial == 0) & (frame.task == "a")]
        assert first["units"].tolist() == [10, 4]
        assert first["selected"].isna().all()
        assert everlearn.units_frame is units_frame

    def test_whatever_else_is_counted_has_a_column(self, make_grown) -> None:
        frame = units_frame([make_grown("apd-net", 0, counts=[{"own": [3, 4]}, {"own": [5, 6]}])])
        assert frame["own"].tolist() == [3, 4, 5, 6]
        assert frame["units"].isna().all()

    def test_what_is_not_settled_does_not_count(self, den) -> None:
        found = [one.model_copy(update={"settled": False}) for one in den[0].findings]
        assert units_frame([dataclasses.replace(den[0], findings=tuple(found))]).empty

    def test_task_by_task(self, den) -> None:
        frame = growth_frame(den)
        mine = frame[frame.trial == 1]
        assert mine["task"].tolist() == ["a", "b", "c"]
        assert mine["auroc"].tolist() == pytest.approx([0.7, 0.6, 0.6])
        assert mine["accuracy"].tolist() == pytest.approx([0.35, 0.3, 0.3])
        assert mine["seconds"].tolist() == [3, 6, 11]

    def test_nothing_is_an_empty_frame_with_columns(self) -> None:
        assert {"layer", "units", "split"} <= set(units_frame([]).columns)
        assert {"auroc", "seconds"} <= set(growth_frame([]).columns)


class TestTransfer:
    """What networks that grow find is no choice of what transfers."""

    def test_they_choose_nothing(self, comparison, den) -> None:
        assert any(one.settled for one in den[0].findings)
        assert selecting(comparison) == []
        assert found_section(comparison) is None

    def test_they_are_in_no_frame_of_findings(self, den) -> None:
        assert findings_frame(den).empty
        assert weights_frame(den).empty


class TestPage:
    def test_everything_is_on_it(self, den, stl) -> None:
        page = render_page([*den, *stl], ROOT)
        text = " ".join(Reader(page).text.split())
        for wanted in (
            TITLE,
            "Average performance, task by task",
            "den (0.6000)",
            "stl (0.8000)",
            "Performance over capacity",
            "Performance over training time",
            "What becomes of early, middle and later tasks",
            "Units of each layer",
            "Selected units",
            "den0.8000 ± 1.27060.6750 ± 0.95300.6000 ± 0.0000",
            # task a: 0.8 on average when it was over, 0.7 in the end; task b 0.6 both times
            "den0.8000 → 0.70000.6000 → 0.6000",
            # layer 1 of den: first, last, selected, its share, added 2 + 1 and two more, split 2 and two more
            "den, layer 110.5 ± 6.415.5 ± 6.47.5 ± 6.464 %4.0 ± 12.73.0 ± 12.7",
        ):
            assert wanted in text
        assert "What it found" not in text
        # accuracy 2, forgetting 2, convergence 1; average 1, capacity 1, time 1, drift 2, units 1, selected 1
        assert len(Reader(page).figures) == 5 + 7

    def test_it_says_what_performance_is(self, make_grown) -> None:
        with_counts = make_grown("den", 0, DEN[0], auroc=False, counts=COUNTS)
        text = Reader(render_page([with_counts], ROOT)).text
        assert "the runs measured no area under the ROC curve" in text
        assert "den (60.0 %)" in text

    def test_without_such_runs_there_is_no_such_section(self, runs, make_grown) -> None:
        (found,) = comparisons(runs)
        assert not has_growth(found)
        assert TITLE not in render_page(runs, ROOT)
        text = Reader(render_page([make_grown("ewc", 0, DEN[0])], ROOT)).text
        assert TITLE in text
        assert "Units of each layer" not in text

    def test_frames_can_be_downloaded(self, den, stl) -> None:
        addresses = [
            one for one in Reader(render_page([*den, *stl], ROOT)).addresses if one.startswith("data:text/csv")
        ]
        _, tasks, units = (pd.read_csv(io.StringIO(unquote(one.split(",", 1)[1]))) for one in addresses)
        assert tasks["auroc"].tolist() == pytest.approx(growth_frame([*den, *stl])["auroc"].tolist())
        assert len(units) == 12

    def test_every_entry_of_a_legend_has_lines_below_it(self, den, stl) -> None:
        parts = render_page([*den, *stl], ROOT).split('class="figures"')[1:]
        for part in parts:
            drawn = {t.get("legendgroup") or t.get("name") for f in Reader(part).figures for t in f["data"]}
            assert set(re.findall(r'data-group="([^"]*)"', part)) <= drawn

    def test_names_are_escaped(self, make_grown) -> None:
        reader = Reader(render_page([make_grown(EVIL, 0, DEN[0], counts=COUNTS, seconds=[1, 1, 1])], ROOT))
        assert not {"img", "b"} & set(reader.tags)
        assert "<img" not in json.dumps(reader.figures)


class TestCsv:
    def test_the_other_tables_lie_beside_the_summary(self, den, stl, make_taught, tmp_path) -> None:
        given = [make_taught("lwf", 0, {"old": [0.5, 0.25], "new": [None, 0.75]})]
        files = commands.csv_files([*den, *stl, *given], tmp_path / "table.csv")
        assert [path.name for path in files] == ["table.csv", "table-old-new.csv", "table-tasks.csv", "table-units.csv"]
        old_new = pd.read_csv(io.StringIO(files[tmp_path / "table-old-new.csv"]))
        assert old_new[["old", "new"]].to_numpy().tolist() == [[0.25, 0.75]]
        assert "capacity" in files[tmp_path / "table.csv"]

    def test_what_runs_do_not_have_is_not_written(self, runs, tmp_path) -> None:
        assert list(commands.csv_files(runs, tmp_path / "t.csv")) == [tmp_path / "t.csv"]
