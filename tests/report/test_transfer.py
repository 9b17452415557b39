"""What was found out about which blocks transfer: frames, shares, courses, and their figures, worked out by hand."""

import dataclasses
import math

import pytest

import everlearn
from everlearn.experiments.records import Evaluation, FindingRecord
from everlearn.experiments.store import StoredRun
from everlearn.intervals import interval
from everlearn.report.families import families, kept_by_task
from everlearn.report.family_figures import (
    BEST,
    OTHERS,
    best_names,
    forgetting_by_task_panels,
    range_panels,
    role_styles,
    static_panels,
)
from everlearn.report.findings import chosen_frame, findings_frame, weights_frame
from everlearn.report.groups import comparisons
from everlearn.report.style import PALETTE
from everlearn.report.transfer import (
    block_courses,
    block_shares,
    configuration_shares,
    posterior,
    scores,
    selecting,
)
from everlearn.report.transfer_figures import (
    ROWS,
    block_panels,
    block_styles,
    choice_panels,
    course_panels,
    frequency_figure,
    posterior_panels,
    score_panels,
    selecting_styles,
)

TASKS = ["a", "b"]  # of 40 epochs each
EVIL = "x</script><b>&amp;"


def found(epoch: int, task: str, configuration: str, settled: bool = False, **more) -> FindingRecord:
    return FindingRecord(epoch=epoch, task=task, configuration=configuration, settled=settled, **more)


def chosen(*configurations: str, tasks: list[str] = TASKS) -> list[FindingRecord]:
    """The choices for the tasks in their order, and nothing else."""
    pairs = zip(tasks, configurations, strict=True)
    return [found(40 * (place + 1), task, one, settled=True) for place, (task, one) in enumerate(pairs)]


@pytest.fixture
def search(make_run):
    """A run with these findings."""

    def make(method: str, trial: int, findings, tasks: list[str] = TASKS, **more) -> StoredRun:
        return dataclasses.replace(make_run(method, trial, tasks=tasks, **more), findings=tuple(findings))

    return make


@pytest.fixture
def level(make_run):
    """A run of two tasks: `peak` at the end of both phases, and `left` of the first after the second."""

    def make(method: str, trial: int, peak: float, left: float, findings=(), **more) -> StoredRun:
        values = [(40, "a", "a", peak), (80, "b", "b", peak), (80, "b", "a", left)]
        lines = [
            Evaluation(epoch=epoch, training=busy, task=task, split="test", accuracy=value, loss=1.0)
            for epoch, busy, task, value in values
        ]
        run = make_run(method, trial, tasks=TASKS, **more)
        return dataclasses.replace(run, evaluations=tuple(lines), findings=tuple(findings))

    return make


def entries(*runs: StoredRun):
    (comparison,) = comparisons(runs)
    return comparison.entries


def traces(figure, name: str) -> list:
    return [trace for trace in figure.data if trace.name == name]


class TestShares:
    @pytest.fixture
    def entry(self, search):
        runs = [search("lasem-hps", 0, chosen("011", "110")), search("lasem-hps", 1, chosen("011", "001"))]
        return entries(*runs)[0]

    def test_of_configurations_over_tasks_and_trials(self, entry) -> None:
        # four choices: 011 twice; of the two that come once, 110 transfers more than 001
        shares = configuration_shares(entry)
        assert shares.configurations == ["011", "110", "001"]
        assert shares.shares == [0.5, 0.25, 0.25]
        assert (shares.others, shares.unlisted, shares.choices) == (0.0, 0, 4)

    def test_rare_configurations_are_summed(self, entry) -> None:
        shares = configuration_shares(entry, most=1)
        assert (shares.configurations, shares.shares) == (["011"], [0.5])
        assert (shares.others, shares.unlisted) == (0.5, 2)

    def test_of_blocks(self, entry) -> None:
        # block 1: 110; block 2: 011 twice and 110; block 3: 011 twice and 001
        assert block_shares(entry) == [0.25, 0.75, 0.75]

    def test_only_what_is_settled_counts(self, search) -> None:
        # b was searched and never settled; a's last word is not its first
        findings = [found(20, "a", "000"), found(40, "a", "111", settled=True), found(60, "b", "000")]
        (entry,) = entries(search("lasem-hps", 0, findings))
        assert configuration_shares(entry).configurations == ["111"]
        assert block_shares(entry) == [1.0, 1.0, 1.0]

    def test_methods_that_choose_nothing_are_left_out(self, search, make_run) -> None:
        runs = [search("lasem-hps", 0, chosen("1", "1")), search("darts-hps", 0, [found(20, "a", "1")])]
        (comparison,) = comparisons([*runs, make_run("hps", 0, tasks=TASKS)])
        assert [entry.label for entry in selecting(comparison)] == ["lasem-hps"]


class TestPosterior:
    FINDINGS = (
        found(0, "a", "11", weights={"11": 0.25, "10": 0.25, "01": 0.25, "00": 0.25}, blocks=[0.5, 0.5]),
        found(20, "a", "10", weights={"11": 0.3, "10": 0.7}, blocks=[1.0, 0.3]),
        found(40, "a", "10", weights={"11": 0.2, "10": 0.8}, blocks=[1.0, 0.2]),
        found(40, "a", "10", weights={"11": 0.1, "10": 0.9}, blocks=[1.0, 0.1], settled=True),
        found(40, "b", "11", weights={"11": 0.25, "10": 0.25, "01": 0.25, "00": 0.25}, blocks=[0.5, 0.5]),
        found(80, "b", "01", weights={"01": 1.0}, blocks=[0.0, 1.0], settled=True),
    )

    def test_over_the_epochs_of_one_trial(self, search) -> None:
        (entry,) = entries(search("lasem-hps", 0, self.FINDINGS))
        drawn = posterior(entry.trials[0])
        assert drawn is not None
        assert drawn.configurations == ["11", "10", "01", "00"]
        # what holds before a phase has no width; at 40 the settled finding counts; what is not listed has none
        assert drawn.edges == [0, 20, 40, 80]
        assert drawn.values == [[0.3, 0.1, 0.0], [0.7, 0.9, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
        assert drawn.chosen == [(40, "10"), (80, "01")]

    def test_a_task_without_findings_is_a_gap(self, search) -> None:
        (entry,) = entries(search("lasem-hps", 0, self.FINDINGS[-1:]))
        drawn = posterior(entry.trials[0])
        assert drawn is not None
        assert (drawn.edges, drawn.configurations) == ([0, 40, 80], ["01"])
        assert math.isnan(drawn.values[0][0])
        assert drawn.values[0][1] == 1.0

    def test_long_runs_are_thinned_to_the_last_of_each_stretch(self, search) -> None:
        findings = [found(e, "a", "1", weights={"1": e / 40}, blocks=[e / 40]) for e in range(1, 41)]
        findings[-1] = findings[-1].model_copy(update={"settled": True})
        (entry,) = entries(search("lasem-hps", 0, findings))
        # 8 columns for two tasks: 4 of 10 epochs each, and the second task's gap
        drawn = posterior(entry.trials[0], columns=8)
        assert drawn is not None
        assert drawn.edges == [0, 10, 20, 30, 40, 80]
        assert drawn.values[0][:4] == [0.25, 0.5, 0.75, 1.0]
        assert block_courses(entry, columns=8)[0].epochs == [10, 20, 30, 40]

    def test_block_courses_are_means_over_trials_at_the_epochs_of_all(self, search) -> None:
        one = search("lasem-hps", 0, [*self.FINDINGS])
        other = [found(20, "a", "00", blocks=[0.0, 0.5]), found(30, "a", "00", blocks=[0.0, 0.5])]
        other += [found(80, "b", "01", blocks=[0.5, 1.0], settled=True)]
        (entry,) = entries(one, search("lasem-hps", 1, other))
        first, second = block_courses(entry)
        # at 20: (1.0 + 0.0) / 2 and (0.3 + 0.5) / 2; at 80: (0.0 + 0.5) / 2 and 1
        assert first.epochs == [20]
        assert first.blocks == [pytest.approx([0.5, 0.4])]
        assert (second.epochs, second.blocks) == ([80], [[0.25, 1.0]])

    def test_tasks_are_matched_by_place_not_by_name(self, search) -> None:
        one = search("lasem-hps", 0, [found(40, "a", "1", blocks=[1.0], settled=True)])
        other = search("lasem-hps", 1, [found(40, "b", "1", blocks=[0.5], settled=True)], tasks=["b", "a"])
        (entry,) = entries(one, other)
        (course,) = block_courses(entry)
        assert course.blocks == [[0.75]]

    def test_brute_force_has_scores_and_darts_blocks_alone(self, search) -> None:
        tried = [found(80, "b", "10", weights={"11": 0.5, "10": 0.75}, attempt=1, settled=True)]
        mixed = [found(80, "b", "10", blocks=[0.6, 0.4], settled=True)]
        darts, brute = (one.trials[0] for one in entries(search("d", 0, mixed), search("x", 0, tried)))
        assert posterior(brute) is None
        drawn = scores(brute)
        assert drawn is not None
        assert (drawn.configurations, drawn.tasks, drawn.chosen) == (["11", "10"], [2], ["10"])
        assert drawn.values == [[0.5], [0.75]]
        assert posterior(darts) is None
        assert scores(darts) is None
        (entry,) = entries(search("d", 0, mixed))
        assert block_courses(entry)[0].blocks == [[0.6, 0.4]]


class TestFrames:
    @pytest.fixture
    def runs(self, search) -> list[StoredRun]:
        tried = [found(80, "b", "01", weights={"11": 0.5, "01": 0.75}, attempt=1, settled=True)]
        return [
            search("lasem-hps", 0, TestPosterior.FINDINGS, seed=3),
            search("brute-force-hps", 0, tried),
            search("lasem-tf", 0, TestPosterior.FINDINGS, finished=False),
        ]

    def test_one_row_a_finding_of_finished_runs(self, runs) -> None:
        frame = findings_frame(runs)
        assert len(frame) == 7
        row = frame[frame.method == "lasem-hps"].iloc[3]
        assert (row.comparison, row.stream, row.seed, row.backbone, row.trial) == (0, "digits", 3, "digits-cnn", 0)
        assert (row.task_number, row.task, row.epoch, row.settled, row.configuration) == (1, "a", 40, True, "10")
        assert (row.probability, row.block_1, row.block_2) == (0.9, 1.0, 0.1)
        assert math.isnan(row.validation_accuracy)
        assert row.run == runs[0].run.id
        (brute,) = frame[frame.method == "brute-force-hps"].itertuples()
        assert (brute.validation_accuracy, brute.attempt, brute.configuration) == (0.75, 1, "01")
        assert math.isnan(brute.probability)
        assert math.isnan(brute.block_1)

    def test_weights_are_long(self, runs) -> None:
        frame = weights_frame(runs)
        assert len(frame) == 4 + 2 + 2 + 2 + 4 + 1 + 2
        tried = frame[frame.kind == "validation accuracy"]
        assert tried[["configuration", "weight", "chosen"]].to_numpy().tolist() == [
            ["11", 0.5, False],
            ["01", 0.75, True],
        ]
        assert set(frame[frame.kind == "probability"].method) == {"lasem-hps"}

    def test_chosen_are_the_settled(self, runs) -> None:
        (comparison,) = comparisons(runs)
        frame = chosen_frame(comparison)
        assert frame[["method", "trial", "task", "configuration"]].to_numpy().tolist() == [
            ["brute-force-hps", 0, "b", "01"],
            ["lasem-hps", 0, "a", "10"],
            ["lasem-hps", 0, "b", "01"],
        ]

    def test_nothing_found_is_an_empty_frame_with_columns(self, make_run) -> None:
        for frame in (findings_frame([]), findings_frame([make_run("hps", 0)])):
            assert frame.empty
            assert frame[frame.settled.astype(bool)].configuration.tolist() == []
        assert weights_frame([]).weight.tolist() == []

    def test_they_are_public(self) -> None:
        assert everlearn.findings_frame is findings_frame
        assert everlearn.weights_frame is weights_frame


class TestFigures:
    def test_choices_are_bars_of_labels_not_of_numbers(self, search) -> None:
        runs = [search("lasem-hps", 0, chosen("011", "110")), search("lasem-hps", 1, chosen("011", "001"))]
        runs.append(search("lasem-tf", 0, chosen("111", "111")))
        (comparison,) = comparisons(runs)
        panels = choice_panels(comparison)
        assert list(panels) == ["lasem-hps", "lasem-tf"]
        (bars,) = panels["lasem-hps"].data
        assert (bars.y, bars.x) == ((0, 1, 2), (0.5, 0.25, 0.25))
        assert panels["lasem-hps"].layout.yaxis.ticktext == ("011", "110", "001")
        assert bars.text == ("50%", "25%", "25%")
        assert len({(panel.layout.xaxis.range, panel.layout.height) for panel in panels.values()}) == 1

    def test_the_thirteenth_configuration_is_among_the_others(self, search) -> None:
        tasks = [f"t{place}" for place in range(14)]
        spelled = [f"{place:04b}" for place in range(14)]
        (comparison,) = comparisons([search("lasem-hps", 0, chosen(*spelled, tasks=tasks), tasks=tasks)])
        panel = choice_panels(comparison)["lasem-hps"]
        assert len(panel.data[0].x) == 13
        assert panel.layout.yaxis.ticktext[-1] == "2 others"
        assert panel.data[0].x[-1] == pytest.approx(2 / 14)
        assert panel.data[0].marker.color[-1] != panel.data[0].marker.color[0]

    def test_blocks_are_stacked_by_method_and_grouped_over_methods(self, search) -> None:
        runs = [search("lasem-hps", 0, chosen("011", "110")), search("lasem-tf", 0, chosen("11", "01"))]
        (comparison,) = comparisons(runs)
        stacked = block_panels(comparison)["lasem-hps"]
        assert traces(stacked, "transfers")[0].y == (0.5, 1.0, 0.5)
        assert traces(stacked, "task-specific")[0].y == (0.5, 0.0, 0.5)
        grouped = frequency_figure(comparison)
        assert grouped is not None
        assert traces(grouped, "lasem-hps")[0].x == (1, 2, 3)
        assert traces(grouped, "lasem-tf")[0].y == (0.5, 1.0)
        assert grouped.layout.barmode == "group"
        assert stacked.layout.barmode == "stack"

    def test_methods_keep_their_colours_unless_these_repeat(self, search, make_run) -> None:
        few = [make_run("a", 0, tasks=TASKS), search("b", 0, chosen("1", "1"))]
        (comparison,) = comparisons(few)
        assert selecting_styles(comparison)["b"].colour == PALETTE[1]
        # the ninth of nine would have the second colour again
        many = [make_run(f"a{n}", 0, tasks=TASKS) for n in range(8)]
        (comparison,) = comparisons([*many, search("b", 0, chosen("1", "1"))])
        assert selecting_styles(comparison)["b"].colour == PALETTE[0]

    def test_the_posterior_is_a_heat_map_with_its_choices(self, search) -> None:
        (comparison,) = comparisons([search("lasem-hps", n, TestPosterior.FINDINGS) for n in range(2)])
        trial, panel = posterior_panels(comparison)["lasem-hps"]
        assert trial.key == (0, 0)
        heat, rings = panel.data
        assert heat.x == (0, 20, 40, 80)
        assert heat.y == (-0.5, 0.5, 1.5, 2.5, 3.5)
        assert list(heat.z[1]) == [0.7, 0.9, 0.0]
        # rows: 11, 10, 01, 00
        assert (rings.x, rings.y) == ((40, 80), (1, 2))
        assert panel.layout.yaxis.ticktext == ("11", "10", "01", "00")

    def test_too_many_configurations_have_lines_alone(self, search) -> None:
        spelled = [f"{place:06b}" for place in range(ROWS + 1)]
        weights = {one: 1 / len(spelled) for one in spelled}
        ends = [(40, "a"), (80, "b")]
        findings = [found(e, t, "111111", True, weights=weights, blocks=[0.5] * 6) for e, t in ends]
        (comparison,) = comparisons([search("lasem-hps", 0, findings)])
        assert posterior_panels(comparison) == {}
        assert len(course_panels(comparison)["lasem-hps"].data) == 6
        tried = [dataclasses.replace(search("x", 0, [f.model_copy(update={"blocks": []}) for f in findings]))]
        (comparison,) = comparisons(tried)
        assert score_panels(comparison) == {}
        assert course_panels(comparison) == {}

    def test_lines_break_between_tasks(self, search) -> None:
        (comparison,) = comparisons([search("lasem-hps", 0, TestPosterior.FINDINGS)])
        first, second = course_panels(comparison)["lasem-hps"].data
        assert first.x == (0, 20, 40, None, 40, 80)
        assert first.y == (0.5, 1.0, 1.0, None, 0.5, 0.0)
        assert second.y == (0.5, 0.3, 0.1, None, 0.5, 1.0)
        assert [first.name, second.name] == list(block_styles(comparison))
        assert first.line.width > second.line.width

    def test_scores_are_seen_from_the_best_of_their_task(self, search) -> None:
        tried = [
            found(40, "a", "11", weights={"11": 0.5, "10": 0.25}, settled=True),
            found(80, "b", "10", weights={"11": 0.5, "10": 0.75}, settled=True),
        ]
        (comparison,) = comparisons([search("brute-force-hps", 0, tried)])
        _, panel = score_panels(comparison)["brute-force-hps"]
        heat, rings = panel.data
        assert [list(row) for row in heat.z] == [[0.0, -25.0], [-25.0, 0.0]]
        assert (heat.x, rings.x, rings.y) == ((1, 2), (1, 2), (0, 1))
        assert heat.zmin == -25.0

    def test_names_are_shown_letter_for_letter(self, search, level) -> None:
        runs = [search(EVIL, 0, TestPosterior.FINDINGS), level("hps", 0, 0.9, 0.9), level("hps@<b>&amp;", 0, 0.9, 0.9)]
        runs.append(level(f"lasem-{EVIL}-hps", 0, 0.9, 0.9, TestPosterior.FINDINGS))
        (comparison,) = comparisons(runs)
        figures = [
            *choice_panels(comparison).values(),
            *block_panels(comparison).values(),
            frequency_figure(comparison),
            *(figure for _, figure in posterior_panels(comparison).values()),
            *course_panels(comparison).values(),
            *static_panels(comparison).values(),
            *range_panels(comparison).values(),
            *forgetting_by_task_panels(comparison).values(),
        ]
        assert len(figures) == 2 + 2 + 1 + 2 + 2 + 1 + 2 + 1
        for figure in figures:
            assert "<b>&amp;" not in str(figure.to_dict())


class TestFamilies:
    def test_configurations_of_one_rule_in_the_papers_order_and_words(self, make_run, search) -> None:
        names = ["hps@0110", "hps@bottom-1", "hps@alternating", "hps@top-10", "hps@top-2", "hps", "tf@none", "hps@1/0"]
        runs = [make_run(name, 0, tasks=TASKS) for name in names]
        runs += [search(name, 0, chosen("1", "1")) for name in ("lasem-hps", "brute-force-hps", "lasem-df-cnn")]
        (comparison,) = comparisons(runs)
        hps, tf = families(comparison)
        assert (hps.name, tf.name) == ("hps", "tf")
        assert [s.name for s in hps.statics] == ["All", "Top 2", "Top 10", "Bottom 1", "Alternating", "0110"]
        assert [s.name for s in hps.searches] == ["brute-force", "lasem"]
        assert hps.whole is not None
        assert hps.whole.entry.label == "hps"
        assert ([s.name for s in tf.statics], tf.searches, tf.whole) == (["None"], (), None)

    @pytest.mark.parametrize("name", ["hps@all", "hps@111", "hps"])
    def test_all_has_several_names(self, make_run, name) -> None:
        (comparison,) = comparisons([make_run(name, 0)])
        assert [static.name for static in families(comparison)[0].statics] == ["All"]

    def test_a_search_belongs_to_the_longest_rule_that_its_name_ends_with(self, make_run, search) -> None:
        runs = [make_run("direct", 0, tasks=TASKS), make_run("df-direct", 0, tasks=TASKS)]
        (comparison,) = comparisons([*runs, search("lasem-df-direct", 0, chosen("1", "1"))])
        searched = {family.name: [search.name for search in family.searches] for family in families(comparison)}
        assert searched == {"df-direct": ["lasem"], "direct": []}

    def test_backbones_and_options_stand_apart(self, make_run, search) -> None:
        runs = [make_run("hps", 0, tasks=TASKS, backbone=name) for name in ("a", "b")]
        runs.append(search("lasem-hps", 0, chosen("1", "1"), backbone="b"))
        runs.append(search("lasem-hps", 0, chosen("1", "1"), backbone="b", options={"prior": "mean"}))
        (comparison,) = comparisons(runs)
        one, other = families(comparison)
        assert (one.name, one.searches) == ("hps (a)", ())
        assert other.name == "hps (b)"
        assert [search.name for search in other.searches] == ["lasem (b)", "lasem (b, prior mean)"]

    def test_peaks_of_static_configurations_are_bars_and_searches_lines(self, level) -> None:
        runs = [level("hps", n, peak, 0.5) for n, peak in enumerate((0.5, 0.7))]
        runs += [level("hps@top-1", n, 0.8, 0.8) for n in range(2)]
        runs += [level("lasem-hps", n, peak, 0.8, chosen("1", "1")) for n, peak in enumerate((0.8, 0.9))]
        runs.append(level("tf", 0, 0.3, 0.3))  # a single configuration: no panel
        (comparison,) = comparisons(runs)
        panels = static_panels(comparison)
        assert list(panels) == ["hps"]
        (whole,) = (trace for trace in traces(panels["hps"], "All") if trace.type == "bar")
        # the mean of 0.5 and 0.7, in the first row; t_1(0.975) s / sqrt(2) = 12.706205 * 0.1 = 1.2706
        assert (whole.x[0], whole.y[0]) == (pytest.approx(0.6), 0)
        assert whole.error_x.array[0] == pytest.approx(1.2706205)
        (other,) = (trace for trace in traces(panels["hps"], OTHERS) if trace.type == "bar")
        assert (other.x[0], other.y[0]) == (pytest.approx(0.8), 1)
        (line,) = traces(panels["hps"], "lasem")
        assert line.x == pytest.approx((0.85, 0.85))
        dots = [trace for trace in panels["hps"].data if trace.type == "scatter" and trace.mode == "markers"]
        assert sorted(dots[0].x) == [0.5, 0.7]
        assert panels["hps"].layout.yaxis.ticktext[0] == "All  <b>60.0 ± 127.1</b>"

    def test_searches_stand_in_the_range_of_static_configurations(self, level) -> None:
        runs = [level("hps", n, 0.6, 0.3) for n in range(2)]
        runs += [level("hps@top-1", n, 0.8, 0.8) for n in range(2)]
        runs += [level("hps@bottom-1", n, 0.5, 0.4) for n in range(2)]
        runs += [level("lasem-hps", n, peak, 0.4, chosen("1", "1")) for n, peak in enumerate((0.7, 0.8))]
        runs += [
            level("tf", 0, 0.3, 0.3),
            level("df@top-1", 0, 0.1, 0.1),
            level("lasem-df", 0, 0.1, 0.1, chosen("1", "1")),
        ]
        (comparison,) = comparisons(runs)
        panels = range_panels(comparison)
        box, whole, dot = panels["peak"].data
        assert (min(box.y), max(box.y)) == pytest.approx((0.5, 0.8))
        assert whole.y == pytest.approx((0.6, 0.6))
        assert (whole.line.color, dot.marker.color) == (PALETTE[0], PALETTE[1])
        assert dot.y == pytest.approx((0.75,))
        assert dot.error_y.array[0] == pytest.approx(interval([0.7, 0.8]).half_width)
        assert panels["peak"].layout.xaxis.ticktext == ("hps<br><i>3 static</i>",)
        # ratios, the last task included: hps (0.3 / 0.6 + 1) / 2, top-1 1, bottom-1 (0.4 / 0.5 + 1) / 2
        box, whole, dot = panels["forgetting"].data
        assert (min(box.y), max(box.y)) == pytest.approx((0.75, 1.0))
        assert whole.y == pytest.approx((0.75, 0.75))
        # lasem: (0.4 / 0.7 + 1) / 2 and (0.4 / 0.8 + 1) / 2
        assert dot.y == pytest.approx(((0.4 / 0.7 + 0.5 + 2) / 4,))

    def test_forgetting_by_task_of_all_the_best_and_the_searches(self, level) -> None:
        runs = [level("hps", n, 0.6, left) for n, left in enumerate((0.3, 0.6))]
        runs += [level("hps@top-1", n, 0.8, 0.4) for n in range(2)]
        runs += [level("hps@top-2", n, 0.7, 0.7) for n in range(2)]
        runs += [level("lasem-hps", n, 0.5, 0.4, chosen("1", "1")) for n in range(2)]
        runs.append(level("tf", 0, 0.3, 0.3))  # one line alone: no panel
        (comparison,) = comparisons(runs)
        assert best_names(comparison) == {"hps": "Top 1", "tf": "All"}
        panels = forgetting_by_task_panels(comparison)
        assert list(panels) == ["hps"]
        drawn = {trace.name: trace for trace in panels["hps"].data if trace.name}
        assert list(drawn) == ["All", BEST, "lasem"]
        # after the second task: the mean of 0.3 / 0.6 and 0.6 / 0.6; 0.4 / 0.8; 0.4 / 0.5
        assert [(trace.x, trace.y) for trace in drawn.values()] == [
            ((2,), pytest.approx((0.75,))),
            ((2,), pytest.approx((0.5,))),
            ((2,), pytest.approx((0.8,))),
        ]

    def test_all_is_not_drawn_twice_where_it_is_the_best(self, level) -> None:
        runs = [
            level("hps", 0, 0.8, 0.6),
            level("hps@top-1", 0, 0.6, 0.6),
            level("lasem-hps", 0, 0.7, 0.7, chosen("1", "1")),
        ]
        (comparison,) = comparisons(runs)
        assert [trace.name for trace in forgetting_by_task_panels(comparison)["hps"].data] == ["All", "lasem"]

    def test_numbers_of_tasks_that_only_some_trials_have_are_left_out(self, make_run) -> None:
        runs = [make_run("hps", 0, tasks=["a", "b", "c"]), make_run("hps", 1, tasks=["a", "b"])]
        (comparison,) = comparisons(runs)
        assert kept_by_task(comparison.entries[0])[0] == [2]

    def test_every_role_has_a_colour_of_its_own(self, make_run, search) -> None:
        names = ["lasem-hps", "brute-force-hps", "darts-hps", "mine-hps"]
        (comparison,) = comparisons([make_run("hps", 0, tasks=TASKS), *(search(n, 0, chosen("1", "1")) for n in names)])
        styles = role_styles(families(comparison))
        assert list(styles) == ["All", BEST, OTHERS, "brute-force", "darts", "lasem", "mine"]
        assert len({style.colour for style in styles.values()}) == 7

    def test_the_multi_task_protocol_forgets_nothing(self, make_run, multi_task) -> None:
        runs = [make_run(name, 0, training=multi_task) for name in ("hps", "hps@top-1")]
        (comparison,) = comparisons(runs)
        assert list(static_panels(comparison)) == ["hps"]
        assert forgetting_by_task_panels(comparison) == {}
