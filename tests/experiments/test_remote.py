"""Run folders at a URL: what is fetched and sent, in which order, and what a person is told."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

import everlearn
from everlearn.errors import ConfigurationError, StoreError
from everlearn.experiments import store
from everlearn.experiments.elsewhere import execute_at, keep_page, local_of
from everlearn.experiments.execute import Place
from everlearn.experiments.files import locked
from everlearn.experiments.presets import PRESETS
from everlearn.experiments.remote import Remote, mirror_of
from everlearn.experiments.worker import Executor, Job
from everlearn.tasks import make_stream
from everlearn.training.settings import Training
from tests.experiments.test_resume import QUICK, config_of, run_through, same

URL = "memory://runs/here"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("EVERLEARN_SCRATCH", str(tmp_path / "scratch"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def there(system: Any) -> set[str]:
    return {path.rpartition("/")[2] for path in system.find("/runs/here")}


def test_another_machine_goes_on_bit_for_bit(memory: Any, tmp_path: Path) -> None:
    """Each visit has a mirror of its own, as if it were another machine each time."""
    config, stream = config_of("hps"), make_stream("digits", 0)
    visits = []
    for visit in range(20):
        place = Place(tmp_path / f"machine-{visit}", keep_weights=True, url=URL)
        run = execute_at(config, stream, place)
        seen = [step.epochs for step in itertools.islice(run, 9)]
        run.close()
        visits.append(seen)
        if store.RESULT in there(memory):
            break
        assert store.CHECKPOINT in there(memory)
    assert len(visits) > 3
    assert all(later[0] >= earlier[-1] for earlier, later in itertools.pairwise(filter(None, visits)))
    assert there(memory) == {store.RUN, store.ACCURACY, store.WEIGHTS, store.RESULT}
    last = store.run_folder(tmp_path / f"machine-{len(visits) - 1}", config)
    assert same(run_through(config, tmp_path / "whole"), last)
    name = store.run_folder(Path("/runs/here"), config)
    assert memory.cat_file(f"{name}/{store.ACCURACY}") == (last / store.ACCURACY).read_bytes()


def test_every_checkpoint_is_sent(memory: Any, tmp_path: Path) -> None:
    config = config_of("stl")
    run = Executor(None, Place(tmp_path, checkpoint_seconds=0.0, url=URL)).run(Job(run=0, config=config))
    path = f"{store.run_folder(Path('/runs/here'), config)}/{store.CHECKPOINT}"
    sent = set()
    for _ in itertools.islice(run, 5):
        sent.add(memory.cat_file(path))
    run.close()
    assert len(sent) == 5


def test_the_result_goes_last_and_the_journals_before_the_checkpoint(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    put = Remote.put
    monkeypatch.setattr(Remote, "put", lambda self, file, name: (sent.append(file.name), put(self, file, name))[1])
    config, stream = config_of("stl"), make_stream("digits", 0)
    place = Place(tmp_path, url=URL, keep_weights=True)
    run = execute_at(config, stream, place)
    next(run)
    run.close()
    assert sent == [store.RUN, store.ACCURACY, store.CHECKPOINT]
    sent.clear()
    list(execute_at(config, stream, place))
    assert sent == [store.ACCURACY, store.WEIGHTS, store.RESULT], "what has not changed is not sent again"


def test_a_whole_experiment_and_its_page(memory: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"trials": 1, "training": {**QUICK, "epochs": 1}, "workers": 0, "runs": URL}
    first = everlearn.run("digits", ["stl"], **asked)
    assert first[0].folder.parent == mirror_of(URL)
    before = (first[0].folder / store.RESULT).read_bytes()
    for file in first[0].folder.iterdir():
        file.unlink()
    again = everlearn.run("digits", ["stl"], **asked)
    assert (again[0].folder / store.RESULT).read_bytes() == before, "it was fetched, and not done again"
    # What is removed there is done again, whatever the mirror has.
    memory.rm(str(store.run_folder(Path("/runs/here"), again[0].run.config)), recursive=True)
    memory.invalidate_cache()
    third = everlearn.run("digits", ["stl"], **asked)
    assert (third[0].folder / store.RESULT).read_bytes() != before
    assert store.RESULT in there(memory)


def test_a_journal_shorter_than_its_checkpoint_says_is_no_ground(memory: Any, tmp_path: Path) -> None:
    config, stream = config_of("hps"), make_stream("digits", 0)
    place = Place(tmp_path / "part", keep_weights=True, url=URL)
    run = execute_at(config, stream, place)
    for _ in itertools.islice(run, 9):
        pass
    run.close()
    memory.pipe_file(f"{store.run_folder(Path('/runs/here'), config)}/{store.ACCURACY}", b"")
    steps = [step.epochs for step in execute_at(config, stream, place)]
    assert steps[0] <= 1, "it begins anew"
    assert same(run_through(config, tmp_path / "whole"), store.run_folder(place.root, config))


def test_a_folder_in_work_is_left_alone(memory: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with locked(folder), pytest.raises(StoreError, match="another process is working on"):
        Remote(URL).fetch(folder)


def test_a_file_system_that_moves_shows_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(f"file://{tmp_path}/there")
    file = tmp_path / "file"
    file.write_text("old")
    remote.put(file, "run/file")
    file.write_text("new")
    target = tmp_path / "there" / "run" / "file"

    def broken(source: str, target: str) -> None:
        assert Path(source).read_text() == "new"
        raise PermissionError("not here")

    with monkeypatch.context() as patch:
        patch.setattr(remote._fs, "mv", broken)
        with pytest.raises(StoreError, match=r"could not be written: PermissionError: not here; see to it"):
            remote.put(file, "run/file")
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file"], "nothing half is left"
    remote.put(file, "run/file")
    assert target.read_text() == "new"


def test_an_error_of_the_url_ends_a_run_with_a_sentence(memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/runs/here", b"a file where the folder should be")
    *_, last = Executor(None, Place(tmp_path, url=URL)).run(Job(run=0, config=config_of("stl")))
    assert last.error is not None
    assert URL in last.error


def test_the_mirror_of_starts_lies_below_that_of_the_runs() -> None:
    assert mirror_of(URL + "/starts") == mirror_of(URL + "/") / "starts"
    assert mirror_of(URL) != mirror_of(URL + "2")


def test_a_url_that_is_a_root_stays_one(memory: Any, tmp_path: Path) -> None:
    urls = {"memory://": "memory://", "memory:///": "memory:///", "memory://x//": "memory://x", "file:///": "file:///"}
    assert {url: Remote(url).url for url in urls} == urls
    assert {"dev", "usr"} <= set(Remote("file:///").names())
    assert mirror_of("memory:///starts") == mirror_of("memory://") / "starts"
    (tmp_path / "page").write_text("a page")
    assert keep_page(tmp_path / "page", "memory://").startswith("memory://page (here: ")
    assert memory.cat_file("/page") == b"a page"
    assert Remote("memory://").names() == []


@pytest.mark.parametrize("url", ["file://", "local://"])
def test_a_url_without_a_folder_is_not_where_the_command_is_given(url: str) -> None:
    with pytest.raises(ConfigurationError, match="names no folder; give a whole path, such as file:///home"):
        Remote(url)


@pytest.mark.parametrize(("url", "said"), [("nothing://x", "Protocol not known"), ("oci://x/y", "package|Install")])
def test_a_url_that_nothing_knows(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Remote(url)


def test_a_run_that_goes_on_from_a_start(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trained network is fetched with what goes on from it."""
    first = Training(epochs=1, rate=1e-3, reduction="sum", evaluate_every=1)
    monkeypatch.setitem(PRESETS, "digits", replace(PRESETS["digits"], first=first))
    quick = {"epochs": 1, "evaluate_every": 1}
    run = everlearn.run("digits", ["lwf"], trials=1, training=quick, workers=0, quiet=True, runs=URL)[0]
    assert run.run.config.start.startswith("run:")
    assert any("/starts/" in path and path.endswith("trained.safetensors") for path in memory.find("/runs/here"))
    memory.rm(f"/runs/here/{run.folder.name}", recursive=True)
    list(execute_at(run.run.config, make_stream("digits", 0), Place(tmp_path / "elsewhere", url=URL)))
    again = tmp_path / "elsewhere" / run.folder.name
    assert (again / store.ACCURACY).read_bytes() == (run.folder / store.ACCURACY).read_bytes()


def test_what_is_read_is_what_is_there(memory: Any) -> None:
    with pytest.raises(StoreError, match="there are no runs at memory://runs/here"):
        local_of(URL)
    asked: dict[str, Any] = {"trials": 1, "training": {**QUICK, "epochs": 1}, "workers": 0, "runs": URL}
    run = everlearn.run("digits", ["stl", "hps"], **asked)[0]
    memory.rm(f"/runs/here/{run.folder.name}", recursive=True)
    assert [found.run.config.method for found in store.find_runs(local_of(URL))] == ["hps"]
