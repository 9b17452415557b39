"""A learner of two small tasks, made once, and a copy of it for each test."""

import shutil
from pathlib import Path

import pytest

from everlearn.learner import Learner
from everlearn.testing.methods import made_stream

QUICK = {"epochs": 1, "batch": 10, "evaluate_every": 1}
STREAM = made_stream(tasks=4)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learner") / "vision"
    learner = Learner.create(folder, method="hps", backbone="digits", training=QUICK)
    learner.learn("birds", STREAM.tasks[0], keep_validation=5)
    learner.learn("fish", STREAM.tasks[1])
    return folder


@pytest.fixture
def vision(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "vision"))
