"""`everlearn.tune` from Python: what a set is worth, what is done again, what is given up."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import optuna
import pytest
import torch

import everlearn
from everlearn.errors import ConfigurationError, EverlearnWarning, StoreError, UnknownNameError
from everlearn.experiments import asking, store
from everlearn.experiments.plan import Request
from everlearn.experiments.records import Evaluation
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.tuning import objective, study
from everlearn.tuning import tune as tuning
from everlearn.tuning.results import Measure, Tuned
from tests.report.conftest import make_run, make_taught

QUICK: dict[str, Any] = {"epochs": 2, "evaluate_every": 1, "optimiser": "adam", "schedule": "constant"}
Stream = Callable[..., TaskStream]


def tuned(stream: TaskStream, runs: Path, **how: Any) -> Tuned:
    asked = {"backbone": "digits", "training": QUICK, "workers": 0, "runs": runs, **how}
    return everlearn.tune(stream, asked.pop("methods", ["hps"]), **asked)[0]


def validation(folder: Path, measure: str) -> float:
    """The mean over tasks of the last or the best validation accuracy, from the lines that the run wrote."""
    found: dict[str, list[float]] = {}
    for line in map(json.loads, (folder / store.ACCURACY).read_text().splitlines()):
        if line["split"] == "validation" and (measure == "final" or line["training"] == line["task"]):
            found.setdefault(line["task"], []).append(line["accuracy"])
    return fmean(values[-1] if measure == "final" else max(values) for values in found.values())


def results(runs: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in runs.rglob(store.RESULT)}


@pytest.mark.parametrize("measure", ["final", "peak"])
def test_a_set_is_worth_its_runs_on_validation_images(measure: str, tiny_stream: Stream, tmp_path: Path) -> None:
    found = tuned(tiny_stream(), tmp_path, search={"rate": [1e-3, 1e-2]}, trials=2, measure=measure)
    assert found.measure == measure
    assert [set(one.values) for one in found.sets] == [{"rate"}] * 2
    for one in found.sets:
        assert (one.state, one.tasks, len(one.runs)) == ("finished", 6, 2)
        assert one.validation == pytest.approx(fmean(validation(tmp_path / name, measure) for name in one.runs))
        for name in one.runs:
            lines = [json.loads(line) for line in (tmp_path / name / store.ACCURACY).read_text().splitlines()]
            looked = {line["split"] for line in lines if line["task"] != line["training"]}
            assert looked == ({"test", "validation"} if measure == "final" else {"test"})
    assert found.best is found.sets[0]
    assert found.sets[0].validation > found.sets[1].validation


def test_forgetting_is_seen_in_the_end_and_not_in_the_peaks(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    tasks: list[Task] = []
    for name in (
        "one",
        "two",
        "three",
        "four",
        "five",
    ):  # noise to be known by heart, so that every change is forgetting
        split = Split(torch.randn(24, 1, 8, 8, generator=random), torch.arange(24) % 4)
        tasks.append(Task(name, tuple("abcd"), split, split, split))
    how: dict[str, Any] = {
        "methods": ["ewc"], "search": {"lambda_ewc": ["0", "3000"]},
        "training": {**QUICK, "epochs": 30, "evaluate_every": 5, "batch": 8, "rate": 0.01},
    }  # fmt: skip
    found = {
        measure: tuned(TaskStream("noise", 0, tuple(tasks)), tmp_path, measure=measure, **how)
        for measure in get_args(Measure)
    }
    worth = {m: {one.values["lambda_ewc"]: one.validation for one in tried.sets} for m, tried in found.items()}
    assert worth["final"]["3000"] - worth["final"]["0"] > 0.1
    assert abs(worth["peak"]["3000"] - worth["peak"]["0"]) < 0.05
    assert found["final"].study != found["peak"].study


def _line(epoch: int, training: str, task: str, accuracy: float) -> Evaluation:
    return Evaluation(epoch=epoch, training=training, task=task, split="validation", accuracy=accuracy, loss=0.0)


def test_what_a_run_is_worth_after_each_task_by_hand() -> None:
    run = make_run("hps")
    one, two, three = run.run.tasks[:3]
    e = run.run.config.training.epochs
    lines = (
        _line(1, one, one, 0.5), _line(e, one, one, 0.4),
        _line(e, two, two, 0.1), _line(e + 1, two, two, 0.9), _line(2 * e, two, two, 0.8), _line(2 * e, two, one, 0.2),
        _line(2 * e, three, three, 0.1), _line(2 * e + 1, three, three, 0.6), _line(2 * e + 1, three, two, 0.7),
    )  # fmt: skip
    begun = replace(run, evaluations=lines)
    # Of the third task, which is not over, what is known by then: the first as it was, the second as it is.
    final = {1: 0.4, 2: (0.8 + 0.2) / 2, 3: (0.6 + 0.7 + 0.2) / 3}
    peak = {1: 0.5, 2: (0.5 + 0.9) / 2, 3: (0.5 + 0.9 + 0.6) / 3}
    assert objective.worth(begun, "final") == pytest.approx(final)
    assert objective.worth(begun, "peak") == pytest.approx(peak)


def test_a_task_that_came_trained_counts_in_the_end_alone() -> None:
    run = make_taught("lwf", 0, {"old": [0.9, 0.5], "new": [None, 0.7]})
    old, new = run.run.tasks
    end = max(phase.last for phase in run.run.phases)
    first = min(phase.last for phase in run.run.phases)
    lines = (_line(first, old, old, 0.9), _line(end, new, new, 0.7), _line(end, new, old, 0.5))
    assert objective.worth(replace(run, evaluations=lines), "final") == {1: pytest.approx(0.6)}
    assert objective.worth(replace(run, evaluations=lines), "peak") == {1: pytest.approx(0.7)}


def test_all_tasks_together_are_worth_their_last_evaluation(tmp_path: Path, tiny_stream: Stream) -> None:
    quick = {**QUICK, "protocol": "multi-task", "epochs": 4}
    found = tuned(tiny_stream(), tmp_path, search={"rate": [1e-2]}, training=quick)
    (one,) = found.sets
    assert one.tasks == 3
    assert one.validation == pytest.approx(validation(tmp_path / one.runs[0], "final"))


def test_no_number_of_a_test_split_is_read() -> None:
    run = make_run("hps")
    wrong = tuple(
        line.model_copy(update={"accuracy": 1 - line.accuracy, "auroc": 1.0}) if line.split == "test" else line
        for line in run.evaluations
    )
    blind = tuple(line for line in run.evaluations if line.split == "validation")
    for measure in get_args(Measure):
        values = objective.worth(run, measure)
        assert list(values) == [1, 2, 3, 4, 5]
        assert objective.worth(replace(run, evaluations=wrong), measure) == values
        assert objective.worth(replace(run, evaluations=blind), measure) == values
        assert objective.worth(replace(run, evaluations=wrong[:0]), measure) == {}
    last = max(run.evaluations, key=lambda line: line.epoch)
    late = last.model_copy(update={"task": run.run.tasks[0], "split": "validation", "accuracy": 1.0})
    assert objective.worth(replace(run, evaluations=(*run.evaluations, late)), "peak") == values, "its own phase only"
    seeing = tuple(line for line in run.evaluations if line.split != "validation")
    assert objective.worth(replace(run, evaluations=seeing), "peak") == {}


def test_a_finished_search_does_nothing_again_and_run_finds_its_runs(tiny_stream: Stream, tmp_path: Path) -> None:
    stream = tiny_stream(tasks=2)
    first = tuned(stream, tmp_path, search={"rate": "0.001,0.01"})
    before = results(tmp_path)
    assert len(before) == 2
    assert tuned(stream, tmp_path, search={"rate": "0.001,0.01"}) == first
    assert first.best is not None
    again = everlearn.run(
        stream,
        ["hps"],
        trials=1,
        backbone="digits",
        runs=tmp_path,
        training={**QUICK, **first.best.values, "validate_others": True},
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
    asked = objective.worth

    def interrupted(stored: everlearn.StoredRun, measure: Measure) -> dict[int, float]:
        monkeypatch.setattr(objective, "worth", asked)
        raise KeyboardInterrupt

    monkeypatch.setattr(objective, "worth", interrupted)
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


def test_a_set_that_diverged_is_never_the_best(tiny_stream: Stream, tmp_path: Path) -> None:
    """Its accuracy may be any: such a network answers with the first class, whatever it sees."""
    how = {"search": {"rate": ["1e30", "1e-12"]}, "training": {**QUICK, "optimiser": "tf1-rmsprop"}, "prune": False}
    found = tuned(tiny_stream(), tmp_path, **how)
    assert [(one.values["rate"], one.state) for one in found.sets] == [("1e-12", "finished"), ("1e30", "given up")]
    assert found.sets[1].tasks == 1
    alone = tuned(tiny_stream(), tmp_path / "alone", **{**how, "search": {"rate": ["1e30"]}})
    assert alone.best is None


def test_a_set_that_began_well_and_forgot_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_STARTUP", 2)
    known = optuna.create_study(pruner=study.BehindMedian(), direction="maximize")
    for values in ([0.5, 0.5, 0.5], [0.6, 0.6, 0.6]):
        trial = known.ask()
        for step, value in enumerate(values, start=1):
            trial.report(value, step)
            assert not trial.should_prune(), "the first are always finished"
        known.tell(trial, values[-1])
    forgetting, steady = known.ask(), known.ask()
    forgetting.report(0.9, 1)
    assert not forgetting.should_prune(), "one task says too little"
    forgetting.report(0.54, 2)
    assert forgetting.should_prune(), "below 0.55, whatever it was before"
    steady.report(0.2, 1)
    steady.report(0.56, 2)
    assert not steady.should_prune()


@pytest.mark.parametrize("measure", ["final", "peak"])
def test_a_set_is_compared_by_tasks_that_are_over(measure: str, tiny_stream: Stream, tmp_path: Path) -> None:
    slow = {**QUICK, "epochs": 20}  # so that a task is known worse after its first epochs than at its end
    found = tuned(tiny_stream(), tmp_path, measure=measure, search={"rate": ["0.0005"]}, training=slow)
    (trial,) = study.open_study(found.study, f"sqlite:///{tmp_path}/{tuning.DATABASE}", 0, True).trials
    (one,) = found.sets
    known = objective.worth(store.read_run(tmp_path / one.runs[0]), measure)  # type: ignore[arg-type]
    assert trial.intermediate_values == pytest.approx(known)
    assert trial.value == known[3]


def test_what_is_known_of_a_set_is_told(tiny_stream: Stream, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int, str]] = []
    search = {"orthogonality": "0.1,1"}
    asked = {"methods": ["tf@top-2"], "search": search}
    tuned(tiny_stream(tasks=2), tmp_path, told=lambda m, n, of, s: heard.append((m, n, of, s.state)), **asked)
    assert heard == [("tf@top-2", 1, 2, "finished"), ("tf@top-2", 2, 2, "finished")]
    configs = [run.run.config for run in everlearn.find_runs(tmp_path)]
    assert [config.options for config in configs if config.options] == [{"orthogonality": "1"}], "0.1 is the default"
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
        (
            {"search": {"momentum": "0,0.9"}},
            "of the optimiser sgd or rmsprop, and the optimiser of 'hps' is adam; give",
        ),
        (
            {"search": {"decay": "0..1"}},
            "of the schedule hyperbolic or exponential, and the schedule of 'hps' is const",
        ),
        ({"search": {"rate": "1"}, "budget": 0}, "at least 1"),
        ({"search": {"rate": "1"}, "trials": 0}, "at least one trial"),
        ({"search": {"rate": "1"}, "measure": "best"}, "measure is final or peak"),
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


def test_what_only_one_of_the_optimisers_reads_is_searched_over_with_them() -> None:
    said = {"optimiser": ["adam", "sgd"], "momentum": [0, 0.9], "beta1": [0.5], "weight_decay": [0.1]}
    assert set(tuning._search(Request("digits"), "hps", said, "final").space) == set(said)


def test_a_setting_that_no_set_reads_is_told() -> None:
    base = Request("digits", training={"optimiser": "adam", "momentum": 0.5})
    with pytest.warns(EverlearnWarning, match="momentum changes nothing"):
        tuning._search(base, "hps", {"rate": [0.1]}, "final")
    tuning._search(replace(base, training={"momentum": 0.5}), "hps", {"optimiser": ["adam", "sgd"]}, "final")


@pytest.mark.parametrize("name", ["protocol", "evaluate_every", "validate_others", "orthogonality", "configuration"])
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


def test_a_task_with_several_attempts_is_over_when_the_last_of_them_is(tiny_stream: Stream, tmp_path: Path) -> None:
    """Brute force trains eight times at the second task: its epochs are no sign that tasks are over."""
    reported: list[tuple[int, float]] = []
    looked: list[dict[str, set[int | None]]] = []
    report = optuna.Trial.report

    def seen(self: optuna.Trial, value: float, step: int) -> None:
        lines = [json.loads(line) for path in tmp_path.rglob(store.ACCURACY) for line in path.read_text().splitlines()]
        begun: dict[str, set[int | None]] = {}
        for line in lines:
            begun.setdefault(line["training"], set()).add(line.get("attempt"))
        looked.append(begun)
        reported.append((step, value))
        report(self, value, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.Trial, "report", seen)
        found = tuned(tiny_stream(), tmp_path, methods=["brute-force-hps"], search={"rate": [1e-3]})
    assert [step for step, _ in reported] == [1, 2, 3]
    _, second, _ = tiny_stream().tasks
    assert second.name not in looked[0] or len(looked[0][second.name]) <= 1
    assert looked[1][second.name] == {*range(8), None}, "all configurations of three blocks, and what is settled"
    assert reported[-1][1] == found.sets[0].validation
    (name,) = found.sets[0].runs
    worths = objective.worth(store.read_run(tmp_path / name), "final")
    assert dict(reported) == pytest.approx(worths)
