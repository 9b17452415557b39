"""What tasks and classes may be called: what a record can hold, and nothing else gets as far as the training."""

from dataclasses import replace
from pathlib import Path

import pytest

import everlearn
from everlearn.errors import ConfigurationError, StoreError
from everlearn.storing.checking import check
from everlearn.storing.reading import MAX_DEPTH, parse_json
from everlearn.storing.requests import check_names
from everlearn.storing.store import Store
from everlearn.tasks.task import Task
from tests.storing.conftest import STREAM

ODD = ["", " c ", "zero\u200bwidth", "x" * 201]


def called(*classes: str) -> Task:
    return replace(STREAM.tasks[2], classes=classes)


def test_brackets_in_names_are_none_of_the_records_own(vision: Path) -> None:
    names = ("[" * 40, '{"\\' * 40)
    learner = everlearn.open(vision)
    learner.learn("[0-1)" * 40, called(*names))
    again = everlearn.open(vision)
    assert again.tasks["[0-1)" * 40].classes == list(names)
    assert check(vision).damage == ()


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("[" * 33 + "]" * 33, 33),
        ('["[[[", {"]]": "}"}]' + " " * 9, 2),
        ('["\\"[[", ["\\\\", [[]]], "\\\\\\"["]', 4),  # \" ends no text, \\ before a quotation mark does not hide it
    ],
)
def test_how_deep_json_is(monkeypatch: pytest.MonkeyPatch, text: str, depth: int) -> None:
    for most in (depth, depth - 1):
        monkeypatch.setattr("everlearn.storing.reading.MAX_DEPTH", most)
        if most == depth:
            parse_json(text.encode(), Path("a.json"))
        else:
            with pytest.raises(StoreError, match=f"nested deeper than {most} levels"):
                parse_json(text.encode(), Path("a.json"))


def test_depth_cannot_be_hidden_in_another_encoding() -> None:
    # A byte of U+2200 is a quotation mark's, after which brackets would not count.
    hidden = '["\u2200", ' + "[" * 2 * MAX_DEPTH + "]" * 2 * MAX_DEPTH + "]"
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-32-be"):
        with pytest.raises(StoreError, match="deeper than 32 levels" if encoding == "utf-8" else "no valid JSON"):
            parse_json(hidden.encode(encoding), Path("a.json"))


def test_what_nobody_could_read_never_counts(vision: Path) -> None:
    store = Store(vision)
    before = store.read()
    twice = before.record.model_copy(update={"tasks": [before.record.tasks[0]] * 2})
    with store.writing(), pytest.raises(StoreError, match="a name of its own; generation 3 is kept as it was"):
        store.write(twice, before.files)
    assert everlearn.open(vision).generation == 3
    assert (check(vision).damage, check(vision).notes) == ((), ())


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_checked_before_anything_else(vision: Path, name: str) -> None:
    learner = everlearn.open(vision)
    with pytest.raises(ConfigurationError, match="a task is wanted with a name, of at most 200 printable characters"):
        learner.learn(name, vision / "no images are here")
    assert learner.generation == everlearn.open(vision).generation == 3


@pytest.mark.parametrize("name", ODD[1:])
def test_names_of_classes_are_checked_before_the_training(
    vision: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("everlearn.learner.teach", None)
    with pytest.raises(ConfigurationError, match=r"classes are wanted with names .*, but task 'more' has '.*; rename"):
        everlearn.open(vision).learn("more", called("a", name))


def test_names_are_texts() -> None:
    check_names("a", ("1", "2"))
    with pytest.raises(ConfigurationError, match="but the name came as 7; give it another one"):
        check_names(7, ())
    with pytest.raises(ConfigurationError, match="but task 'a' has 1; rename it"):
        check_names("a", (1, 2))
