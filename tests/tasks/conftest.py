"""Caches of the tests' own, and no data folder but the one a test names."""

from pathlib import Path

import pytest

from tests.tasks.hundred import write_set


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config

    monkeypatch.setenv("EVERLEARN_CACHE", str(tmp_path_factory.mktemp("everlearn")))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
    monkeypatch.delenv("EVERLEARN_DATA", raising=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds a made-up CIFAR-100."""
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "cifar100")
    return folder
