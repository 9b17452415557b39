"""A run that was stopped, killed or abandoned ends with the records and weights of one that never was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from everlearn.experiments import store
from everlearn.experiments.execute import Place, execute
from everlearn.experiments.plan import Request, plan_runs
from everlearn.experiments.records import RunConfig
from everlearn.tasks import make_stream

QUICK = {"epochs": 6, "evaluate_every": 2, "evaluate_others_every": 3}


def config_of(method: str, **training: object) -> RunConfig:
    return plan_runs(Request("digits", (method,), trials=1, training={**QUICK, **training}))[0]  # type: ignore[dict-item]


def run_through(config: RunConfig, root: Path, stop_after: int | None = None, every: float = 1e9) -> Path:
    """Execute; with `stop_after`, abandon the run after that many ticks, as often as it takes."""
    stream = make_stream("digits", config.stream.seed, None, config.stream.options)
    place = Place(root, checkpoint_seconds=every, keep_weights=True)
    folder = store.run_folder(root, config)
    while not (folder / store.RESULT).exists():
        run = execute(config, stream, place)
        for ticks, _ in enumerate(run, start=1):
            if stop_after is not None and ticks == stop_after:
                break
        run.close()
    return folder


def same(first: Path, second: Path) -> bool:
    names = (store.ACCURACY, store.WEIGHTS)
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ("df-cnn", {}),
        ("hps@top-2", {"optimiser": "adam"}),
        ("stl", {"optimiser": "sgd", "momentum": 0.9, "schedule": "cosine"}),
        ("hps", {"protocol": "multi-task", "epochs": 12}),
        ("dmtrl-from-stl", {"protocol": "multi-task", "epochs": 6}),
    ],
)
def test_an_abandoned_run_resumes_bit_for_bit(tmp_path: Path, method: str, training: dict[str, object]) -> None:
    config = config_of(method, **training)
    whole = run_through(config, tmp_path / "whole")
    parts = run_through(config, tmp_path / "parts", stop_after=4)
    assert same(whole, parts)
    assert not (parts / store.CHECKPOINT).exists(), "a finished run needs no checkpoint"


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    config = config_of("stl")
    folder = run_through(config, tmp_path)
    before = (folder / store.RESULT).stat().st_mtime_ns
    progress = list(execute(config, make_stream("digits", 0), Place(tmp_path)))
    assert len(progress) == 1
    assert progress[0].epochs == progress[0].total == 30
    assert (folder / store.RESULT).stat().st_mtime_ns == before


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)  # as the quiet run: sums over several threads may differ in their last bits
from tests.experiments.test_resume import config_of, run_through
run_through(config_of("df-cnn", epochs=20), Path(sys.argv[1]), every=0.0)
"""


@pytest.mark.slow
def test_kill_minus_nine_at_any_moment(tmp_path: Path) -> None:
    """Kill the process three times while it works, go on here, and compare with a run that was left in peace."""
    whole = run_through(config_of("df-cnn", epochs=20), tmp_path / "whole")
    killed = 0
    folder = store.run_folder(tmp_path / "killed", config_of("df-cnn", epochs=20))
    for killed in range(3):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "killed")])
        before = _size(folder)
        while process.poll() is None and _size(folder) < before + 1500:  # about a tenth of its work
            time.sleep(0.003)
        time.sleep(0.017 * killed)
        assert process.poll() is None, "it was to be killed in the middle"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (folder / store.RESULT).exists()
    run_through(config_of("df-cnn", epochs=20), tmp_path / "killed")
    assert same(whole, folder)


def _size(folder: Path) -> int:
    return (folder / store.ACCURACY).stat().st_size if (folder / store.ACCURACY).exists() else 0


def test_lines_written_after_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    config = config_of("stl")
    whole = run_through(config, tmp_path / "whole")
    stream = make_stream("digits", 0)
    run = execute(config, stream, Place(tmp_path / "part", keep_weights=True))
    for _ in range(9):
        next(run)
    run.close()
    folder = store.run_folder(tmp_path / "part", config)
    with (folder / store.ACCURACY).open("ab") as file:
        file.write(b'{"epoch": 99, "training": nul')
    assert len(store.read_run(folder).evaluations) > 0, "half a line is no damage"
    list(execute(config, stream, Place(tmp_path / "part", keep_weights=True)))
    assert same(whole, folder)
