"""`everlearn.run` from Python."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import everlearn
from everlearn.errors import ConfigurationError, EverlearnError, EverlearnWarning, MissingDataError, UnknownNameError
from everlearn.experiments import store
from everlearn.experiments.asking import check, warn_of_settings, warn_of_turns
from everlearn.experiments.execute import diverged
from everlearn.experiments.plan import Request, plan_runs
from everlearn.experiments.presets import preset_of
from everlearn.experiments.progress import _label
from everlearn.experiments.run import _watch
from everlearn.experiments.worker import Report
from everlearn.methods.catalogue import said_options
from everlearn.tasks.task import TaskStream
from everlearn.testing.methods import made_stream

QUICK = {"epochs": 1, "evaluate_every": 1}


def test_every_trial_has_its_stream_unless_one_is_asked_for() -> None:
    runs = plan_runs(Request("digits", ("stl", "hps"), trials=3, seed=10))
    assert [(c.trial, c.method, c.stream.seed) for c in runs] == [
        (0, "stl", 10), (0, "hps", 10), (1, "stl", 11), (1, "hps", 11), (2, "stl", 12), (2, "hps", 12),
    ]  # fmt: skip
    assert {c.stream.seed for c in plan_runs(Request("digits", trials=3, seed=10, same_stream=True))} == {10}


def test_settings_that_change_nothing_are_told_and_taken() -> None:
    said: dict[str, Any] = {"optimiser": "adam", "momentum": 0.9, "beta1": 0.5, "patience": 3, "weight_decay": 0.1}
    request = Request("digits", ("stl",), trials=1, training=said)
    with pytest.warns(EverlearnWarning) as told:
        warn_of_settings(request, plan_runs(request))
    assert [str(one.message) for one in told] == [
        "momentum changes nothing: it is of the optimiser sgd or rmsprop, and the optimiser here is adam; give --set "
        "optimiser=sgd as well, or leave momentum out.",
        "patience changes nothing: it is of the schedule plateau, and the schedule here is hyperbolic; give --set "
        "schedule=plateau as well, or leave patience out.",
    ]
    first = Request("cifar100-to-cifar10", ("lwf",), trials=1, first={"beta2": 0.5})
    with pytest.warns(EverlearnWarning, match="beta2 changes nothing: .* the optimiser here is sgd"):
        warn_of_settings(first, plan_runs(first))


@pytest.mark.parametrize("stream", ["digits", "planted", "cifar100-to-cifar10"])
def test_a_command_that_names_every_setting_is_told_nothing(stream: str) -> None:
    """As those of a report's page do."""
    preset = preset_of(stream)
    first = {} if preset.first is None else asdict(preset.first)
    request = Request(stream, ("stl",), trials=1, training=asdict(preset.training), first=first)
    warn_of_settings(request, plan_runs(request))


def test_what_brute_force_tried_and_left_is_no_divergence() -> None:
    file = Path(__file__).parents[2] / "results" / "cifar100-50-epochs"
    (folder,) = file.glob("brute-force-tf.trial-0.*")
    sound = store.read_run(folder)
    tried = next(place for place, one in enumerate(sound.evaluations) if one.attempt is not None)
    kept = next(place for place, one in enumerate(sound.evaluations) if one.attempt is None)

    def without(place: int) -> store.StoredRun:
        lines = list(sound.evaluations)
        lines[place] = lines[place].model_copy(update={"loss": None})
        return replace(sound, evaluations=tuple(lines))

    assert diverged(sound) == diverged(without(tried)) == ""
    assert "1 of 90 evaluations" in diverged(without(kept))


def test_a_run_that_diverged_says_so(tmp_path: Path, tiny_stream: Callable[..., TaskStream]) -> None:
    how: dict[str, Any] = {"trials": 1, "backbone": "digits", "quiet": True}
    with pytest.warns(EverlearnWarning, match=r"hps, trial 0: the training diverged: .* give a lower rate \(--rate\)"):
        (run,) = everlearn.run(tiny_stream(), ["hps"], training={**QUICK, "rate": 1e30}, runs=tmp_path / "a", **how)
    assert run.result
    (said,) = run.result.warnings
    lost = [one for one in run.evaluations if one.loss is None]
    assert f"{len(lost)} of {len(run.evaluations)} evaluations" in said
    assert f"the first of {lost[0].task!r} at epoch {lost[0].epoch};" in said
    everlearn.write_report(tmp_path / "a", tmp_path / "page.html")
    assert "the training diverged" in (tmp_path / "page.html").read_text()
    (sound,) = everlearn.run(tiny_stream(), ["hps"], training=QUICK, runs=tmp_path / "b", **how)
    assert sound.result
    assert not sound.result.warnings


def test_a_run_is_named_with_its_options() -> None:
    configs = plan_runs(Request("cifar100-to-cifar10", ("lwf+response=l1", "lwf+response=l2"), trials=1))
    assert [_label(config) for config in configs] == ["lwf+response=l1, trial 0", "lwf+response=l2, trial 0"]
    failed = (Report(run=n, epochs=0, total=1, error="no room.") for n in range(2))
    with pytest.raises(
        EverlearnError, match=r"^lwf\+response=l1 \(trial 0\), lwf\+response=l2 \(trial 0\): no room\.$"
    ):
        _watch(configs, failed, quiet=True)


def test_options_reach_the_methods_that_have_them(tmp_path: Path) -> None:
    runs = everlearn.run(
        "digits", ["stl", "tf"], trials=1, options={"orthogonality": "0.5"}, training=QUICK, runs=tmp_path, workers=0
    )
    assert [run.run.config.options for run in runs] == [{}, {"orthogonality": "0.5"}]
    with pytest.raises(UnknownNameError, match="option of these methods"):
        everlearn.run("digits", ["stl"], trials=1, options={"orthogonality": 1}, runs=tmp_path)


def test_an_option_is_spelt_alike_and_one_that_has_its_default_is_none(tmp_path: Path) -> None:
    def runs(**options: str | float | bool) -> list[tuple[str, dict[str, Any]]]:
        found = everlearn.run("digits", ["lwf"], trials=1, options=options, training=QUICK, runs=tmp_path, workers=0)
        return [(run.run.id, dict(run.run.config.options)) for run in found]

    [(plain, nothing)] = runs()
    assert nothing == {}
    assert [runs(lambda_old=value)[0][0] for value in (1, 1.0, "1")] == [plain] * 3
    [(other, said)] = runs(lambda_old=2)
    assert said == {"lambda_old": "2"}
    assert other != plain
    assert [runs(lambda_old=value)[0][0] for value in ("2", "2.0", 2.0)] == [other] * 3
    assert said_options("den", "digits", 2, {"stamped": "False", "k": 10, "mu": "1e-3"}) == {
        "stamped": "false", "mu": "0.001",
    }  # fmt: skip
    assert said_options("df-cnn", "digits", 2, {"kb_channels": "8, 16,16"}) == {"kb_channels": "8,16,16"}
    for value in (True, "inf"):
        with pytest.raises(ConfigurationError, match="the option k needs a whole number, but came as"):
            said_options("den", "digits", 2, {"k": float(value) if value == "inf" else value})


def test_what_a_method_prints_is_no_report(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import os, sys\nfrom everlearn.methods.lwf import Lwf\n\nclass Mine(Lwf):\n"
        "    def begin(self, *words):\n        print('a word')\n        os.write(1, b'another')\n"
        "        return super().begin(*words)\n"
    )
    (run,) = everlearn.run(
        "digits", [f"{mine}:Mine"], trials=1, training=QUICK, runs=tmp_path / "runs", workers=1, quiet=True
    )
    assert run.result is not None


def test_workers_and_this_process_give_the_same(tmp_path: Path) -> None:
    arguments = {"trials": 1, "training": QUICK, "keep_weights": True}
    here = everlearn.run("digits", ["df-cnn", "hps"], runs=tmp_path / "here", workers=0, **arguments)
    there = everlearn.run("digits", ["df-cnn", "hps"], runs=tmp_path / "there", workers=2, quiet=True, **arguments)
    for first, second in zip(here, there, strict=True):
        for name in (store.ACCURACY, store.WEIGHTS):
            assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_tasks_of_ones_own(tmp_path: Path) -> None:
    stream = made_stream()
    runs = everlearn.run(stream, ["hps"], trials=2, backbone="digits", training=QUICK, runs=tmp_path)
    assert [run.run.tasks for run in runs] == [["task 1", "task 2", "task 3"]] * 2
    other = everlearn.run(made_stream(tasks=2), ["hps"], trials=1, backbone="digits", training=QUICK, runs=tmp_path)
    assert other[0].run.id != runs[0].run.id, "other images are another run"
    page = everlearn.write_report(str(tmp_path), str(tmp_path / "page.html"))
    assert "everlearn run" not in page.read_text().split("How every number was obtained")[1]


def test_weights_that_a_finished_run_did_not_leave_are_said_to_be_missing(tmp_path: Path) -> None:
    def run(methods: list[str], runs: Path = tmp_path, **how: bool) -> list[str]:
        done = everlearn.run("digits", methods, trials=1, training=QUICK, runs=runs, workers=0, **how)
        return [one.folder.name for one in done]

    name = run(["stl"])[0]
    with pytest.warns(EverlearnWarning, match=f"^{name}: finished before .*another folder of runs.* {tmp_path}.$"):
        other = run(["stl", "hps"], keep_weights=True)[1]
    assert [path.parent.name for path in tmp_path.rglob(store.WEIGHTS)] == [other]
    run(["hps"], keep_weights=True)
    run(["stl"])


def test_a_method_that_cannot_learn_under_a_protocol_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give --protocol multi-task"):
        everlearn.run("digits", ["dmtrl-from-stl"], trials=1, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_number_of_threads_is_given_back(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        everlearn.run("digits", ["stl"], trials=1, training=QUICK, runs=tmp_path, workers=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = ["run", "digits", "--methods", "stl,hps", "--trials", "1", "--epochs", "20", "--runs", str(tmp_path)]
    command = [sys.executable, "-m", "everlearn.cli", *words]
    # A shell that puts the tests in the background has them ignore Ctrl-C, and what they start as well.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    while process.poll() is None and not any(path.stat().st_size > 2000 for path in tmp_path.rglob(store.ACCURACY)):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said == "everlearn: stopped; the same command goes on from here.\n"
    assert list(tmp_path.rglob(store.CHECKPOINT)), "the workers saved before they stopped"
    assert not _workers()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    whole = everlearn.run("digits", ["stl", "hps"], trials=1, training={"epochs": 20}, runs=tmp_path / "w", workers=0)
    for run in whole:
        stopped = store.run_folder(tmp_path, run.run.config)
        assert (stopped / store.ACCURACY).read_bytes() == (run.folder / store.ACCURACY).read_bytes()


@pytest.mark.slow
def test_workers_stop_when_their_parent_is_killed(tmp_path: Path) -> None:
    words = ["run", "digits", "--methods", "stl", "--trials", "1", "--epochs", "5000", "--runs", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "everlearn.cli", *words])
    while process.poll() is None and not list(tmp_path.rglob(store.ACCURACY)):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob(store.CHECKPOINT)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.rglob(store.CHECKPOINT)), "the orphan saved a checkpoint and ended"


def _workers() -> list[str]:
    """Worker processes whose parent is gone."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes().split(b"\0")
            parent = (status.parent / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"everlearn.experiments.worker" in words and parent == "1":
            found.append(status.parent.name)
    return found


def test_a_run_that_diverges_is_recorded_and_read(tmp_path: Path) -> None:
    with pytest.warns(EverlearnWarning, match="the training diverged"):
        runs = everlearn.run("digits", ["stl"], trials=1, training={**QUICK, "rate": 1e30}, runs=tmp_path, workers=0)
    assert runs[0].evaluations[-1].loss is None
    assert everlearn.write_report(tmp_path, tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["lwf", "lwf+temperature=0"], "temperature one above 0"),
        (["expansion", "expansion+layers=9"], "layers needs a whole number from 1 to 3"),
        (["hps", "lwf", "hps+response=l1"], "no option of these methods named 'response'"),
    ],
)
def test_every_spelling_of_a_method_is_checked(tmp_path: Path, methods: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        everlearn.run("digits", methods, trials=1, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_one_run_under_two_spellings_is_one() -> None:
    request = Request("digits", ("lwf", "lwf+temperature=3", "lwf+temperature=3.0", "hps"), trials=1)
    checked = check(request, plan_runs(request))
    assert [(c.method, c.options) for c in checked] == [("lwf", {}), ("lwf", {"temperature": "3"}), ("hps", {})]
    again = Request("digits", ("lwf+temperature=3", "lwf"), trials=1, options={"temperature": "3"})
    assert len(check(again, plan_runs(again))) == 1


def test_one_head_for_unequal_tasks_is_told_before_anything_is_written(tmp_path: Path) -> None:
    two, three = made_stream(tasks=1), made_stream(tasks=1, classes=3)
    unequal = replace(two, tasks=(*two.tasks, replace(three.tasks[0], name="task 2")))
    with pytest.raises(ConfigurationError, match=r"one head for all tasks .* but task 2 has 3 and the first 2"):
        everlearn.run(unequal, ["snn"], training=QUICK, backbone="digits", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    everlearn.run(made_stream(tasks=2), ["snn"], training=QUICK, backbone="digits", trials=1, runs=tmp_path / "runs")


def test_an_unknown_augmentation_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no augmentation named 'zoom'"):
        everlearn.run("digits", ["hps"], trials=1, training={"augment": "zoom"}, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_sweep_runs_every_value_of_an_option(tmp_path: Path) -> None:
    request = Request("digits", ("stl", "hps"), trials=2, sweep={"train": ["20", 40], "tasks": ["pairs"]})
    configs = plan_runs(request)
    seen = [(c.trial, c.stream.options["train"], c.method) for c in configs]
    assert seen == [(trial, train, method) for trial in (0, 1) for train in (20, 40) for method in ("stl", "hps")]
    runs = everlearn.run(
        "digits", ["stl"], trials=1, training=QUICK, sweep={"train": [20, 40]}, runs=tmp_path, workers=0, quiet=True
    )
    assert [one.run.config.stream.options["train"] for one in runs] == [20, 40]
    assert len(list(tmp_path.glob("*/result.json"))) == 2


@pytest.mark.parametrize(
    ("sweep", "message"),
    [({"train": []}, "at least one value of each option"), ({"trian": [20]}, "named 'trian'"),
     ({"train": ["many"]}, "train of stream 'digits' is wanted as a whole number")],
)  # fmt: skip
def test_a_sweep_that_cannot_be_is_refused(sweep: dict[str, list[Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(EverlearnError, match=message):
        everlearn.run("digits", ["stl"], sweep=sweep, runs=tmp_path / "runs", workers=0)
    assert not (tmp_path / "runs").exists()


def test_a_yaml_file_and_a_folder_are_streams_for_python_too(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no-such"):
        everlearn.run(str(tmp_path / "no-such"), ["stl"], runs=tmp_path / "runs", workers=0)
    with pytest.raises(EverlearnError, match=r"stream\.yaml"):
        everlearn.run(str(tmp_path / "stream.yaml"), ["stl"], runs=tmp_path / "runs", workers=0)


def test_processes_that_would_share_a_gpu_by_turns_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with pytest.warns(EverlearnWarning, match="4 processes share the GPU by turns"):
        warn_of_turns(4, "cuda:0")
    warn_of_turns(1, "cuda")
    warn_of_turns(4, "cpu")
    (tmp_path / "control").touch()
    warn_of_turns(4, "cuda")
