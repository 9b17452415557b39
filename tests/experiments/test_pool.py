"""What a person is told of a worker process that died."""

from pathlib import Path

import pytest

import everlearn
from everlearn.errors import EverlearnError
from everlearn.experiments.pool import _TRACEBACK

METHOD = """
import os

from everlearn.methods.fine_tuning import FineTuning


class Mine(FineTuning):
    def objective(self, *asked):
        {end}
"""


def said(folder: Path, end: str) -> str:
    file = folder / "own.py"
    file.write_text(METHOD.format(end=end))
    with pytest.raises(EverlearnError) as raised:
        everlearn.run(
            "digits", [f"{file}:Mine"], trials=1, training={"epochs": 1}, runs=folder / "runs", workers=1, quiet=True
        )
    return str(raised.value)


def test_an_error_in_a_method_of_ones_own_is_told_with_its_place(tmp_path: Path) -> None:
    told = said(tmp_path, 'raise ValueError("my own bug")')
    assert told.startswith(f"{tmp_path}/own.py:Mine (trial 0): a worker process ended with status 1, by an error")
    assert f'File "{tmp_path}/own.py", line 9, in objective' in told
    assert told.endswith("ValueError: my own bug")


def test_a_killed_worker_is_told_with_its_run(tmp_path: Path) -> None:
    told = said(tmp_path, f'os.write(2, b"{_TRACEBACK}"); os.kill(os.getpid(), 9)')
    assert told == (
        f"{tmp_path}/own.py:Mine (trial 0): a worker process ended with status -9 (too little memory, usually: try "
        f"fewer workers); the same command goes on from the last checkpoints. It said: {_TRACEBACK}"
    )
