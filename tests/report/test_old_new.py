"""Old and new tasks: the numbers of the tables, worked out by hand."""

import dataclasses
import io
import math

import pandas as pd
import pytest
from rich.console import Console

from everlearn.experiments.store import RUN, run_folder, write_record
from everlearn.report import old_new_frame, provenance
from everlearn.report.groups import comparisons, distinctions
from everlearn.report.old_new import old_new_tables
from everlearn.report.table import print_table
from everlearn.training.settings import Training

# t_1(0.975) / sqrt(2) * s: of two values that are d apart, s = d / sqrt(2), so the half width is 12.7062 * d / 2.
HALF = 12.706205 / 2
VOC = ["accuracy", "mAP"]


def taught(make_taught, method: str, trial: int, old: float, new: float, **more):
    return make_taught(method, trial, {"places2": [0.44, old], "voc": [None, new]}, **more)


@pytest.fixture
def pair(make_taught):
    """LwF and fine-tuning, two trials each, on one stream."""

    def made(**more):
        return [
            taught(make_taught, "lwf", 0, 0.43, 0.72, **more),
            taught(make_taught, "lwf", 1, 0.41, 0.74, **more),
            taught(make_taught, "fine-tuning", 0, 0.40, 0.71, **more),
            taught(make_taught, "fine-tuning", 1, 0.39, 0.73, **more),
        ]

    return made


def printed(runs, width: int = 100) -> str:
    out = io.StringIO()
    print_table(runs, Console(file=out, width=width))
    return out.getvalue()


def table_of(runs):
    (table,) = old_new_tables(comparisons(runs))
    return table


def cells(table) -> dict[str, list[str]]:
    return {
        line.label: [table.cell(line, place, half) for place in range(len(table.columns)) for half in ("old", "new")]
        for line in table.lines
    }


def test_lwf_has_its_values_and_the_others_their_paired_differences(pair) -> None:
    table = table_of(pair())
    assert table.reference == "lwf"
    # lwf: old (43 + 41) / 2, 2 apart; new (72 + 74) / 2, 2 apart. fine-tuning: 40 - 43 = -3 and 39 - 41 = -2: 1 apart;
    # 71 - 72 = 73 - 74 = -1 in both.
    assert cells(table) == {
        "lwf": ["42.0 ± 12.7", "73.0 ± 12.7"],
        "fine-tuning": ["−2.5 ± 6.4", "−1.0 ± 0.0"],
    }


def test_the_frame_has_both_values_and_differences(pair) -> None:
    frame = old_new_frame(pair(metrics=VOC)).set_index("method")
    assert frame["stream"].tolist() == ["places-voc"] * 2
    assert frame["trials"].tolist() == [2, 2]
    tuned = frame.loc["fine-tuning"]
    assert tuned["old"] == pytest.approx(0.395)
    assert tuned["old_half_width"] == pytest.approx(0.01 * HALF)
    assert tuned["old_difference"] == pytest.approx(-0.025)
    assert tuned["old_difference_half_width"] == pytest.approx(0.01 * HALF)
    assert tuned["new_difference"] == pytest.approx(-0.01)
    assert tuned["new_difference_half_width"] == pytest.approx(0, abs=1e-12)
    assert tuned["new_difference_n"] == 2
    assert (tuned["old_measured"], tuned["new_measured"]) == ("accuracy", "mAP")
    lwf = frame.loc["lwf"]
    assert lwf["old"] == pytest.approx(0.42)
    assert math.isnan(lwf["old_difference"])
    assert lwf["old_difference_n"] == 0


def test_a_task_that_was_not_evaluated_again_has_what_it_came_with(make_taught, pair) -> None:
    frozen = [
        make_taught("feature-extraction", trial, {"places2": [0.44, None], "voc": [None, 0.7]}) for trial in (0, 1)
    ]
    # 44 - 43 and 44 - 41: mean 2, 2 apart; 70 - 72, 70 - 74: mean -3, 2 apart
    assert cells(table_of([*pair(), *frozen]))["feature-extraction"] == ["+2.0 ± 12.7", "−3.0 ± 12.7"]


def test_one_trial_has_no_interval(make_taught) -> None:
    runs = [taught(make_taught, "lwf", 0, 0.43, 0.72), taught(make_taught, "joint", 0, 0.44, 0.72)]
    assert cells(table_of(runs)) == {"lwf": ["43.0", "72.0"], "joint": ["+1.0", "0.0"]}
    frame = old_new_frame(runs).set_index("method")
    assert math.isnan(frame.loc["joint", "old_difference_half_width"])


def test_only_trials_that_both_have_are_compared(make_taught) -> None:
    runs = [taught(make_taught, "lwf", 0, 0.43, 0.72), taught(make_taught, "joint", 0, 0.44, 0.72)]
    runs.append(taught(make_taught, "joint", 1, 0.10, 0.10))
    runs.append(taught(make_taught, "l2", 1, 0.10, 0.10))
    # joint's second trial and all of l2 have nothing beside them
    assert cells(table_of(runs)) == {"lwf": ["43.0", "72.0"], "joint": ["+1.0", "0.0"], "l2": ["–", "–"]}
    frame = old_new_frame(runs).set_index("method")
    assert frame.loc["joint", "old"] == pytest.approx(0.27)
    assert frame.loc["joint", ["trials", "old_n", "old_difference_n"]].tolist() == [2, 2, 1]
    assert frame.loc["l2", "old_difference_n"] == 0
    # A trial of another draw of the stream is no pair either.
    other = taught(make_taught, "lwf", 0, 0.43, 0.72, seed=7)
    assert cells(table_of([runs[1], other]))["joint"] == ["–", "–"]


def test_several_tasks_are_averaged(make_taught) -> None:
    courses = {"a": [0.9, 0.7, 0.5], "b": [0.7, 0.6, None], "c": [None, 0.8, 0.6], "d": [None, None, 0.7]}
    run = make_taught("lwf", 0, courses, given=2)
    table = table_of([run])
    # old: a 0.5 and b, last evaluated at 0.6; new: c 0.6 and d 0.7
    assert cells(table) == {"lwf": ["55.0", "65.0"]}
    assert table.columns[0].tasks == {"old": 2, "new": 2}
    assert "mean of 2" in printed([run])


def test_streams_under_one_training_stand_side_by_side(make_taught, pair) -> None:
    runs = [*pair(metrics=VOC), taught(make_taught, "lwf", 0, 0.5, 0.6, stream="imagenet-cub")]
    runs.append(taught(make_taught, "ewc", 0, 0.4, 0.6, stream="imagenet-cub"))
    table = table_of(runs)
    assert [column.name for column in table.columns] == ["imagenet-cub", "places-voc"]
    assert cells(table) == {
        "lwf": ["50.0", "60.0", "42.0 ± 12.7", "73.0 ± 12.7"],
        "fine-tuning": ["–", "–", "−2.5 ± 6.4", "−1.0 ± 0.0"],
        "ewc": ["−10.0", "0.0", "–", "–"],
    }
    assert [line.trials for line in table.lines] == [(1, 2), (0, 2), (1, 0)]
    assert [column.measured["new"] for column in table.columns] == ["accuracy", "mAP"]
    # What was not run has no row in the frame.
    assert old_new_frame(runs)[["stream", "method"]].values.tolist() == [
        ["imagenet-cub", "lwf"],
        ["imagenet-cub", "ewc"],
        ["places-voc", "lwf"],
        ["places-voc", "fine-tuning"],
    ]
    text = printed(runs)
    assert "mAP" in text
    assert "1–2" in text


def test_other_trainings_and_backbones_are_other_tables(make_taught, pair) -> None:
    longer = dataclasses.replace(pair()[0].run.config.training, epochs=20)
    runs = [*pair(), *pair(training=longer), *pair(backbone="vgg")]
    tables = old_new_tables(comparisons(runs))
    assert sorted(table.title for table in tables) == [
        "epochs 20",
        "epochs 40, alexnet",
        "epochs 40, vgg",
    ]
    # Each is measured against LwF on its own backbone.
    assert {tuple(cells(table)["fine-tuning"]) for table in tables} == {("−2.5 ± 6.4", "−1.0 ± 0.0")}
    assert old_new_frame(runs)["table"].unique().tolist() == [0, 1, 2]


def test_streams_on_backbones_of_their_own_stand_side_by_side(pair) -> None:
    runs = [*pair(), *pair(stream="imagenet-cub", backbone="vgg")]
    table = table_of(runs)
    assert [column.name for column in table.columns] == ["imagenet-cub, vgg", "places-voc, alexnet"]
    assert cells(table)["fine-tuning"] == ["−2.5 ± 6.4", "−1.0 ± 0.0"] * 2
    assert old_new_frame(runs)["backbone"].tolist() == ["vgg"] * 2 + ["alexnet"] * 2


def test_options_of_a_stream_tell_its_columns_apart(pair) -> None:
    runs = [run for share in (0.1, 1.0) for run in pair(stream_options={"fraction": share, "size": 64})]
    names = [column.name for column in table_of(runs).columns]
    assert names == ["places-voc (fraction 1.0)", "places-voc (fraction 0.1)"]
    runs += pair(stream_options={"fraction": 1.0, "size": 32})
    # What most have is not said.
    names = [column.name for column in table_of(runs).columns]
    assert sorted(names) == ["places-voc", "places-voc (fraction 0.1)", "places-voc (size 32)"]


def test_variants_of_lwf_are_measured_against_the_plain_one(make_taught, pair) -> None:
    runs = [*pair(), taught(make_taught, "lwf", 0, 0.42, 0.72, options={"response": "l2"})]
    runs.append(taught(make_taught, "lwf@1110", 0, 0.43, 0.73))
    found = cells(table_of(runs))
    assert list(found) == ["lwf", "lwf (response l2)", "lwf@1110", "fine-tuning"]
    assert found["lwf (response l2)"] == ["−1.0", "0.0"]
    assert found["lwf@1110"] == ["0.0", "+1.0"]


def test_without_lwf_all_rows_hold_values(make_taught, pair) -> None:
    runs = [run for run in pair() if run.run.config.method != "lwf"]
    table = table_of(runs)
    assert table.reference == ""
    assert cells(table) == {"fine-tuning": ["39.5 ± 6.4", "72.0 ± 12.7"]}
    assert "difference" not in printed(runs)
    # Where it was run on another stream alone, this one holds values, and says so.
    runs.append(taught(make_taught, "lwf", 0, 0.5, 0.6, stream="imagenet-cub"))
    assert cells(table_of(runs))["fine-tuning"] == ["–", "–", "39.5 ± 6.4", "72.0 ± 12.7"]
    assert "old (values)" in printed(runs)


def test_without_a_trained_network_the_first_task_is_the_old_one(make_taught) -> None:
    courses = {"a": [0.9, 0.7], "b": [None, 0.8]}
    runs = [make_taught(method, 0, courses, given=0) for method in ("lwf", "ewc")]
    assert cells(table_of(runs)) == {"lwf": ["70.0", "80.0"], "ewc": ["0.0", "0.0"]}
    assert old_new_tables(comparisons(runs[1:])) == []


def test_a_given_task_without_data_has_a_dash(make_taught) -> None:
    run = make_taught("lwf", 0, {"a": [None, None], "b": [None, 0.8]})
    assert cells(table_of([run])) == {"lwf": ["–", "80.0"]}
    assert math.isnan(old_new_frame([run]).loc[0, "old"])


def test_there_is_none_where_nothing_is_old_and_new(runs, make_run, multi_task) -> None:
    assert old_new_tables(comparisons([*runs, make_run("lwf", 0, training=multi_task)])) == []
    assert old_new_tables(comparisons([make_run("lwf", 0, tasks=["a"])])) == []
    assert old_new_frame(runs).equals(pd.DataFrame())
    assert "Old and new" not in printed(runs)


def test_a_narrow_console_gets_further_tables_and_no_cut_number(pair) -> None:
    runs = [run for stream in ("places-voc", "imagenet-cub", "imagenet-scenes") for run in pair(stream=stream)]
    text = printed(runs, width=60)
    text = text[text.index("Old and new tasks") :]
    assert max(len(line) for line in text.splitlines()) <= 60
    assert "…" not in text
    assert text.count("42.0 ± 12.7") == text.count("−2.5 ± 6.4") == 3


def test_runs_from_a_trained_network_stand_apart_from_those_without(make_taught) -> None:
    values = {"places2": [0.44, 0.43], "voc": [None, 0.72]}
    given, alone = make_taught("lwf", 0, values), make_taught("lwf", 0, values, given=0)
    found = comparisons([given, alone])
    assert sorted(distinctions(found)) == ["", "from a trained network"]
    # Each trial may have a network of its own; two networks in one trial of one method may not stand together.
    assert len(comparisons([given, make_taught("lwf", 1, values, start="run:other")])) == 1
    found = comparisons([given, make_taught("lwf", 0, values, start="run:other")])
    assert sorted(distinctions(found)) == ["from run:5f3a", "from run:other"]


@pytest.fixture
def trained(make_run, make_taught, tmp_path):
    """Two trials of LwF for each of two rates at which their networks were trained; and the runs that trained them."""
    taught = []
    for rate in (0.1, 0.2):
        for trial in (0, 1):
            network = make_run("hps", trial, training=Training(rate=rate, epochs=7))
            folder = run_folder(tmp_path / "starts", network.run.config)
            folder.mkdir(parents=True)
            write_record(folder / RUN, network.run)
            run = taught_one(make_taught, trial, start=f"run:{network.run.id}")
            taught.append(dataclasses.replace(run, folder=tmp_path / run.folder.name))
    return taught


def taught_one(make_taught, trial: int, **more):
    return make_taught("lwf", trial, {"places2": [0.44, 0.43], "voc": [None, 0.72]}, **more)


def test_networks_that_were_trained_in_one_way_stand_together(trained) -> None:
    assert [[len(entry.trials) for entry in one.entries] for one in comparisons(trained)] == [[2], [2]]
    # Where nobody knows how they were trained, each stands alone, if trials went on from several.
    elsewhere = [dataclasses.replace(run, folder=run.folder / "elsewhere") for run in trained]
    assert len(comparisons(elsewhere)) == 4
    assert len(comparisons(elsewhere[:2])) == 1


def test_how_the_network_was_trained_is_said_and_done_again(make_taught, trained) -> None:
    (found, _) = comparisons(trained)
    assert ("Begun from", "a network trained on the first task by hps: 7 epochs, batch 10, tf1-rmsprop, rate 0.1, "
            "hyperbolic") in provenance.settings(found)  # fmt: skip
    (command,) = provenance.commands(found)
    assert "--first epochs=7" in command
    assert "--first rate=0.1" in command
    (found,) = comparisons([taught_one(make_taught, 0, start="weights:5f3a")])
    assert ("Begun from", "a trained network that was given") in provenance.settings(found)
    assert provenance.commands(found)[0].endswith("--start FILE")


def test_runs_of_a_stream_s_first_tasks_stand_apart(make_taught) -> None:
    values = {"places2": [0.44, 0.43], "voc": [None, 0.72]}
    run = make_taught("lwf", 0, values, given=0)
    first = dataclasses.replace(
        run, run=run.run.model_copy(update={"id": "first", "config": run.run.config.model_copy(update={"tasks": 1})})
    )
    assert [one.title for one in comparisons([run, first])] == [
        "places-voc (seed 0)",
        "places-voc (seed 0, first task only)",
    ]
