"""The commands of a learner on disk, from nothing to a network that needs no everlearn."""

import csv
import io
import json
import os
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from PIL import Image

from everlearn.errors import StoreError
from everlearn.experiments import together
from everlearn.experiments.execute import Progress
from everlearn.stopping import followed, wish_to_stop
from everlearn.storing import teaching, unfinished
from tests.command_line import CommandLine


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    for task, shift in (("birds", 0), ("fish", 100)):
        for c, name in enumerate(("small", "[large]")):
            folder = tmp_path / task / name
            folder.mkdir(parents=True)
            for i in range(10):
                Image.new("RGB", (12, 10), (80 * c, 9 * i + shift, 40)).save(folder / f"{i}.png")
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")])
def test_a_first_lesson_without_memory_leaves_nothing(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("everlearn.learner_work._taught", fails)
    said = shell.refuses("learn", "vision", "--task", "birds", "--images", "birds", "--epochs", "1")
    assert "not enough memory for images of this size; give a smaller one, such as --size 64x64" in said
    assert not (tmp_path / "vision" / "current").exists()


def test_from_nothing_to_a_plain_network(shell: CommandLine, tmp_path: Path) -> None:
    words = ["--method", "stl", "--backbone", "digits", "--size", "8x8", "--epochs", "1", "--set", "batch=5"]
    said = shell.says("learn", "vision", "--task", "birds", "--images", "birds", *words, "--keep-validation", "4")
    assert said.startswith("vision, generation 2: learned birds; accuracy: validation")
    said = shell.says("learn", "vision", "--task", "fish", "--images", "fish", "--accept-drop", "0")
    assert "birds: accuracy" in said
    assert "on 4 images; answers as before" in said

    said = shell.says("predict", "vision", "birds/small", "birds/*large*/1.png", "--task", "birds")
    assert len(said.splitlines()) == 11
    assert "birds/small/0.png  " in said
    lines = [json.loads(line) for line in shell.says("predict", "vision", "fish", "--json").splitlines()]
    assert len(lines) == 20
    assert set(lines[0]["tasks"]) == {"birds", "fish"}
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    rows = list(csv.DictReader(io.StringIO(shell.says("predict", "vision", "fish", "--csv", "--task", "fish"))))
    assert len(rows) == 20
    assert {row["label"] for row in rows} <= {"small", "[large]"}

    assert shell.says("evaluate", "vision", "--task", "fish", "--images", "fish").startswith("fish: accuracy")
    said = shell.says("show", "vision")
    assert "stl on digits, images 3 x 8 x 8" in said
    assert "generation 3 (kept: 1, 2, 3)" in said
    assert "[large]" in said
    assert shell.says("check", "vision") == "vision is whole: generations 1, 2, 3.\n"
    assert "birds.safetensors" in shell.says("export", "vision", "--task", "birds", "--to", "safetensors")
    assert (tmp_path / "birds.json").exists()

    assert shell.says("forget", "vision", "--task", "birds") == "vision, generation 4: forgot birds.\n"
    assert "there are fish" in shell.refuses("predict", "vision", "fish", "--task", "birds")
    assert shell.says("rollback", "vision", "--to", "3") == "vision, generation 5: as generation 3 was.\n"
    assert shell.says("predict", "vision", "fish", "--task", "birds")

    assert "leave out --method" in shell.refuses(
        "learn", "vision", "--task", "more", "--images", "fish", "--method", "lwf"
    )
    (tmp_path / "vision" / "generations" / "000005" / "learner.json").write_text("{")
    assert "learner.json is damaged" in shell.refuses("show", "vision")
    assert "1 thing is wrong" in shell.refuses("check", "vision")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["show", "none"], "none does not exist"),
        (["show", "birds"], "birds holds no learner"),
        (["learn", "vision", "--task", "a", "--images", "none", "--size", "8x8"], "there is no folder none"),
        (["learn", "vision", "--task", "a", "--images", "birds", "--method", "joint"], "images of earlier tasks"),
        (["learn", "vision", "--task", "a", "--images", "birds", "--set", "rate"], "NAME=VALUE"),
        (["learn", "birds", "--task", "a", "--images", "birds"], "birds is in use"),
        (["learn", "vision", "--task", "", "--images", "birds"], "a task is wanted with a name"),
        (["learn", "vision", "--task", "a", "--images", "birds", "--size", "20000x20000"], "at most 16,384 each"),
    ],
)
def test_mistakes(shell: CommandLine, words: list[str], part: str) -> None:
    assert part in shell.refuses(*words)


QUICK = ["--method", "stl", "--backbone", "digits", "--size", "8x8", "--epochs", "1", "--set", "batch=5"]


def test_a_flag_of_zero_is_a_flag(shell: CommandLine) -> None:
    shell.says("learn", "vision", "--task", "birds", "--images", "birds", *QUICK, "--seed", "5")
    for flag in ("seed", "keep"):
        words = ["--task", "fish", "--images", "fish", f"--{flag}", "0"]
        assert f"leave out --{flag}" in shell.refuses("learn", "vision", *words)


def test_a_lesson_is_not_advised_to_take_flags_of_other_commands(shell: CommandLine) -> None:
    for name in ("1.png", "2.png"):
        (shell.folder / "fish" / "small" / name).write_bytes(b"no image")
        said = shell.refuses("learn", "vision", "--task", "fish", "--images", "fish", *QUICK)
        assert said.endswith("replace it or take it out.\n")


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(shell: CommandLine, tmp_path: Path) -> None:
    assert "device" in shell.refuses("learn", "new", "--task", "birds", "--images", "birds", "--device", "cuda:7")
    assert not (tmp_path / "new").exists()
    words = ["--method", "stl", "--backbone", "digits", "--size", "8x8", "--epochs", "1", "--set", "batch=5"]
    shell.says("learn", "vision", "--task", "birds", "--images", "birds", *words)
    assert "cuda:7" in shell.refuses("predict", "vision", "birds/small/0.png", "--device", "cuda:7")
    assert "gpu" in shell.refuses("evaluate", "vision", "--task", "birds", "--images", "birds", "--device", "gpu")


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def hearing() -> Iterator[None]:
    """Ctrl-C as it is in the foreground, wherever these tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hearing")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_lesson_that_is_stopped_is_gone_on_with(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Even the first one, whose flags are of the new learner then and of the lesson the second time."""
    words = ["learn", "vision", "--task", "birds", "--images", "birds", "--method", "stl", "--backbone", "digits"]
    words += ["--size", "8x8", "--epochs", "9", "--set", "batch=5", "--option", "shared_head=false", "--grey"]
    before = [signal.getsignal(n) for n in SIGNALS]
    with monkeypatch.context() as patched:

        def progress(epochs: int, total: int) -> Progress:
            if epochs == 4 and total == 9:
                os.kill(os.getpid(), number)
            return Progress(epochs, total)

        patched.setattr(teaching, "Progress", progress)
        out, said = shell(*words, status=130)
    assert out == ""
    assert said == (
        "everlearn: stopped; generation 1 of vision is as it was, and the same command goes on from here.\n"
    )
    assert [signal.getsignal(n) for n in SIGNALS] == before
    told = "a lesson stood here; if none is going on, the same `everlearn learn` goes on from here"
    assert shell.says("show", "vision").splitlines()[-1].endswith(told)
    said = shell.says(*words)
    assert "vision, generation 2: learned birds" in said
    assert "  4 epochs were over already when it went on" in said.splitlines()
    assert told not in shell.says("show", "vision")


@pytest.mark.usefixtures("hearing")
def test_a_second_ctrl_c_is_not_held_back() -> None:
    with wish_to_stop(SIGNALS) as wished:
        assert not wished()
        os.kill(os.getpid(), signal.SIGINT)
        assert wished()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("hearing")
def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with wish_to_stop(SIGNALS) as wished:
        os.kill(os.getpid(), signal.SIGINT)
        assert not wished()
        os.kill(os.getpid(), signal.SIGTERM)
        assert wished()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_processes_that_wait_for_each_other_are_not_stopped_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert together.signals_heard(SIGNALS) == SIGNALS
    monkeypatch.setattr(together, "launched", lambda: True)
    assert together.signals_heard(SIGNALS) == ()


def test_a_learner_of_colours_is_not_grey(shell: CommandLine) -> None:
    words = ["--method", "stl", "--backbone", "digits", "--size", "8x8", "--epochs", "1", "--set", "batch=5"]
    shell.says("learn", "vision", "--task", "birds", "--images", "birds", *words)
    assert "leave out --grey" in shell.refuses("learn", "vision", "--task", "fish", "--images", "fish", "--grey")


def test_threads_hear_no_signals() -> None:
    heard: list[bool] = []

    def listen() -> None:
        with wish_to_stop(SIGNALS) as wished:
            heard.append(wished())

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert heard == [False]


@pytest.mark.usefixtures("hearing")
def test_a_generator_is_followed_to_its_end_or_left_after_a_step() -> None:
    closed: list[bool] = []

    def steps(stop_at: int) -> Generator[int, None, str]:
        try:
            for step in range(5):
                if step == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield step
        except GeneratorExit:
            closed.append(True)
            raise
        return "the end"

    seen: list[int] = []
    assert followed(steps(9), seen.append, SIGNALS) == "the end"
    assert seen == [0, 1, 2, 3, 4]
    assert closed == []
    with pytest.raises(KeyboardInterrupt):
        followed(steps(2), seen.append, SIGNALS)
    assert seen[5:] == [0, 1, 2], "the step was done"
    assert closed == [True]
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(-1))
    try:
        assert followed(steps(0), seen.append, SIGNALS) == "the end", "before the first step it is not heard"
        assert seen[8:] == [-1, 0, 1, 2, 3, 4]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert followed((value for value in ()), seen.append, SIGNALS) is None


@pytest.mark.usefixtures("hearing")
def test_a_lesson_of_which_nothing_could_be_kept_says_so(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def progress(epochs: int, total: int) -> Progress:
        if epochs == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return Progress(epochs, total)

    def full(path: Path, content: bytes) -> None:
        raise StoreError("full")

    monkeypatch.setattr(teaching, "Progress", progress)
    monkeypatch.setattr(unfinished, "write_whole", full)
    words = ["--method", "stl", "--backbone", "digits", "--size", "8x8", "--epochs", "3", "--set", "batch=5"]
    said = shell("learn", "vision", "--task", "birds", "--images", "birds", *words, status=130)[1]
    assert said.endswith("is as it was, and the same command begins it anew.\n")
