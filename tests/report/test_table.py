"""The summary table: its numbers, its text, its data frame."""

import dataclasses
import io
import math

import pandas as pd
import pytest
from rich.console import Console

from everlearn import intervals, metrics
from everlearn.intervals import Interval
from everlearn.report.groups import comparisons
from everlearn.report.histories import history
from everlearn.report.measures import shown, time_unit
from everlearn.report.table import print_table, summary_tables, table_frame


def printed(runs, *, width: int = 100, wide: bool = False) -> str:
    out = io.StringIO()
    print_table(runs, Console(file=out, width=width), wide=wide)
    return out.getvalue()


def test_a_row_is_the_interval_over_trials(runs) -> None:
    (table,) = summary_tables(runs)
    row = next(row for row in table.rows if row.entry.label == "hps")
    mine = [run for run in runs if run.run.config.method == "hps"]
    peaks = [metrics.peak_accuracy(history(run)).mean() for run in mine]
    assert row.intervals["peak_accuracy"] == pytest.approx(intervals.interval(peaks))
    for by, key in (("peak", "forgetting_ratio"), ("end", "forgetting_ratio_by_end")):
        kept = [metrics.final_forgetting_ratio(history(run), by) for run in mine]
        assert row.intervals[key] == pytest.approx(intervals.interval(kept))
    # training seconds are made as 10 + trial + 26450 / 10000
    assert row.intervals["training_seconds"].mean == pytest.approx(11 + 2.645)
    assert row.intervals["parameters_total"] == Interval(26_450, 0, 3)
    assert row.trials == 3


def test_forward_transfer_compares_with_single_task_learning(runs) -> None:
    (table,) = summary_tables(runs)
    by_label = {row.entry.label: row for row in table.rows}
    gap = by_label["tf"].intervals["peak_accuracy"].mean - by_label["stl"].intervals["peak_accuracy"].mean
    assert by_label["tf"].intervals["forward_transfer"].mean == pytest.approx(gap)
    assert by_label["stl"].intervals["forward_transfer"].n == 0


def test_the_frame_has_the_same_numbers(runs) -> None:
    (table,) = summary_tables(runs)
    frame = table.frame().set_index("method")
    row = next(row for row in table.rows if row.entry.label == "tf")
    for key, found in row.intervals.items():
        if key in frame:
            assert frame.loc["tf", [key, f"{key}_half_width", f"{key}_n"]].tolist() == pytest.approx(
                list(found), nan_ok=True
            )
    again = pd.read_csv(io.StringIO(table.csv())).set_index("method")
    assert again["final_accuracy"].tolist() == pytest.approx(frame["final_accuracy"].tolist())


def test_measures_that_no_method_has_are_left_out(runs, make_run, multi_task) -> None:
    (lifelong,) = summary_tables(runs)
    (together,) = summary_tables([make_run("stl", trial, training=multi_task) for trial in range(2)])
    keys = [{measure.key for measure in table.measures} for table in (lifelong, together)]
    assert "multi_task_error" in keys[1] - keys[0]
    assert {"forgetting_ratio", "backward_transfer"} <= keys[0] - keys[1]


def test_the_narrow_table_fits_100_columns_in_one_piece(runs) -> None:
    text = printed(runs)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("method") == 1
    assert "trials" in text
    assert "…" not in text


def test_a_narrow_console_gets_further_tables_and_no_cut_number(runs) -> None:
    (table,) = summary_tables(runs)
    text = printed(runs, width=50, wide=True)
    assert max(len(line) for line in text.splitlines()) <= 50
    assert "…" not in text
    for row in table.rows:
        for measure in table.measures:
            assert table.cell(row, measure) in text


def test_names_are_not_read_as_markup(make_run) -> None:
    assert "[red]hps[/red]" in printed([make_run("[red]hps[/red]", 0)])


def test_numbers_as_people_read_them() -> None:
    assert shown("%", Interval(0.9543, 0.0251, 3)) == "95.4 ± 2.5"
    assert shown("%", Interval(0.9543, math.nan, 1)) == "95.4"
    assert shown("%", Interval(math.nan, math.nan, 0)) == "–"
    assert shown("points", Interval(-0.058, 0.006, 3)) == "−5.8 ± 0.6"
    assert shown("points", Interval(0.058, 0.006, 3)) == "+5.8 ± 0.6"
    assert shown("points", Interval(0.0001, 0.006, 3)) == "0.0 ± 0.6"
    assert shown("points", Interval(-0.0001, 0.006, 3)) == "0.0 ± 0.6"
    assert shown("ratio", Interval(0.951, 0.012, 3)) == "0.95 ± 0.01"
    assert shown("epochs", Interval(12.25, 1.0, 3)) == "12.2 ± 1.0"
    assert shown("epochs", Interval(1234.0, 56.0, 3)) == "1,234 ± 56"
    assert shown("count", Interval(7_963_252.0, 0.0, 3)) == "7,963,252"
    assert shown("count", Interval(7_963_252.0, 100.0, 3)) == "7,963,252 ± 100"


def test_times_are_shown_in_the_unit_that_suits_the_longest() -> None:
    assert time_unit(599) == ("s", 1)
    assert time_unit(600) == ("min", 60)
    assert time_unit(3 * 3600) == ("h", 3600)


def test_a_single_trial_claims_no_interval(make_run) -> None:
    assert "±" not in printed([make_run("stl", 0)])


def test_nothing_finished_is_said(make_run) -> None:
    assert printed([make_run("stl", 0, finished=False)]).strip() == "No run is finished yet."
    assert table_frame([]).empty


def test_the_frame_of_several_comparisons_counts_them(make_run, multi_task) -> None:
    frame = table_frame([make_run("stl", 0), make_run("hps", 0), make_run("stl", 0, training=multi_task)])
    assert sorted(frame["comparison"]) == [0, 0, 1]
    assert frame["multi_task_error"].notna().sum() == 1


def test_a_finished_run_without_evaluations_has_dashes(make_run) -> None:
    empty = dataclasses.replace(make_run("stl", 0), evaluations=())
    (comparison,) = comparisons([empty])
    (table,) = summary_tables([empty])
    assert comparison.labels == ["stl"]
    assert "peak_accuracy" not in {measure.key for measure in table.measures}
