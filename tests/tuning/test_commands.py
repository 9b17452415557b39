"""`everlearn tune`, `track` and `run --track`: what they print, and what they answer to mistakes."""

import functools
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from everlearn.experiments import store
from everlearn.tuning import showing
from everlearn.tuning import tune as tuning
from tests.command_line import CommandLine

QUICK = ["--epochs", "1", "--stream-option", "train=10", "--workers", "0"]


@pytest.fixture
def everlearn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "work", monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tune"], ["name the stream"]),
        (["tune", "digits"], ["name the methods"]),
        (["tune", "digit", "--methods", "tf"], ["no stream named 'digit'"]),
        (["tune", "nostream", "--methods", "hps"], ["no stream named 'nostream'"]),
        (["tune", "digits", "--methods", "tf", "--runs", "s3://x/y"], ["a search needs a folder", "s3://x/y"]),
        (["tune", "digits", "--methods", "tff"], ["no method named 'tff'", "did you mean tf"]),
        (["tune", "digits", "--methods", "stl"], ["no grid of 'stl'", "--search"]),
        (["tune", "digits", "--methods", "tf,stl"], ["no grid of 'stl'"]),
        (["tune", "digits", "--methods", "tf", "--search", "rate"], ["NAME=SPACE", "rate"]),
        (["tune", "digits", "--methods", "tf", "--search", "rate="], ["NAME=SPACE"]),
        (["tune", "digits", "--methods", "tf", "--search", "rate=1", "--search", "rate=2"], ["rate twice"]),
        (["tune", "digits", "--methods", "tf", "--search", "rat=1,2"], ["'rat'", "did you mean rate"]),
        (["tune", "digits", "--methods", "tf", "--search", "rate=1..2:lin"], ["LOW..HIGH"]),
        (["tune", "digits", "--methods", "tf", "--storage", "study.db"], ["--storage needs a URL", "study.db"]),
        (["tune", "digits", "--methods", "tf", "--storage", "sqlite:////none/a.db"], ["cannot be opened"]),
        (["tune", "digits", "--methods", "tf", "--device", "gpu"], ["gpu"]),
        (["tune", "digits", "--methods", "tf", "--workers", "-1"], ["workers"]),
        (["tune", "digits", "--methods", "tf", "--checkpoint-seconds", "nan"], ["checkpoint_seconds needs", "nan"]),
        (["tune", "digits", "--methods", "tf", "--search", "batch=1..1000000000"], ["1,000,000,000 sets", "--budget"]),
        (["tune", "digits", "--methods", "tf", "--set", "rat=1"], ["no training setting named 'rat'"]),
        (["tune", "digits", "--methods", "tf", "--option", "k=1"], ["no option of these methods named 'k'"]),
        (["track"], ["say where the records go"]),
        (["track", "none", "--to", "tensorboard:logs"], ["there is no folder none"]),
        (["track", ".", "--to", "tensorboard:logs"], ["at least one finished run"]),
        (["track", "nothing://there", "--to", "tensorboard:logs"], ["URL that fsspec knows", "nothing://there"]),
        (["track", ".", "--to", "tensorboard:s3://bucket/logs"], ["a folder of this machine"]),
        (["track", ".", "--to", "mlflow:nonsense://x"], ["http://localhost:5000 or sqlite:///", "'nonsense://x'"]),
        (["run", "digits", "--track", "mlflow:localhost:5000"], ["http://localhost:5000", "came as 'localhost:5000'"]),
        (["track", ".", "--to", "tensorbord:logs"], ["did you mean tensorboard"]),
        (["run", "digits", "--track", "tensorbord:logs"], ["did you mean tensorboard"]),
    ],
)
def test_mistakes_are_answered_in_one_sentence_and_leave_nothing(
    everlearn: CommandLine, words: list[str], parts: Sequence[str]
) -> None:
    said = everlearn.refuses(*words)
    for part in parts:
        assert part in said
    assert list(everlearn.folder.iterdir()) == []


def test_a_search_ends_in_a_table_and_a_command_that_finds_its_runs_done(everlearn: CommandLine) -> None:
    words = [
        "tune",
        "digits",
        "--methods",
        "l2+anchor=first",
        "--runs",
        "my runs",
        "--seed",
        "3",
        "--trials",
        "2",
        *QUICK,
    ]
    out, err = everlearn(*words, "--set", "evaluate_every=1", "--option", "warm_up=0.5")
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "l2+anchor=first, set 1 of 2", "l2+anchor=first, set 2 of 2",
    ]  # fmt: skip
    assert "2 sets finished, 0 given up early." in out
    assert "best sets, validation accuracy after the last task" in " ".join(out.split())
    assert "Li and Hoiem 2016" in out
    (command,) = [line.strip() for line in out.splitlines() if line.strip().startswith("everlearn run")]
    before = sorted(everlearn.folder.rglob(store.RESULT))
    assert len(before) == 4
    everlearn(*shlex.split(command)[1:], "--workers", "0")
    assert sorted(everlearn.folder.rglob(store.RESULT)) == before, "no other run was needed"
    out, _ = everlearn(*words, "--set", "evaluate_every=1", "--option", "warm_up=0.5", "--json")
    (found,) = json.loads(out)
    assert found["command"] == command
    assert found["best"] == found["sets"][0]
    assert sorted(one["values"]["lambda_c"] for one in found["sets"]) == ["0.05", "0.5"]


def test_ctrl_c_is_one_line_and_status_130(everlearn: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "tune", interrupted)
    _, err = everlearn("tune", "digits", "--methods", "tf", status=130)
    assert err == "everlearn: stopped; the same command goes on from here.\n"


def test_numbers_are_short_in_the_table_alone() -> None:
    assert showing._short("0.0033765246851063") == "0.003377"
    assert showing._short("0.001") == "0.001"
    assert showing._short("tf1-rmsprop") == "tf1-rmsprop"


def test_runs_are_tracked_at_their_end_and_later(everlearn: CommandLine) -> None:
    run = ["run", "digits", "--methods", "stl", "--trials", "1", *QUICK]
    out, _ = everlearn(*run, "--track", "tensorboard:logs")
    assert "tensorboard:logs: 1 runs written, 0 there already" in out
    assert len(list((everlearn.folder / "logs").rglob("events*"))) == 1
    out, _ = everlearn("track", "runs", "--to", "tensorboard:logs", "--to", "tensorboard:more")
    assert "tensorboard:logs: 0 runs written, 1 there already" in out
    assert "tensorboard:more: 1 runs written, 0 there already" in out
    (everlearn.folder / "a.toml").write_text('track = "tensorboard:third"\n')
    out, _ = everlearn(*run, "--config", "a.toml")
    assert "tensorboard:third: 1 runs written" in out


@pytest.mark.slow
def test_several_sets_at_a_time_stop_at_ctrl_c_and_go_on(tmp_path: Path) -> None:
    words = ["tune", "digits", "--methods", "hps", "--search", "rate=0.0001,0.001,0.01", "--epochs", "20"]
    command = [sys.executable, "-m", "everlearn.cli", *words, "--workers", "2", "--runs", str(tmp_path), "--json"]
    # A shell that puts the tests in the background has them ignore Ctrl-C, and what they start as well.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=listen)
    while process.poll() is None and len([p for p in tmp_path.rglob(store.ACCURACY) if p.stat().st_size > 999]) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "everlearn: stopped; the same command goes on from here."
    assert list(tmp_path.rglob(store.CHECKPOINT)), "the workers saved before they stopped"
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)
    assert sorted(one["values"]["rate"] for one in found["sets"]) == ["0.0001", "0.001", "0.01"]
    assert len(list(tmp_path.rglob(store.RESULT))) == 3
