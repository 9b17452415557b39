import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from everlearn.errors import StoreError
from everlearn.experiments import files, store
from everlearn.experiments.execute import Place, execute
from everlearn.experiments.records import RunConfig
from everlearn.tasks import make_stream
from everlearn.training.settings import Training
from tests.experiments.test_resume import config_of, run_through


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return run_through(config_of("stl"), tmp_path)


def test_pandas_reads_the_records_in_one_line(finished: Path) -> None:
    table = pd.read_json(finished / "accuracy.jsonl", lines=True)
    assert list(table.columns) == ["epoch", "training", "task", "split", "accuracy", "loss"]
    assert set(table.task) == {"0-vs-1", "2-vs-3", "4-vs-5", "6-vs-7", "8-vs-9"}
    assert table.accuracy.between(0, 1).all()


def test_the_result_counts_what_was_done(finished: Path) -> None:
    result = store.read_run(finished).result
    assert result is not None
    assert (result.epochs, result.steps) == (30, 120)  # 5 tasks x 6 epochs; 40 images in batches of 10
    assert result.parameters["total"] == result.parameters["own"] + result.parameters["head"]
    assert result.training_seconds > 0


def test_a_runs_name_depends_on_everything_that_changes_its_numbers() -> None:
    base = config_of("stl")
    changed = [
        config_of("hps"),
        config_of("stl", rate=0.5),
        base.model_copy(update={"trial": 1}),
        base.model_copy(update={"options": {"orthogonality": 0.5}}),
        base.model_copy(update={"backbone": "cifar"}),
        base.model_copy(update={"stream": base.stream.model_copy(update={"seed": 1})}),
        base.model_copy(update={"code": {"mine.py:Mine": "abc"}}),
    ]
    assert len({store.run_id(config) for config in [base, *changed]}) == 8
    assert store.run_id(RunConfig.model_validate_json(base.model_dump_json())) == store.run_id(base)


def test_a_runs_name_never_changes() -> None:
    """Stored runs are found by their name: if this fails, every run on every disk would be done again."""
    config = RunConfig.model_validate(
        {"stream": {"name": "digits", "seed": 0}, "method": "stl", "backbone": "digits",
         "training": Training(epochs=3), "trial": 0}
    )  # fmt: skip
    assert store.run_id(config) == "257e78141a8d7db5"


def test_a_newer_schema_is_refused(finished: Path) -> None:
    for name in (store.RUN, store.RESULT):
        content = json.loads((finished / name).read_text())
        (finished / name).write_text(json.dumps(content | {"schema_version": 99}))
        with pytest.raises(StoreError, match=r"newer everlearn \(its schema is 99; this one reads up to 1\)"):
            store.read_run(finished)
        (finished / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (store.RUN, b"{", "cannot be read"),
        (store.RUN, b"[]", "is damaged"),
        (store.RUN, b'{"schema_version": 1}', "is damaged: id: field required"),
        (store.RESULT, b"\xff\xfe", "cannot be read"),
        (store.ACCURACY, b'{"epoch": -}\n', "is damaged"),
    ],
)
def test_damage_is_named(finished: Path, name: str, content: bytes, why: str) -> None:
    (finished / name).write_bytes(content)
    with pytest.raises(StoreError, match=why) as caught:
        store.read_run(finished)
    assert str(finished) in str(caught.value)


def test_no_folder_and_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        store.find_runs(tmp_path / "none")
    with pytest.raises(StoreError, match=r"there is no run\.json"):
        store.read_run(tmp_path)
    assert store.find_runs(tmp_path) == []


def _half(config: RunConfig, root: Path) -> Path:
    run = execute(config, make_stream("digits", 0), Place(root))
    for _ in range(8):
        next(run)
    run.close()
    return store.run_folder(root, config)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    config = config_of("stl")
    checkpoint = _half(config, tmp_path) / store.CHECKPOINT
    whole = checkpoint.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], b"\xff" * 50):
        checkpoint.write_bytes(content)
        with pytest.raises(StoreError, match="is damaged"):
            next(execute(config, make_stream("digits", 0), Place(tmp_path)))


def test_another_stream_is_not_mixed_in(tmp_path: Path) -> None:
    config = config_of("stl")
    _half(config, tmp_path)
    with pytest.raises(StoreError, match="are not those that"):
        next(execute(config, make_stream("digits", 1), Place(tmp_path)))


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    config = config_of("stl")
    run = execute(config, make_stream("digits", 0), Place(tmp_path))
    next(run)
    with pytest.raises(StoreError, match="another process is working"):
        next(execute(config, make_stream("digits", 0), Place(tmp_path)))
    run.close()


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    files.write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StoreError, match=r"the disk that holds .* is full"):
        files.write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert path.read_bytes() == b"old"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="could not be written"), files.locked(tmp_path / "file" / "run"):
        pass
