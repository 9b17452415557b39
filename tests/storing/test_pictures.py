"""Which files are asked about."""

from pathlib import Path

import pytest

from everlearn.errors import MissingDataError
from everlearn.storing.pictures import find_pictures

FILES = ("a.png", "in/b.png", ".c.png", ".git/d.png", "in/.e/f.png", "notes.txt")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (".", ["a.png", "in/b.png"]),
        ("*", ["a.png"]),
        ("**/*.png", ["a.png", "in/b.png"]),
        ("../photos/*.png", ["../photos/a.png"]),
        (".c.png", [".c.png"]),
        (".*", [".c.png"]),
        (".git", [".git/d.png"]),
        (".g*/*.png", [".git/d.png"]),
        ("in/.e/*", ["in/.e/f.png"]),
        ("notes.txt", ["notes.txt"]),
    ],
)
def test_hidden_files_are_passed_over_unless_they_are_named(here: Path, asked: str, found: list[str]) -> None:
    assert find_pictures([asked]) == list(map(Path, found))
    if not asked.startswith(".."):
        assert find_pictures([str(here / asked)]) == [here / name for name in found]


@pytest.mark.parametrize("asked", ["", "none", "a**.png", "x" * 300, "~nobody-of-this-name/a.png", "in/.e/*.jpg"])
def test_what_stands_for_nothing_is_named(here: Path, asked: str) -> None:
    with pytest.raises(MissingDataError, match="is no image, no folder that holds any, and no pattern that finds any"):
        find_pictures([asked])
