"""Whatever happens while a learner is written: the old generation or the new one, whole; and one can learn again."""

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import everlearn
from everlearn.errors import StoreError
from everlearn.storing.checking import check
from everlearn.storing.store import Store
from tests.storing.conftest import STREAM
from tests.storing.crashing import CALLS, at_call, in_a_child

IMAGES = STREAM.tasks[0].test.images  # type: ignore[union-attr]


def answers(folder: Path) -> object:
    learner = everlearn.open(folder)
    return {name: learner.predict(IMAGES, name) for name in ("birds", "fish")}


def rollback(folder: Path) -> None:
    """A change that writes all files, trains nothing, and keeps both tasks."""
    learner = everlearn.open(folder)
    learner.rollback(learner.generation)


def learn(folder: Path) -> None:
    everlearn.open(folder).learn("more", STREAM.tasks[2])


def count_calls(folder: Path, what: str) -> int:
    counted = [0]

    def count() -> None:
        counted[0] += 1

    with at_call(what, None, count):
        rollback(folder)
    return counted[0]


def whole(folder: Path, before: object, generations: tuple[int, ...]) -> None:
    assert everlearn.open(folder).generation in generations
    assert answers(folder) == before, "the old tasks answer bit for bit as before"
    assert check(folder).damage == ()


def test_a_full_disk_at_any_call_leaves_the_old_generation(vision: Path) -> None:
    before, tried = answers(vision), 0
    for what in CALLS:
        number = everlearn.open(vision).generation
        calls = count_calls(vision, what)
        assert calls > 0
        number += 1
        for call in range(int(what == "mkdir"), calls):  # the first mkdir is of the folder, which is there

            def full() -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            with at_call(what, call, full), pytest.raises(StoreError) as said:
                rollback(vision)
            tried += 1
            assert "\n" not in str(said.value)
            found = everlearn.open(vision).generation
            if found == number:
                assert f"generation {number} is kept as it was" in str(said.value), str(said.value)
            else:  # the switch was done, and its confirmation failed
                assert what == "fsync"
                assert found == number + 1
                assert "is in place, but the disk did not confirm it" in str(said.value)
                number = found
            whole(vision, before, (number,))
    assert tried >= 15
    learn(vision)
    assert "more" in everlearn.open(vision).tasks


def test_a_torn_write_is_found_before_the_switch(vision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = answers(vision), os.replace

    def torn(source: Path, target: Path) -> None:
        if str(target).endswith("numbers.safetensors"):
            os.truncate(source, os.path.getsize(source) // 2)
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", torn)
        with pytest.raises(StoreError, match="does not hold what was written to it"):
            rollback(vision)
    whole(vision, before, (3,))


def test_a_folder_that_is_renamed_away_stays_as_it_was(vision: Path) -> None:
    before = answers(vision)
    for what in CALLS:
        for call in range(count_calls(vision, what)):
            number, away = everlearn.open(vision).generation, vision.with_name("away")

            def move() -> None:
                vision.rename(away)  # noqa: B023

            with at_call(what, call, move), pytest.raises(StoreError) as said:
                rollback(vision)
            assert "\n" not in str(said.value)
            if vision.exists():  # nothing of it but what a write made anew
                assert not (vision / "current").exists()
                Store(vision)
            moved = everlearn.open(away)
            assert moved.generation in (number, number + 1)
            assert {name: moved.predict(IMAGES, name) for name in ("birds", "fish")} == before
            if vision.exists():
                import shutil

                shutil.rmtree(vision)
            away.rename(vision)
            assert check(vision).damage == ()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_kill_minus_nine_at_every_call_of_a_save(vision: Path) -> None:
    before, killed = answers(vision), 0
    for what in CALLS:
        for call in range(count_calls(vision, what)):
            number = everlearn.open(vision).generation

            def killed_there() -> None:
                with at_call(what, call, kill):  # noqa: B023
                    rollback(vision)

            assert in_a_child(killed_there) == -signal.SIGKILL
            killed += 1
            whole(vision, before, (number, number + 1))
    assert killed >= 15
    learn(vision)
    assert {name: everlearn.open(vision).predict(IMAGES, name) for name in ("birds", "fish")}


def test_kill_minus_nine_at_random_moments_of_learning(vision: Path) -> None:
    before, draw = answers(vision), random.Random(0)
    begun = time.monotonic()
    assert in_a_child(lambda: learn(vision)) == 0
    lasts = time.monotonic() - begun
    everlearn.open(vision).rollback(3)
    killed = 0
    for _ in range(10):
        number = everlearn.open(vision).generation
        outcome = in_a_child(lambda: learn(vision), kill_after=draw.uniform(0, lasts))
        killed += outcome == -signal.SIGKILL
        whole_or_new(vision, before, number)
        if everlearn.open(vision).generation > number:
            everlearn.open(vision).rollback(number)
    assert killed >= 3
    learn(vision)


def whole_or_new(folder: Path, before: object, number: int) -> None:
    learner = everlearn.open(folder)
    assert learner.generation in (number, number + 1)
    if learner.generation == number:
        assert answers(folder) == before
    else:
        assert "more" in learner.tasks, "what was learned is whole"
    assert check(folder).damage == ()


def test_a_creation_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "vision"
    create: Callable[[], object] = lambda: everlearn.Learner.create(folder, method="hps", backbone="digits")  # noqa: E731
    for what in CALLS:
        for call in range(4):

            def killed_there() -> None:
                with at_call(what, call, kill):  # noqa: B023
                    create()

            in_a_child(killed_there)
            if (folder / "current").exists():
                assert everlearn.open(folder).generation == 1
                return
    create()


def test_readers_go_on_while_a_writer_prunes(tmp_path: Path) -> None:
    """A child writes generation after generation and keeps one; this process reads all along."""
    folder = tmp_path / "vision"
    everlearn.Learner.create(folder, method="hps", backbone="digits", keep=1)
    child = os.fork()
    if child == 0:
        try:
            for _ in range(25):
                rollback(folder)
        finally:
            os._exit(0)
    seen = set()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        seen.add(Store(folder).read().number)
    assert len(seen) > 3
    assert everlearn.open(folder).generation == 26
    assert check(folder).damage == ()
