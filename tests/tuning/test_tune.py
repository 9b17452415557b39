"""`everlearn.tune` from Python: what a set is worth, what is done again, what is given up."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest

import everlearn
from everlearn.errors import ConfigurationError, StoreError, UnknownNameError
from everlearn.experiments import asking, store
from everlearn.tasks.task import TaskStream
from everlearn.tuning import objective, study
from everlearn.tuning import tune as tuning
from everlearn.tuning.results import Tuned
from tests.report.conftest import make_run

QUICK: dict[str, Any] = {"epochs": 2, "evaluate_every": 1, "optimiser": "adam", "schedule": "constant"}
Stream = Callable[..., TaskStream]


def tuned(stream: TaskStream, runs: Path, **how: Any) -> Tuned:
    asked = {"backbone": "digits", "training": QUICK, "workers": 0, "runs": runs, **how}
    return everlearn.tune(stream, asked.pop("methods", ["hps"]), **asked)[0]


def validation(folder: Path) -> float:
    """The mean over tasks of the best validation accuracy, from the lines that the run wrote."""
    best: dict[str, float] = {}
    for line in map(json.loads, (folder / store.ACCURACY).read_text().splitlines()):
        if line["split"] == "validation" and line["training"] == line["task"]:
            best[line["task"]] = max(best.get(line["task"], 0.0), line["accuracy"])
    return fmean(best.values())


def results(runs: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in runs.rglob(store.RESULT)}


def test_a_set_is_worth_its_runs_on_validation_images(tiny_stream: Stream, tmp_path: Path) -> None:
    found = tuned(tiny_stream(), tmp_path, search={"rate": [1e-3, 1e-2]}, trials=2)
    assert [set(one.values) for one in found.sets] == [{"rate"}] * 2
    for one in found.sets:
        assert (one.state, one.tasks, len(one.runs)) == ("finished", 6, 2)
        assert one.validation == pytest.approx(fmean(validation(tmp_path / name) for name in one.runs))
    assert found.best is found.sets[0]
    assert found.sets[0].validation > found.sets[1].validation


def test_no_number_of_a_test_split_is_read() -> None:
    run = make_run("hps")
    wrong = tuple(
        line.model_copy(update={"accuracy": 1 - line.accuracy, "auroc": 1.0}) if line.split == "test" else line
        for line in run.evaluations
    )
    blind = tuple(line for line in run.evaluations if line.split == "validation")
    values = objective.best_validation(run)
    assert len(values) == 5
    assert objective.best_validation(replace(run, evaluations=wrong)) == values
    assert objective.best_validation(replace(run, evaluations=blind)) == values
    assert objective.best_validation(replace(run, evaluations=wrong[:0])) == []
    last = max(run.evaluations, key=lambda line: line.epoch)
    late = last.model_copy(update={"task": run.run.tasks[0], "split": "validation", "accuracy": 1.0})
    assert objective.best_validation(replace(run, evaluations=(*run.evaluations, late))) == values, "its own phase only"
    seeing = tuple(line for line in run.evaluations if line.split != "validation")
    assert objective.best_validation(replace(run, evaluations=seeing)) == []


def test_a_finished_search_does_nothing_again_and_run_finds_its_runs(tiny_stream: Stream, tmp_path: Path) -> None:
    stream = tiny_stream(tasks=2)
    first = tuned(stream, tmp_path, search={"rate": "0.001,0.01"})
    before = results(tmp_path)
    assert len(before) == 2
    assert tuned(stream, tmp_path, search={"rate": "0.001,0.01"}) == first
    assert first.best is not None
    again = everlearn.run(
        stream, ["hps"], trials=1, backbone="digits", training={**QUICK, **first.best.values}, runs=tmp_path
    )
    assert [run.folder.name for run in again] == list(first.best.runs)
    assert results(tmp_path) == before
    # Another study over the same values finds the runs too.
    other = tuned(stream, tmp_path, search={"rate": "0.001,0.01"}, storage=f"sqlite:///{tmp_path}/other.db")
    assert other == first
    assert results(tmp_path) == before


def test_a_larger_budget_goes_on_as_if_it_had_been_asked_for_at_once(tiny_stream: Stream, tmp_path: Path) -> None:
    stream, space = tiny_stream(tasks=1), {"rate": "1e-4..1e-2:log", "batch": "4..8"}
    tuned(stream, tmp_path / "a", search=space, budget=2)
    grown = tuned(stream, tmp_path / "a", search=space, budget=4)
    whole = tuned(stream, tmp_path / "b", search=space, budget=4)
    assert grown == whole
    assert len({one.values["rate"] for one in whole.sets}) == 4, "no draw comes twice"
    assert all(1e-4 <= float(one.values["rate"]) <= 1e-2 for one in whole.sets)
    assert {one.values["batch"] for one in whole.sets} <= {"4", "5", "6", "7", "8"}
    other = tuned(stream, tmp_path / "b", search=space, budget=2, seed=1)
    assert other.study != whole.study
    assert not {one.values["rate"] for one in other.sets} & {one.values["rate"] for one in whole.sets}


def test_each_set_has_draws_of_its_own() -> None:
    """After the first ten sets, which TPE draws at random."""
    known = optuna.create_study(sampler=study.SeededTPE(0))
    known.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=12)
    space: dict[str, optuna.distributions.BaseDistribution] = {"x": optuna.distributions.FloatDistribution(0, 1)}
    asked = [known.ask().number for _ in range(2)]
    first, second = (known.trials[number] for number in asked)
    drawn = [
        study.SeededTPE(seed).sample_relative(known, trial, space)["x"]
        for seed, trial in ((0, first), (0, first), (0, second), (1, first))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_a_budget_below_the_grid_samples_it(tiny_stream: Stream, tmp_path: Path) -> None:
    found = tuned(tiny_stream(tasks=1), tmp_path, search={"rate": "1,2,3,4,5,6"}, budget=2)
    assert len(found.sets) == 2
    whole = tuned(tiny_stream(tasks=1), tmp_path, search={"rate": "1,2,3,4,5,6"})
    assert {one.values["rate"] for one in whole.sets} == set("123456")


def test_an_interrupted_set_is_taken_up_where_it_stood(
    tiny_stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, space = tiny_stream(), {"rate": "1e-4..1e-2:log"}
    asked = objective.best_validation

    def interrupted(stored: everlearn.StoredRun) -> list[float]:
        monkeypatch.setattr(objective, "best_validation", asked)
        raise KeyboardInterrupt

    monkeypatch.setattr(objective, "best_validation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(stream, tmp_path / "a", search=space, budget=2)
    (checkpoint,) = (tmp_path / "a").rglob(store.CHECKPOINT)
    assert not results(tmp_path / "a"), "nothing looks finished"
    found = tuned(stream, tmp_path / "a", search=space, budget=2)
    assert checkpoint.parent.name in {name for one in found.sets for name in one.runs}
    assert not checkpoint.exists()
    whole = tuned(stream, tmp_path / "b", search=space, budget=1)
    assert whole.sets[0] in found.sets


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_set_whose_machine_was_lost_is_done_by_another(
    tiny_stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(study, "GRACE_SECONDS", 1)
    stream, url = tiny_stream(tasks=1), f"sqlite:///{tmp_path}/study.db"
    how: dict[str, Any] = {"search": {"rate": "1e-4..1e-2:log"}, "storage": url}
    first = tuned(stream, tmp_path / "a", budget=1, **how)
    lost = study.open_study(first.study, url, 0, True)
    trial = lost.ask()
    trial.suggest_float("rate", 1e-4, 1e-2, log=True)
    lost._storage.record_heartbeat(trial._trial_id)
    time.sleep(2.5)
    found = tuned(stream, tmp_path / "a", budget=2, **how)
    assert [trial.params["rate"]] == [float(s.values["rate"]) for s in found.sets if s not in first.sets]


def test_what_falls_behind_is_given_up_and_never_looks_finished(
    tiny_stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "_STARTUP", 1)
    stream, how = tiny_stream(), {"search": {"rate": ["0.01", "1e-12"]}, "training": {**QUICK, "epochs": 6}}
    found = tuned(stream, tmp_path, **how)
    good, bad = found.sets
    assert (good.state, good.values["rate"], good.tasks) == ("finished", "0.01", 3)
    assert (bad.state, bad.values["rate"], bad.tasks) == ("given up", "1e-12", 2)
    assert not (tmp_path / bad.runs[0] / store.RESULT).exists()
    assert (tmp_path / bad.runs[0] / store.CHECKPOINT).exists()
    assert list(everlearn.table_frame(everlearn.find_runs(tmp_path))["trials"]) == [1]
    assert tuned(stream, tmp_path, **how) == found, "what was given up stays so"
    patient = tuned(stream, tmp_path / "all", prune=False, **how)
    assert [one.state for one in patient.sets] == ["finished"] * 2


def test_what_is_known_of_a_set_is_told(tiny_stream: Stream, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int, str]] = []
    search = {"orthogonality": "0.1,1"}
    asked = {"methods": ["tf@top-2"], "search": search}
    tuned(tiny_stream(tasks=2), tmp_path, told=lambda m, n, of, s: heard.append((m, n, of, s.state)), **asked)
    assert heard == [("tf@top-2", 1, 2, "finished"), ("tf@top-2", 2, 2, "finished")]
    configs = [run.run.config for run in everlearn.find_runs(tmp_path)]
    assert sorted(str(config.options["orthogonality"]) for config in configs) == ["0.1", "1"]
    assert {config.method for config in configs} == {"tf@top-2"}


def test_without_a_search_it_is_the_papers_grid(tiny_stream: Stream, tmp_path: Path) -> None:
    found = tuned(tiny_stream(tasks=2), tmp_path, methods=["l2"])
    assert {one.values["lambda_c"] for one in found.sets} == {"0.05", "0.5"}
    assert "Li and Hoiem 2016" in found.source
    assert found.space == {"lambda_c": "0.05, 0.5"}
    assert found.command == "", "tasks of one's own have no name"


def test_the_logging_of_optuna_is_given_back(tiny_stream: Stream, tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tuned(tiny_stream(tasks=1), tmp_path, search={"rate": "0.01"})
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"methods": []}, "name the methods"),
        ({"methods": ["stl"]}, "no grid of 'stl' is known"),
        ({"search": {"rate": "0.1,-1"}}, "rate needs a number above 0"),
        ({"search": {"augment": "flip,flop"}}, "flop"),
        ({"search": {"rate": "1,2"}, "training": {"rate": 1}}, "has a value as well"),
        ({"search": {"temperature": "1,2"}, "methods": ["lwf+temperature=1"]}, "has a value as well"),
        ({"search": {"temperature": "1,x"}, "methods": ["lwf"]}, "needs a number"),
        ({"search": {"rate": "1"}, "budget": 0}, "at least 1"),
        ({"search": {"rate": "1"}, "trials": 0}, "at least one trial"),
        ({"search": {"rate": "1"}, "storage": "here"}, "needs a URL"),
        ({"search": {"rate": "1"}, "storage": "foo://x"}, "foo"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_written(
    asked: dict[str, Any], part: str, tiny_stream: Stream, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, StoreError), match=part):
        tuned(tiny_stream(), tmp_path / "runs", **asked)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["protocol", "evaluate_every", "orthogonality", "configuration"])
def test_what_is_no_hyper_parameter_of_the_method(name: str, tiny_stream: Stream, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="setting or option of 'hps'"):
        tuned(tiny_stream(), tmp_path, search={name: "1,2"})


def test_a_password_is_not_told(tiny_stream: Stream, tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, StoreError)) as raised:
        tuned(tiny_stream(), tmp_path, search={"rate": "1"}, storage="foo://me:secret@host/x")
    assert "secret" not in str(raised.value)


def test_without_optuna_it_says_which_extra(
    tiny_stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tuning, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"pip install everlearn\[tune\]"):
        tuned(tiny_stream(), tmp_path)


def test_the_stream_is_not_made_again_for_each_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    make = asking.first_stream

    def counted(request: Any) -> Any:
        made.append(request)
        return make(request)

    monkeypatch.setattr(asking, "first_stream", counted)
    monkeypatch.setattr(objective, "first_stream", counted)
    quick = {"epochs": 1, "evaluate_every": 1}
    (found,) = everlearn.tune(
        "digits", ["hps"], search={"rate": "0.01,0.02,0.03"}, training=quick, runs=tmp_path, workers=0
    )
    assert len(found.sets) == 3
    assert len(made) == 2, "once before anything is written, once for all sets"
