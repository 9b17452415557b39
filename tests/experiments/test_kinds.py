"""Arguments of another kind than they should be are refused in a sentence, before anything is written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import everlearn
from everlearn.errors import ConfigurationError
from everlearn.experiments.kinds import check_lists, check_named, checked_methods, checked_whole

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("run", {"stream": 5}, "a stream is a name, a YAML file or a folder, as text, or a TaskStream, but came as 5."),
    ("run", {"methods": "stl"}, "methods are wanted as a list of names, such as ['stl'], but came as 'stl'."),
    ("run", {"methods": 5}, "methods are wanted as a list of names, such as ['stl'], but came as 5."),
    ("run", {"methods": [1]}, "a method is wanted by its name, such as 'stl', but came as 1."),
    ("run", {"trials": "1"}, "trials needs a whole number, but came as '1'."),
    ("run", {"trials": 1.5}, "trials needs a whole number, but came as 1.5."),
    ("run", {"seed": 0.5}, "seed needs a whole number, but came as 0.5."),
    ("run", {"seed": None}, "seed needs a whole number, but came as None."),
    ("run", {"training": [1]}, "training needs values by name, such as {'rate': 0.001}, but came as [1]."),
    ("run", {"options": ["a"]}, "options needs values by name, such as {'rate': 0.001}, but came as ['a']."),
    ("run", {"stream_options": "a"}, "stream_options needs values by name, such as {'rate': 0.001}, but came as 'a'."),
    ("run", {"first": 0.5}, "first needs values by name, such as {'rate': 0.001}, but came as 0.5."),
    ("run", {"sweep": ["a"]}, "sweep needs values by name, such as {'rate': [0.001, 0.01]}, but came as ['a']."),
    ("run", {"sweep": {"a": 1}}, "sweep needs several values of a, as a list, but they came as 1."),
    ("run", {"sweep": {"a": "12"}}, "sweep needs several values of a, as a list, but they came as '12'."),
    ("run", {"start": 5}, "start is wanted as text or a path, but came as 5."),
    ("run", {"backbone": 5}, "backbone is wanted as text or a path, but came as 5."),
    ("run", {"same_stream": "no"}, "same_stream is True or False, but came as 'no'."),
    ("run", {"workers": "2"}, "workers needs a whole number, but came as '2'."),
    ("run", {"runs": 3}, "runs is wanted as text or a path, but came as 3."),
    ("run", {"training": {"epochs": None}}, "training needs one value of epochs, but came as None."),
    (
        "run",
        {"methods": ["tf"], "options": {"orthogonality": None}},
        "options needs one value of orthogonality, but came as None.",
    ),
    (
        "run",
        {"methods": ["tf"], "options": {"orthogonality": float("nan")}},
        "the option orthogonality needs a number, but came as nan.",
    ),
    (
        "run",
        {"stream_options": {"train": 10}, "sweep": {"train": [20, 30]}},
        "train is swept over (20, 30) and has a value as well, 10; leave out one of the two.",
    ),
    ("tune", {"runs": 3}, "runs is wanted as text or a path, but came as 3."),
    ("tune", {"budget": "3"}, "budget needs a whole number, but came as '3'."),
    ("tune", {"methods": "stl"}, "methods are wanted as a list of names, such as ['stl'], but came as 'stl'."),
    ("tune", {"search": {"rate": 1}}, "search needs several values of rate, as a list, but they came as 1."),
]
ASK = """
import json, sys
import everlearn

for name, changes, _ in json.load(sys.stdin):
    arguments = {"stream": "digits", "methods": ["stl"], "trials": 1, **changes}
    try:
        getattr(everlearn, name)(**arguments)
        print("it ran")
    except everlearn.errors.ConfigurationError as error:
        print(error)
"""


def test_another_kind_is_refused_where_nothing_checks_types(tmp_path: Path) -> None:
    """In a process of its own: in this one beartype checks first, which nobody but the tests has."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=json.dumps(CASES), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [said for *_, said in CASES]
    assert not list(tmp_path.iterdir())


def test_what_is_as_good_is_taken() -> None:
    assert checked_methods(name for name in ("stl", "hps")) == ("stl", "hps")
    assert type(checked_whole("seed", np.int64(3))) is int
    check_named("first", None)
    check_lists("search", {"rate": "1e-4..1e-2:log", "batch": (8, 16), "decay": np.array([0.1, 1])}, text=True)
    with pytest.raises(ConfigurationError, match="first needs values by name"):
        check_named("first", {1: 2})


def test_no_list_of_methods_is_another_thing_than_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="methods came as an empty list"):
        checked_methods([])  # before a run, which would be of the whole preset
    with pytest.raises(ConfigurationError, match="methods came as an empty list; name one"):
        everlearn.run("digits", [], runs=tmp_path / "runs", workers=0)
    assert not (tmp_path / "runs").exists()
