"""A lesson that is cut off goes on where it stopped, to the same numbers; another lesson does not."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

import everlearn
from everlearn.errors import StoreError
from everlearn.learner import Learned, Learner
from everlearn.storing import teaching, unfinished
from everlearn.storing.checking import check
from everlearn.storing.requests import Request
from everlearn.storing.store import NUMBERS, Store, lesson_files
from everlearn.tasks.task import Split, Task
from tests.storing.conftest import STREAM
from tests.storing.crashing import in_a_child

TRAINING = {"epochs": 6}
MORE = STREAM.tasks[2]


def request(task: Task = MORE, **training: object) -> Request:
    return Request("more", task, training={**TRAINING, **training})  # type: ignore[arg-type]


def stopped(folder: Path, asked: Request, ticks: int) -> None:
    """Begin a lesson and abandon it."""
    steps = everlearn.open(folder).learning(asked)
    for _ in range(ticks):
        next(steps)
    steps.close()


def finished(folder: Path, asked: Request) -> Learned:
    steps = everlearn.open(folder).learning(asked)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def numbers(folder: Path) -> bytes:
    return Store(folder).read().files[NUMBERS]


@pytest.fixture
def whole(vision: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The numbers after a lesson that nothing disturbed."""
    folder = Path(shutil.copytree(vision, tmp_path_factory.mktemp("whole") / "vision"))
    assert finished(folder, request()).resumed == 0
    return numbers(folder)


def test_the_same_lesson_goes_on_to_the_same_numbers(vision: Path, whole: bytes) -> None:
    for ticks in (3, 2):
        stopped(vision, request(), ticks)
        assert everlearn.open(vision).generation == 3, "an unfinished lesson is no generation"
        assert len(lesson_files(vision)) == 1
    done = finished(vision, request())
    assert done.resumed == 4, "a tick before the first epoch, two epochs, two more after the resumption"
    assert numbers(vision) == whole
    assert everlearn.open(vision).history[-1].epochs == 6
    assert lesson_files(vision) == [], "nothing of it is left"


def test_killed_in_the_middle(vision: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "CHECKPOINT_SECONDS", 0.0)

    def killed() -> None:
        steps = everlearn.open(vision).learning(request())
        for _ in range(5):
            next(steps)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(killed) == -signal.SIGKILL
    notes = check(vision).notes
    assert len(notes) == 1
    assert "the same `everlearn learn` goes on from it" in notes[0]
    assert finished(vision, request()).resumed == 4
    assert numbers(vision) == whole


def test_a_state_is_kept_once_in_a_while_alone(vision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(unfinished.Bookmark, "save", lambda self, state: saved.append(state.worked))
    finished(vision, request())
    assert saved == []
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(teaching, "monotonic", lambda: float(next(clock)))
    everlearn.open(vision).rollback(3)
    finished(vision, request())
    assert len(saved) >= 2
    assert len(saved) < 6


def other_images() -> Task:
    assert MORE.train
    images = MORE.train.images.clone()  # type: ignore[union-attr]
    images[0, 0, 0, 0] += 0.01
    return Task(MORE.name, MORE.classes, Split(images, MORE.train.labels), MORE.validation, MORE.test)


@pytest.mark.parametrize(
    "asked",
    [
        request(rate=0.0123),
        request(other_images()),
        Request("more", MORE, training=TRAINING, standardise="none"),
    ],
    ids=("rate", "images", "standardise"),
)
def test_another_lesson_begins_anew(vision: Path, asked: Request) -> None:
    stopped(vision, request(), 4)
    assert finished(vision, asked).resumed == 0


def test_a_lesson_from_another_generation_begins_anew(vision: Path) -> None:
    stopped(vision, request(), 4)
    kept = {path.name: path.read_bytes() for path in lesson_files(vision)}
    everlearn.open(vision).forget("fish")
    assert lesson_files(vision) == [], "no lesson can go on from there"
    for name, content in kept.items():
        (vision / name).write_bytes(content)
    assert finished(vision, request()).resumed == 0


def test_what_is_watched_may_be_changed(vision: Path) -> None:
    """How old tasks fare is looked at when the lesson is over, and decides none of its numbers."""
    stopped(vision, request(), 4)
    asked = Request("more", MORE, training=TRAINING, accept_drop=1.0, keep_validation=3)
    assert finished(vision, asked).resumed == 3


@pytest.mark.parametrize("harm", ["flip", "cut", "link"])
def test_a_damaged_state_is_not_used(vision: Path, whole: bytes, harm: str) -> None:
    stopped(vision, request(), 4)
    (path,) = lesson_files(vision)
    content = path.read_bytes()
    if harm == "flip":
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.rename(vision.parent / "elsewhere")
        path.symlink_to(vision.parent / "elsewhere")
    assert finished(vision, request()).resumed == 0
    assert numbers(vision) == whole


def test_a_disk_without_room_for_the_state_is_told_and_no_more(
    vision: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "CHECKPOINT_SECONDS", 0.0)
    tried: list[Path] = []

    def full(path: Path, content: bytes) -> None:
        tried.append(path)
        raise StoreError(os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unfinished, "write_whole", full)
    done = finished(vision, request())
    assert len(tried) == 8, "room may be made meanwhile"
    assert done.warnings == ["where the lesson stood could not be kept meanwhile: No space left on device"]
    assert numbers(vision) == whole


def test_a_state_replaces_the_one_before_and_is_kept_if_it_cannot(
    vision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(vision, request(), 2)
    first = lesson_files(vision)
    stopped(vision, request(), 2)
    second = lesson_files(vision)
    assert len(first) == len(second) == 1
    assert first != second

    def full(path: Path, content: bytes) -> None:
        raise StoreError("full")

    with monkeypatch.context() as patched:
        patched.setattr(unfinished, "write_whole", full)
        stopped(vision, request(), 2)
    assert lesson_files(vision) == second


def test_another_lesson_that_is_cut_off_leaves_this_one(vision: Path, whole: bytes) -> None:
    """A command with a wrong flag, stopped as soon as that is seen, must not cost what the right one had done."""
    stopped(vision, request(), 5)
    stopped(vision, request(rate=0.5), 1)
    assert len(lesson_files(vision)) == 2
    assert finished(vision, request()).resumed == 4
    assert numbers(vision) == whole
    assert lesson_files(vision) == []


def crafted(vision: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Give the lesson's file another position, under a name that fits."""
    (path,) = lesson_files(vision)
    content = path.read_bytes()
    tensors, position = load(content), json.loads(unfinished._header(content))
    change(position)
    fresh = save(tensors, {"everlearn": json.dumps(position)})
    lesson = path.name.split("-")[1]
    path.unlink()
    (vision / unfinished.Bookmark(vision, lesson)._name(fresh)).write_bytes(fresh)


@pytest.mark.parametrize(
    "change",
    [
        lambda position: position.clear(),
        lambda position: position.update(phase=-5),
        lambda position: position.update(phase=0),
        lambda position: position["tasks"][2].update(classes=10**8),
        lambda position: position["tasks"][2].update(extra={"a": [10**9, 10**9]}),
        lambda position: position["tasks"].pop(),
        lambda position: position["tasks"][2].update(configuration=[True]),
        lambda position: position.update(numbers={2: []}, stage=0),
        lambda position: position.update(numbers={"2": [{}, {}]}),
        lambda position: position.update(numbers={"7": []}),
    ],
)
def test_a_state_that_cannot_be_one_of_this_lesson_is_told_and_not_used(
    vision: Path, whole: bytes, change: Callable[[dict[str, Any]], object]
) -> None:
    stopped(vision, request(), 4)
    crafted(vision, change)
    done = finished(vision, request())
    assert done.resumed == 0
    assert done.warnings == ["what was kept of this lesson could not be gone on with; it began anew."]
    assert numbers(vision) == whole


@pytest.mark.parametrize("large", [{"classes": 10**6}, {"extra": {"a": [10**3, 10**4]}}])
def test_nothing_is_made_of_a_state_that_asks_for_more_than_it_holds(
    vision: Path, monkeypatch: pytest.MonkeyPatch, large: dict[str, Any]
) -> None:
    stopped(vision, request(), 4)
    crafted(vision, lambda position: position["tasks"][2].update(large))
    made: list[object] = []
    monkeypatch.setattr(unfinished, "restore", lambda *given: made.append(given))
    assert finished(vision, request()).resumed == 0
    assert made == []


def test_a_state_that_was_written_again_is_used(vision: Path, whole: bytes) -> None:
    stopped(vision, request(), 4)
    crafted(vision, lambda position: None)
    done = finished(vision, request())
    assert done.resumed == 3
    assert done.warnings == []
    assert numbers(vision) == whole


def test_what_cannot_be_removed_is_in_nobodys_way(vision: Path, whole: bytes) -> None:
    (vision / "lesson-x.safetensors").mkdir()
    for ticks in (3, 2):
        stopped(vision, request(), ticks)
    (vision / ".lesson-1-2.safetensors.new").write_bytes(b"half")
    assert finished(vision, request()).resumed == 4
    assert [path.name for path in lesson_files(vision)] == ["lesson-x.safetensors"]
    assert not list(vision.glob(".lesson*"))
    assert numbers(vision) == whole


def test_half_written_files_of_killed_processes_are_removed_by_the_next(vision: Path) -> None:
    (vision / ".lesson-1-2.safetensors.new").write_bytes(b"half")
    stopped(vision, request(), 3)
    assert not list(vision.glob(".lesson*"))


def test_of_processes_that_train_together_one_keeps_the_state(vision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "is_first", lambda: False)
    stopped(vision, request(), 3)
    assert lesson_files(vision) == []


def test_files_of_other_lessons_are_not_read(vision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (vision / "lesson-0123-4567.safetensors").write_bytes(b"")
    read: list[Path] = []
    monkeypatch.setattr(unfinished, "read_bytes", lambda path, most: read.append(path) or b"")
    finished(vision, request())
    assert read == []


def test_ctrl_c_in_python(vision: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    learner = everlearn.open(vision)
    assert not learner.unfinished

    def progress(epochs: int, total: int) -> teaching.Progress:
        if epochs == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(epochs, total)

    real = teaching.Progress
    try:
        with monkeypatch.context() as patched:
            patched.setattr(teaching, "Progress", progress)
            with pytest.raises(KeyboardInterrupt):
                learner.learn("more", MORE, training=TRAINING)
    finally:
        signal.signal(signal.SIGINT, before)
    assert learner.unfinished
    assert learner.generation == 3
    assert learner.learn("more", MORE, training=TRAINING).resumed == 3
    assert not learner.unfinished
    assert numbers(vision) == whole


def test_a_creation_that_is_taken_back_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    Learner.create(folder, method="hps", backbone="digits", training={"batch": 10})
    stopped(folder, request(), 2)
    Store(folder).discard()
    assert not folder.exists()


def marks(**changes: object) -> str:
    given: Mapping[str, object] = {
        "manifest": "a" * 64, "numbers": "b" * 64, "task": MORE, "pre": teaching.Preprocessing(**PRE),
        "training": everlearn.Training(),
        "options": {"x": 1}, **changes,
    }  # fmt: skip
    return unfinished.lesson_mark(**given)  # type: ignore[arg-type]


PRE = {"height": 8, "width": 8, "channels": 1, "mean": [0.0], "scale": [1.0]}


def test_a_mark_is_of_all_that_decides_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        marks(manifest="b" * 64),
        marks(numbers="c" * 64),
        marks(task=other_images()),
        marks(task=Task(MORE.name, tuple(reversed(MORE.classes)), MORE.train, MORE.validation, MORE.test)),
        marks(pre=teaching.Preprocessing(**{**PRE, "mean": [0.5]})),
        marks(training=everlearn.Training(rate=0.5)),
        marks(options={"x": 2}),
        marks(options={}),
    ]
    assert marks() == marks(options={"x": "1"}), "a number by the command line is a text"
    with monkeypatch.context() as patched:
        patched.setattr(unfinished, "versions", lambda: {"torch": "3"})
        others.append(marks())
    assert len({marks(), *others}) == len(others) + 1
