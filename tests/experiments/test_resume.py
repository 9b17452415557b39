"""A run that was stopped, killed or abandoned ends with the records and weights of one that never was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from everlearn.errors import StoreError
from everlearn.experiments import store
from everlearn.experiments.execute import Place, execute
from everlearn.experiments.plan import Request, plan_runs
from everlearn.experiments.records import RunConfig
from everlearn.tasks import make_stream

QUICK = {"epochs": 6, "evaluate_every": 2, "evaluate_others_every": 3}


def config_of(method: str, options: Mapping[str, str] | None = None, **training: object) -> RunConfig:
    asked = {**QUICK, **training}
    return plan_runs(Request("digits", (method,), trials=1, training=asked, options=options or {}))[0]  # type: ignore[arg-type]


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
    names = [store.ACCURACY, store.WEIGHTS, *([store.FINDINGS] if (first / store.FINDINGS).exists() else [])]
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


def test_a_journal_that_is_shorter_than_its_checkpoint_says_is_refused_at_once(tmp_path: Path) -> None:
    run = execute(config_of("stl"), make_stream("digits", 0), Place(tmp_path))
    for _ in range(9):
        next(run)
    run.close()
    journal = store.run_folder(tmp_path, config_of("stl")) / store.ACCURACY
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=f"it has {len(whole) - 1:,} bytes, but .* after {len(whole):,}; remove"):
        list(execute(config_of("stl"), make_stream("digits", 0), Place(tmp_path)))
    assert journal.read_bytes() == whole[:-1], "nothing is filled up"
    journal.unlink()
    with pytest.raises(StoreError, match="it has 0 bytes"):
        list(execute(config_of("stl"), make_stream("digits", 0), Place(tmp_path)))


# ---------------------------------------------------------------- several attempts, and findings


def searched() -> RunConfig:
    return config_of("brute-force-tf", {"groups": "1-2/3"}, epochs=2, evaluate_every=1, evaluate_others_every=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with several attempts a task that was left in peace."""
    return run_through(searched(), tmp_path_factory.mktemp("whole"))


def part_of(root: Path, ticks: int) -> Path:
    run = execute(searched(), make_stream("digits", 0), Place(root, keep_weights=True))
    for _ in range(ticks):
        next(run)
    run.close()
    return store.run_folder(root, searched())


def test_a_run_with_attempts_and_findings_resumes_bit_for_bit(tmp_path: Path, whole: Path) -> None:
    """Four ticks an attempt; five a visit: the run is left once at each of them, in this attempt or that."""
    parts = run_through(searched(), tmp_path, stop_after=5)
    assert same(whole, parts)
    read = store.read_run(parts)
    assert [f.task for f in read.findings] == ["2-vs-3", "4-vs-5", "6-vs-7", "8-vs-9"]
    assert {e.attempt for e in read.evaluations} == {None, 0, 1, 2, 3}


def test_progress_counts_the_epochs_of_all_attempts(tmp_path: Path) -> None:
    run = execute(searched(), make_stream("digits", 0), Place(tmp_path))
    # Two epochs of the first task, then the second's attempts: their first ticks come before, between and after epochs.
    seen = [next(run) for _ in range(13)]
    run.close()
    assert {p.total for p in seen} == {2 + 4 * 4 * 2}
    assert [p.epochs for p in seen] == [0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6]


def test_findings_written_after_the_checkpoint_are_cut_off(tmp_path: Path, whole: Path) -> None:
    folder = part_of(tmp_path, 24)
    assert len(store.read_run(folder).findings) == 1
    line = (folder / store.FINDINGS).read_bytes()
    with (folder / store.FINDINGS).open("ab") as file:
        file.write(line + b'{"epoch": 99, "task": "4-v')
    assert len(store.read_run(folder).findings) == 2, "half a line is no damage"
    assert same(whole, run_through(searched(), tmp_path))


def test_findings_that_the_checkpoint_does_not_know_are_cut_off(tmp_path: Path, whole: Path) -> None:
    """Killed after the first finding was written and before the next checkpoint."""
    folder = part_of(tmp_path, 6)
    assert not (folder / store.FINDINGS).exists(), "there is no such file before there is something to say"
    (folder / store.FINDINGS).write_bytes((whole / store.FINDINGS).read_bytes())
    assert same(whole, run_through(searched(), tmp_path))


def test_findings_that_the_checkpoint_knows_are_missed(tmp_path: Path) -> None:
    folder = part_of(tmp_path, 24)
    (folder / store.FINDINGS).unlink()
    with pytest.raises(StoreError, match=f"{store.FINDINGS} is damaged"):
        part_of(tmp_path, 1)


def test_a_method_that_finds_nothing_has_no_such_file(tmp_path: Path) -> None:
    folder = run_through(config_of("stl", epochs=1), tmp_path)
    assert not (folder / store.FINDINGS).exists()
    assert store.read_run(folder).findings == ()
