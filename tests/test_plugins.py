"""Names that point into a user's own file."""

import os
from pathlib import Path
from typing import Any

import pytest

from everlearn.errors import ConfigurationError
from everlearn.methods.catalogue import make_method, option_kind
from everlearn.plugins import fingerprint_of, load_plugin


def test_a_file_that_was_changed_within_a_second_is_run_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    seen = []
    for rate in (1, 2):
        file.write_text(f"RATE = {rate}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        seen.append((load_plugin("method", f"{file}:RATE"), fingerprint_of(f"{file}:RATE")))
    assert [rate for rate, _ in seen] == [1, 2]
    assert seen[0][1] != seen[1][1]
    assert [one.name for one in tmp_path.iterdir()] == ["own.py"], "nothing is kept beside it"


@pytest.mark.parametrize("text", ["import sys\nsys.exit(3)\n", "raise SystemExit\n"])
def test_a_file_that_ends_the_program_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(ConfigurationError, match=r"own.py cannot be imported: it ends the program \(sys.exit\)"):
        load_plugin("method", f"{tmp_path}/own.py:Net")


def test_a_file_that_cannot_be_compiled_is_refused(tmp_path: Path) -> None:
    for content in (b"def", b"\0", b"\xff"):
        (tmp_path / "own.py").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"own.py cannot be imported: "):
            load_plugin("method", f"{tmp_path}/own.py:Net")


def test_a_name_that_a_file_lacks_is_told_with_those_that_it_has(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("from dataclasses import dataclass\nfrom math import pi\n\n\nclass Mine:\n    pass\n")
    with pytest.raises(ConfigurationError, match=r"named 'Nope'; there are Mine\.$"):
        load_plugin("method", f"{file}:Nope")
    with pytest.raises(ConfigurationError, match=r"names a file, but nothing in it; write .*own.py:Name"):
        load_plugin("method", str(file))


@pytest.mark.parametrize("path", ["~nobody-of-that-name/own", "a" * 300, "none"])
def test_a_path_of_no_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no path of a file here|there is no file none.py"):
        fingerprint_of(f"{path}.py:Net")


@pytest.mark.parametrize(("beside", "wanted"), [("layers.py", "layers"), ("layers", "layers.conv")])
def test_a_file_that_wants_its_neighbour_is_told_what_to_do(tmp_path: Path, beside: str, wanted: str) -> None:
    (tmp_path / "own.py").write_text(f"import {wanted}\n")
    missing = r"own.py cannot be imported: ModuleNotFoundError: No module named 'layers'\."
    with pytest.raises(ConfigurationError, match=f"{missing}$"):
        load_plugin("method", f"{tmp_path}/own.py:Net")
    (tmp_path / beside).mkdir() if "." not in beside else (tmp_path / beside).write_text("")
    with pytest.raises(ConfigurationError, match=f"{missing} {beside} lies beside it.* into own.py, or make layers a"):
        load_plugin("method", f"{tmp_path}/own.py:Net")


def test_a_missing_module_without_a_name_is_told_as_any_other_error(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("raise ModuleNotFoundError('none')\n")
    with pytest.raises(ConfigurationError, match=r"own.py cannot be imported: ModuleNotFoundError: none\.$"):
        load_plugin("method", f"{tmp_path}/own.py:Net")


# ---------------------------------------------------------------- methods

OWN = """
from dataclasses import dataclass

import everlearn
from everlearn.methods.static import StaticTransfer
from everlearn.sharing.hard import Hard


@dataclass(frozen=True)
class Mine(StaticTransfer):
    rule: everlearn.SharingRule = Hard()
    strength: float = 1
    steps: int = 3
    cap: float | None = None
    most: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    name: "Nowhere" = "x"
"""


def own(folder: Path, text: str) -> str:
    (folder / "own.py").write_text(text)
    return f"{folder}/own.py:Mine"


def test_an_option_is_read_by_what_it_is_said_to_be(tmp_path: Path) -> None:
    name = own(tmp_path, OWN.replace('    name: "Nowhere" = "x"\n', ""))
    given = {"strength": "0.5", "steps": 4.0, "cap": "5", "most": "7", "sizes": "3,4"}
    method: Any = make_method(name, "digits", 5, given)
    assert (method.strength, method.steps, method.cap, method.most, method.sizes) == (0.5, 4, 5.0, 7, (3, 4))
    assert isinstance(method.steps, int)
    assert isinstance(method.cap, float)
    assert [option_kind(method, one) for one in given] == [float, int, float, int, None]
    assert make_method(name, "digits", 5, {"strength": 0.25}).strength == 0.25  # type: ignore[attr-defined]
    for option, value, wanted in (("steps", 2.9, "a whole number"), ("most", "1.5", "a whole number"),
                                  ("cap", "much", "a number"), ("strength", float("nan"), "a number")):  # fmt: skip
        with pytest.raises(ConfigurationError, match=f"the option {option} needs {wanted}, but came as"):
            make_method(name, "digits", 5, {option: value})


def test_an_option_said_to_be_what_is_not_there_is_read_by_its_default(tmp_path: Path) -> None:
    name = own(tmp_path, OWN)
    assert make_method(name, "digits", 5, {"name": 12, "steps": "5"}).name == "12"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "@dataclass(frozen=True)\nclass Mine(StaticTransfer)",
            "class Mine(everlearn.Method)",
            "cannot be made: Can't inst",
        ),
        ("steps: int = 3", "steps: int", "cannot be imported: TypeError: non-default argument"),
        (
            "    strength: float = 1",
            "    def __post_init__(self, x): pass\n    strength: float = 1",
            "needs a default for",
        ),
    ],
)
def test_a_method_that_cannot_be_made_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_method(own(tmp_path, OWN.replace(old, new)), "digits", 5, {})


def test_a_method_without_options_that_can_be_read_is_told(tmp_path: Path) -> None:
    text = """
import everlearn


class Mine(everlearn.Method):
    def begin(self, network, memory, classes):
        return network.add_task(classes, (True,) * network.blocks)

    def network(self, backbone, tasks, seed):
        raise AssertionError

    def objective(self, network, memory, task, stage, reduction):
        raise AssertionError
"""
    with pytest.raises(ConfigurationError, match=r"put @dataclass\(frozen=True\) before its class"):
        make_method(own(tmp_path, text), "digits", 5, {})
