"""The way back to a generation that is whole, past one that is damaged; and what lasts of what was done."""

import os
from pathlib import Path

import pytest

import everlearn
from everlearn.errors import StoreError
from everlearn.storing.checking import check
from everlearn.storing.records import Event, lasting
from tests.command_line import CommandLine

THIRD = Path("generations/000003")


@pytest.fixture
def shell(vision: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(vision.parent, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("damaged", "done"),
    [
        ("numbers.safetensors", ["created", "learned", "learned", "rolled back"]),
        ("learner.json", ["created", "learned", "rolled back"]),  # what it told of the third is lost with it
        ("manifest.json", ["created", "learned", "rolled back"]),
    ],
)
def test_what_counts_may_be_damaged(vision: Path, shell: CommandLine, damaged: str, done: list[str]) -> None:
    os.truncate(vision / THIRD / damaged, 50)
    shell.refuses("show", "vision")
    assert shell.says("rollback", "vision", "--to", "2") == "vision, generation 4: as generation 2 was.\n"
    learner = everlearn.open(vision)
    assert list(learner.tasks) == ["birds"]
    assert [event.what for event in learner.history] == done
    assert [str(THIRD) in sentence for sentence in check(vision).damage] == [True]


def test_a_learner_that_is_open_goes_back_too(vision: Path) -> None:
    learner = everlearn.open(vision)
    (vision / THIRD / "numbers.safetensors").unlink()
    assert learner.rollback(2) == learner.generation == 4
    assert list(learner.tasks) == ["birds"]


def test_what_cannot_be_gone_back_to(vision: Path, shell: CommandLine) -> None:
    os.truncate(vision / "generations/000002/numbers.safetensors", 50)
    assert "000002/numbers.safetensors is damaged" in shell.refuses("rollback", "vision", "--to", "2")
    assert "no generation 9; it keeps 1, 2, 3" in shell.refuses("rollback", "vision", "--to", "9")
    assert "none does not exist" in shell.refuses("rollback", "none", "--to", "1")
    assert everlearn.open(vision).generation == 3
    assert not (vision.parent / "none").exists()


def test_what_lasts() -> None:
    def event(generation: int, to: int | None = None) -> Event:
        return Event(generation=generation, what="learned" if to is None else "rolled back", when="", to=to)

    history = [event(1), event(2), event(3), event(4, to=2), event(5), event(6, to=3), event(7)]
    # 6 went back to 3, which knew nothing of 4 and 5; 5 came after 4, which knew nothing of 3.
    assert [one.generation for one in lasting(history)] == [1, 2, 3, 7]
    assert [one.generation for one in lasting(history[:5])] == [1, 2, 5]
    assert lasting([event(1), event(2, to=2), event(3, to=9)]) == [event(1)], "a forged one ends as well"


def test_a_task_is_shown_as_it_is_after_going_back(shell: CommandLine) -> None:
    def moved() -> str:
        return next(line for line in shell.says("show", "vision").splitlines() if line.startswith("birds")).split()[-1]

    assert moved() != "0"
    shell.says("rollback", "vision", "--to", "2")
    assert moved() == "0"


def test_going_back_to_what_cannot_be_built_is_refused(vision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = everlearn.open(vision)

    def refuse(*_: object) -> None:
        raise StoreError("not to be built")

    monkeypatch.setattr("everlearn.storing.going_back.load_mind", refuse)
    with pytest.raises(StoreError, match="not to be built"):
        learner.rollback(2)
    assert everlearn.open(vision).generation == 3
