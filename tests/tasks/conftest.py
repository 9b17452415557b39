"""Caches of the tests' own, and no data folder but the one a test names."""

import pytest


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config

    monkeypatch.setenv("EVERLEARN_CACHE", str(tmp_path_factory.mktemp("everlearn")))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
    monkeypatch.delenv("EVERLEARN_DATA", raising=False)
