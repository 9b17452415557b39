"""The figures: what is drawn, with which values."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from everlearn import intervals, metrics
from everlearn.report.figures import accuracy_panels, convergence_figure, forgetting_panels, task_names
from everlearn.report.groups import comparisons
from everlearn.report.histories import history
from everlearn.report.style import PALETTE, method_styles, task_colours


@pytest.fixture
def comparison(runs):
    (found,) = comparisons(runs)
    return found


def traces(figure, name: str) -> list:
    return [trace for trace in figure.data if trace.name == name]


def test_one_panel_a_method_with_one_range(comparison) -> None:
    panels = accuracy_panels(comparison)
    assert list(panels) == comparison.labels
    assert len({panel.layout.yaxis.range for panel in panels.values()}) == 1


def test_a_task_is_thick_in_its_own_phase_and_thin_after_it(runs, comparison) -> None:
    panel = accuracy_panels(comparison)["hps"]
    thick, thin = traces(panel, "2: 2 or 3")
    assert thick.line.width > 2 * thin.line.width
    assert thick.line.color == thin.line.color
    assert min(thick.x) > 40
    assert max(thick.x) == 80
    assert (thin.x[0], thin.x[-1]) == (80, 200)
    # the mean over three trials at the phase's end, where thick and thin meet
    ends = [history(run).test[:, 1] for run in runs if run.run.config.method == "hps"]
    rows = [history(run).epochs.tolist().index(80) for run in runs if run.run.config.method == "hps"]
    wanted = np.mean([values[row] for values, row in zip(ends, rows, strict=True)])
    assert thick.y[-1] == thin.y[0] == pytest.approx(wanted)


def test_a_task_that_is_not_evaluated_again_goes_on_level(comparison) -> None:
    thin = traces(accuracy_panels(comparison)["stl"], "1: 0 or 1")[1]
    assert thin.x == (40, 200)
    assert thin.y[0] == thin.y[1]


def test_the_mean_peak_of_single_task_learning_is_dotted_in_every_panel(runs, comparison) -> None:
    peaks = [metrics.peak_accuracy(history(run)).mean() for run in runs if run.run.config.method == "stl"]
    for panel in accuracy_panels(comparison).values():
        (reference,) = traces(panel, "mean peak of stl")
        assert reference.y == pytest.approx([np.mean(peaks)] * 2)
        assert reference.line.dash == "dot"


def test_no_reference_without_single_task_learning(make_run) -> None:
    (found,) = comparisons([make_run("hps", 0)])
    assert not [t for t in accuracy_panels(found)["hps"].data if "peak" in t.name]


def test_tasks_in_different_orders_have_no_names(make_run, comparison) -> None:
    assert task_names(comparison)[1] == "2: 2 or 3"
    (found,) = comparisons([make_run("hps", 0, tasks=["a", "b"]), make_run("hps", 1, tasks=["b", "a"])])
    assert task_names(found) == ["task 1", "task 2"]


def test_forgetting_lines_are_means_over_trials_with_bands(runs, comparison) -> None:
    panels = forgetting_panels(comparison)
    assert list(panels) == ["peak", "end"]
    (line,) = traces(panels["peak"], "tf")
    mine = [metrics.forgetting_after(history(run)) for run in runs if run.run.config.method == "tf"]
    assert list(line.x) == mine[0][0].tolist()
    assert list(line.y) == pytest.approx(np.mean([ratio for _, ratio in mine], axis=0).tolist())
    bands = [trace for trace in panels["peak"].data if trace.fill == "toself"]
    assert len(bands) == 6
    half = intervals.interval([ratio[0] for _, ratio in mine]).half_width
    band = next(trace for trace in bands if trace.legendgroup == "tf")
    assert band.y[0] - line.y[0] == pytest.approx(half)
    assert line.y[0] - band.y[-1] == pytest.approx(half)


def test_what_cannot_be_forgotten_is_level_at_one_by_the_end_of_its_phase(comparison) -> None:
    (line,) = traces(forgetting_panels(comparison)["end"], "stl")
    assert list(line.x) == [0, 40, 80, 120, 160]
    assert list(line.y) == [1.0] * 5


def test_one_trial_has_no_band_and_multi_task_no_forgetting(make_run, multi_task) -> None:
    (one,) = comparisons([make_run("hps", 0)])
    assert not [trace for trace in forgetting_panels(one)["peak"].data if trace.fill]
    (together,) = comparisons([make_run("hps", 0, training=multi_task)])
    assert forgetting_panels(together) == {}


def test_convergence_bars_have_intervals_and_dots(runs, comparison) -> None:
    figure = convergence_figure(comparison)
    assert figure is not None
    (bar,) = traces(figure, "tf")
    values = [metrics.convergence(history(run)).mean() for run in runs if run.run.config.method == "tf"]
    assert bar.x[0] == pytest.approx(np.mean(values))
    assert bar.error_x.array[0] == pytest.approx(intervals.interval(values).half_width)
    dots = [trace for trace in figure.data if trace.type == "scatter" and round(trace.y[0]) == bar.y[0]]
    assert sorted(dots[0].x) == pytest.approx(sorted(values))


def test_convergence_of_nothing_is_no_figure(make_run) -> None:
    (found,) = comparisons([dataclasses.replace(make_run("stl", 0), evaluations=())])
    assert convergence_figure(found) is None


def test_names_are_shown_letter_for_letter(make_run) -> None:
    (found,) = comparisons([make_run("hps", 0, tasks=["<b>x</b> & y", "z"])])
    names = {trace.name for trace in accuracy_panels(found)["hps"].data}
    assert "1: &lt;b&gt;x&lt;/b&gt; &amp; y" in names


def test_methods_differ_in_colour_and_dash_and_tasks_in_lightness() -> None:
    styles = method_styles([str(n) for n in range(len(PALETTE))])
    assert len({style.colour for style in styles.values()}) == len(PALETTE)
    again = method_styles([str(n) for n in range(14)])
    assert len({(style.colour, style.dash) for style in again.values()}) == 14

    def lightness(colour: str) -> float:
        red, green, blue = (int(part) for part in colour[4:-1].split(","))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    shades = [lightness(colour) for colour in task_colours(10)]
    assert all(later - earlier > 5 for earlier, later in itertools.pairwise(shades))
    assert shades[-1] < 215
    assert not math.isnan(lightness(task_colours(1)[0]))
