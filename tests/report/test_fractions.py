"""Multi-task errors by the share of the training images: which runs stand side by side, and each number by hand."""

import dataclasses
import math
from pathlib import Path

import pytest
from rich.console import Console

from everlearn.experiments.records import Evaluation
from everlearn.experiments.store import StoredRun, run_folder, run_id
from everlearn.report import errors_frame, print_table
from everlearn.report.fractions import error_tables, size_of
from everlearn.report.groups import comparisons
from everlearn.report.page import render_page
from everlearn.training.settings import Training
from tests.report.conftest import make_run

TOGETHER = Training(protocol="multi-task", epochs=20, evaluate_every=10)
TASKS = ["a", "b"]


def made(
    method: str, fraction: float, errors: tuple[float, float], trial: int = 0, kind: str = "pairs",
    training: Training = TOGETHER,
) -> StoredRun:  # fmt: skip
    """A run whose error at the epoch that validates best is the mean of `errors`; at the other epoch it is 0."""
    run = make_run(method, trial, training=training, tasks=TASKS)
    options: dict[str, str | int | float | bool] = {"fraction": fraction, "kind": kind, "seed_of": 7}
    config = run.run.config.model_copy(update={"stream": run.run.config.stream.model_copy(update={"options": options})})
    lines = [
        Evaluation(epoch=epoch, training=None, task=task, split=split, accuracy=accuracy, loss=0.1)
        for epoch, validates in ((10, 0.9), (20, 0.5))
        for task, error in zip(TASKS, errors, strict=True)
        for split, accuracy in (("validation", validates), ("test", 1 - error if epoch == 10 else 1.0))
    ]
    record = run.run.model_copy(update={"config": config, "id": run_id(config)})
    return dataclasses.replace(run, folder=run_folder(Path("runs"), config), run=record, evaluations=tuple(lines))


RUNS = [
    made("hps", 0.1, (0.02, 0.04)),
    made("stl", 0.03, (0.10, 0.20)),
    made("stl", 0.03, (0.20, 0.30), trial=1),
    made("hps", 0.03, (0.30, 0.50)),
    made("stl", 0.1, (0.01, 0.01)),
]


def test_one_row_a_method_and_one_column_a_share() -> None:
    (table,) = error_tables(comparisons(RUNS))
    assert (table.option, table.values, table.title) == ("fraction", (0.03, 0.1), "digits")
    assert [line.label for line in table.lines] == ["stl", "hps"]
    means = [[round(cell.mean, 6) for cell in line.cells] for line in table.lines]
    assert means == [[0.2, 0.01], [0.4, 0.03]]
    assert [line.trials for line in table.lines] == [(2, 1), (1, 1)]
    assert table.lines[0].cells[0].half_width == pytest.approx(12.706 * 0.1 / math.sqrt(2) / math.sqrt(2), rel=1e-3)


def test_a_share_that_a_method_was_not_run_at_is_a_dash() -> None:
    (table,) = error_tables(comparisons([*RUNS, made("tf", 0.1, (0.2, 0.2))]))
    line = next(line for line in table.lines if line.label == "tf")
    assert line.trials == (0, 1)
    assert math.isnan(line.cells[0].mean)
    assert len(table.frame()) == 5


def test_two_kinds_of_tasks_are_two_tables() -> None:
    others = [made("stl", fraction, (0.3, 0.3), kind="against rest") for fraction in (0.03, 0.1)]
    titles = {table.title for table in error_tables(comparisons([*RUNS, *others]))}
    assert titles == {"digits, kind pairs", "digits, kind against rest"}


def test_streams_that_were_run_without_the_option_are_left_out() -> None:
    given = made("stl", 0.1, (0.7, 0.7))
    bare = given.run.config.stream.model_copy(update={"options": {"kind": "pairs", "seed_of": 7}})
    config = given.run.config.model_copy(update={"stream": bare})
    without = dataclasses.replace(given, run=given.run.model_copy(update={"config": config, "id": run_id(config)}))
    (table,) = error_tables(comparisons([*RUNS, without]))
    assert (table.values, table.title) == ((0.03, 0.1), "digits")
    assert [line.trials for line in table.lines] == [(2, 1), (1, 1)]


@pytest.mark.parametrize(
    "runs",
    [
        [run for run in RUNS if run.run.config.stream.options["fraction"] == 0.03],
        [made("stl", f, (0.1, 0.1), training=Training(epochs=20)) for f in (0.03, 0.1)],
        [],
    ],
    ids=["one share", "lifelong", "nothing"],
)
def test_without_several_shares_there_is_no_table(runs: list[StoredRun]) -> None:
    assert error_tables(comparisons(run for run in runs if run.run.config.training.protocol == "multi-task")) == []
    assert errors_frame(runs).empty


def test_the_frame_has_fractions() -> None:
    frame = errors_frame(RUNS).set_index(["method", "fraction"])
    assert frame.loc[("stl", 0.03), "error"] == pytest.approx(0.2)
    assert frame.loc[("hps", 0.1), "parameters"] == 26_450
    assert frame.loc[("stl", 0.03), "trials"] == 2


def test_it_is_printed_and_on_the_page() -> None:
    console = Console(width=100, record=True)
    print_table(RUNS, console)
    text = console.export_text()
    assert "Multi-task error in %, digits" in text
    assert any(line.split()[:3] == ["hps", "26,450", "40.0"] for line in text.splitlines())
    page = render_page(RUNS, Path("runs"))
    assert '<h1 class="next">Multi-task error</h1>' in page
    assert "<td>40.0</td><td>3.0</td>" in page
    assert "Multi-task error</h1>" not in render_page(RUNS[1:3], Path("runs"))


def test_sizes_are_shown_as_the_papers_have_them() -> None:
    assert [size_of(number) for number in (1_525_460, 12_892_652, 104_000, 26_450)] == [
        "1.5M",
        "12.9M",
        "0.1M",
        "26,450",
    ]
