"""Runs on a Ray cluster: two nodes on this machine, workers killed, a node lost."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import everlearn
from everlearn.errors import ConfigurationError, EverlearnError
from everlearn.experiments import on_ray, store
from everlearn.experiments.cluster import Cluster, cluster_of, connected
from everlearn.experiments.execute import Place
from everlearn.experiments.on_ray import run_on_ray
from everlearn.experiments.records import RunConfig
from everlearn.experiments.remote import mirror_of
from everlearn.experiments.worker import Report
from everlearn.testing.methods import made_stream
from tests.experiments.test_resume import QUICK, config_of, run_through, same

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

LONG = {"epochs": 20}


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A cluster whose two nodes have one core each, and a connection of this process to it."""
    from ray.cluster_utils import Cluster as Local

    # By Ray's default its workers give way to every other process, and on a busy machine never come to work.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield from _two_nodes(Local)


def _two_nodes(kind: Any) -> Iterator[Any]:
    local = kind(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    local.add_node(num_cpus=1)
    try:
        with connected(Cluster(local.address)):
            yield local
    finally:
        local.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RunConfig], Path]:
    """A run that was left in peace, in this process; done once."""
    root = tmp_path_factory.mktemp("whole")
    return lambda config: run_through(config, root)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The runs that the cluster was given, each time."""
    given: list[int] = []
    begin = on_ray._Crew.begin

    def noted(crew: Any, attempt: Any) -> None:
        given.append(attempt.run)
        begin(crew, attempt)

    monkeypatch.setattr(on_ray._Crew, "begin", noted)
    return given


def processes(folder: Path) -> list[int]:
    """The processes that have a file of this folder open."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and any(
                Path(os.readlink(file)).is_relative_to(folder) for file in (process / "fd").iterdir()
            ):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def named(config: RunConfig) -> list[int]:
    """The processes that Ray has given the name of a run's task."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            title = (process / "cmdline").read_text() if process.name.isdecimal() else ""
            if title.startswith(f"ray::{store.run_folder(Path(), config).name}"):
                found.append(int(process.name))
    return found


def warm_up(cluster: Any) -> None:
    """Have a worker on each node that has imported what it needs, so that two runs begin at the same time."""

    def busy() -> None:
        import everlearn.experiments.execute  # noqa: F401

        time.sleep(2)

    import ray

    task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(busy)
    ray.get([task.remote() for _ in cluster.list_all_nodes()])


def followed(configs: list[RunConfig], place: Place, at: int, then: Callable[[], None]) -> list[Report]:
    """The reports of runs on the cluster; once the first run has so many epochs, something happens."""
    seen: list[Report] = []
    done = False
    for report in run_on_ray(configs, None, place, Cluster()):
        seen.append(report)
        if not done and report.run == 0 and report.epochs >= at:
            then()
            done = True
    assert done
    return seen


def test_the_numbers_are_those_of_this_process(two_nodes: Any, tmp_path: Path) -> None:
    arguments = {"trials": 1, "training": {"epochs": 2, "evaluate_every": 1}, "keep_weights": True, "quiet": True}
    here = everlearn.run("digits", ["stl", "hps"], runs=tmp_path / "here", workers=0, **arguments)
    there = everlearn.run("digits", ["stl", "hps"], runs=tmp_path / "there", ray=two_nodes.address, **arguments)
    assert len(there) == 2
    for first, second in zip(here, there, strict=True):
        assert same(first.folder, second.folder)
        assert second.result is not None
        assert second.result.machine["threads"] == 1


def test_a_finished_run_is_not_given_to_the_cluster(two_nodes: Any, tmp_path: Path, begun: list[int]) -> None:
    for _ in range(2):
        everlearn.run(
            "digits", ["stl"], trials=1, training={"epochs": 1}, runs=tmp_path, ray=two_nodes.address, quiet=True
        )
    assert begun == [0]


def test_a_killed_worker_costs_what_came_after_its_checkpoint(
    two_nodes: Any, tmp_path: Path, whole: Callable[[RunConfig], Path], begun: list[int]
) -> None:
    config = config_of("stl", **LONG)
    killed: list[int] = []
    place = Place(tmp_path / "killed", checkpoint_seconds=0.0, keep_weights=True)

    def kill() -> None:
        killed.extend(processes(place.root))
        for process in killed:
            os.kill(process, signal.SIGKILL)

    place.root.mkdir()
    seen = followed([config], place, 30, kill)
    assert len(killed) == 1
    assert begun == [0, 0], "it was killed in the middle, and given to the cluster again"
    assert seen[-1].done
    epochs = [report.epochs for report in seen]
    since = epochs[next(i for i, e in enumerate(epochs) if e >= 30) :]
    assert min(since) >= 30, "it went on, and did not begin anew"
    assert same(whole(config), store.run_folder(place.root, config))


def test_a_lost_node_loses_nothing_else(
    two_nodes: Any, tmp_path: Path, whole: Callable[[RunConfig], Path], begun: list[int]
) -> None:
    configs = [config_of("hps", epochs=60), config_of("stl", epochs=60)]
    place = Place(tmp_path / "lost", checkpoint_seconds=0.0, keep_weights=True)
    place.root.mkdir()
    warm_up(two_nodes)
    lost = list(two_nodes.worker_nodes)

    def lose() -> None:
        end = time.monotonic() + 120  # until both work: there is a checkpoint of each
        while not all((store.run_folder(place.root, c) / store.CHECKPOINT).exists() for c in configs):
            assert time.monotonic() < end
            assert not any((store.run_folder(place.root, c) / store.RESULT).exists() for c in configs), "too short"
            time.sleep(0.01)
        two_nodes.remove_node(lost[0], allow_graceful=False)

    try:
        seen = followed(configs, place, 5, lose)
    finally:
        two_nodes.add_node(num_cpus=1)
    assert len(lost) == 1
    assert sorted(begun[:2]) == [0, 1]
    assert len(begun) == 3, "the run of the lost node was given to the other one, and no other"
    assert [report.epochs for report in seen if report.run == begun[2]].count(0) <= 1, "it did not begin anew"
    for config in configs:
        assert same(whole(config), store.run_folder(place.root, config))


def test_closing_saves_and_the_same_request_goes_on(
    two_nodes: Any, tmp_path: Path, whole: Callable[[RunConfig], Path]
) -> None:
    config = config_of("hps", **LONG)
    place = Place(tmp_path / "closed", keep_weights=True)  # a checkpoint a minute: none without the closing
    reports = run_on_ray([config], None, place, Cluster())
    reached = next(report.epochs for report in reports if report.epochs >= 20)
    reports.close()
    folder = store.run_folder(place.root, config)
    assert (folder / store.CHECKPOINT).exists()
    again = [report.epochs for report in run_on_ray([config], None, place, Cluster())]
    assert again[0] >= reached
    assert same(whole(config), folder)


def test_an_error_in_a_task_is_the_same_sentence(two_nodes: Any, tmp_path: Path) -> None:
    config = config_of("stl", epochs=1)
    run_through(config, tmp_path)
    folder = store.run_folder(tmp_path, config)
    (folder / store.RESULT).unlink()
    record = folder / store.RUN
    record.write_text(record.read_text().replace('"fingerprint": "', '"fingerprint": "other'))
    with pytest.raises(EverlearnError, match=r"^stl \(trial 0\): the images of stream 'digits' are not those"):
        everlearn.run(
            "digits", ["stl"], trials=1, training={**QUICK, "epochs": 1}, runs=tmp_path, ray=two_nodes.address
        )


def test_runs_at_a_url(
    two_nodes: Any, tmp_path: Path, whole: Callable[[RunConfig], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes of the cluster fetch and send; the one that began a run is not the one that goes on."""
    monkeypatch.setenv("EVERLEARN_SCRATCH", str(tmp_path / "scratch"))
    url = f"file://{tmp_path}/store"
    config = config_of("hps", **LONG)
    place = Place(mirror_of(url), keep_weights=True, url=url)
    reports = run_on_ray([config], None, place, Cluster())
    reached = next(report.epochs for report in reports if report.epochs >= 20)
    reports.close()
    stored = store.run_folder(tmp_path / "store", config)
    assert (stored / store.CHECKPOINT).exists()
    again = [report.epochs for report in run_on_ray([config], None, place, Cluster())]
    assert again[0] >= reached
    assert not (stored / store.CHECKPOINT).exists()
    assert same(whole(config), stored)
    found = everlearn.run(
        "digits", ["hps"], trials=1, training={**QUICK, **LONG}, runs=url, keep_weights=True, workers=0
    )
    assert same(found[0].folder, stored), "it is read, and not done again"


def test_a_run_that_is_lost_again_and_again_ends_with_a_sentence(
    two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "_LOSSES", 2)
    config, over = config_of("hps", epochs=1000), threading.Event()

    def kill() -> None:
        while not over.wait(0.01):
            for process in named(config):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        *_, last = run_on_ray([config], None, Place(tmp_path), Cluster())
    finally:
        over.set()
        killer.join()
    assert last.error is not None
    assert "lost 2 times without getting farther" in last.error


def test_more_than_a_node_has_is_refused(two_nodes: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"2 CPU and 0 GPU, but no node .* \(the most are 1 CPU, 0 GPU\)"):
        list(run_on_ray([config_of("stl")], None, Place(tmp_path), Cluster(cores=2)))


# ---------------------------------------------------------------- without a cluster


def test_resources_are_checked() -> None:
    assert cluster_of("auto", None, None, "cuda") == Cluster("auto", 1.0, 1.0)
    assert cluster_of("auto", 0.5, None, "cpu") == Cluster("auto", 0.5, 0.0)
    for cores, gpus, device, said in [
        (1, None, "cuda:1", "Ray says which GPU"), (0, None, "cpu", "cores_per_run"), (1, 0.5, "cpu", "device cuda"),
        (1, 1.5, "cuda", "whole number"), (1, 0, "cuda", "gpus_per_run"), (float("nan"), None, "cpu", "cores_per_run"),
    ]:  # fmt: skip
        with pytest.raises(ConfigurationError, match=said):
            cluster_of("auto", cores, gpus, device)


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"pip install everlearn\[ray\]"):
        everlearn.run("digits", ["stl"], runs=tmp_path / "runs", ray="auto")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"ray": "auto", "workers": 2}, "both were asked for"),
        ({"gpus_per_run": 0.5}, "gpus_per_run is of a Ray cluster"),
        ({"cores_per_run": 1.0}, "cores_per_run is of a Ray cluster"),
        ({"ray": ""}, "came empty"),
        ({"ray": " "}, "came empty"),
        ({"ray": "127.0.0.1:1"}, "nobody listens at 127.0.0.1:1"),
        ({"ray": "ray://there:10001"}, "HOST:PORT or auto"),
        ({"ray": "there"}, "HOST:PORT or auto"),
        ({"runs": "nothing://there"}, "URL that fsspec knows"),
        ({"runs": "memory://there"}, "workers=0"),
    ],
)
def test_what_cannot_be_is_refused(
    asked: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("EVERLEARN_SCRATCH", str(tmp_path / "scratch"))
    with pytest.raises(ConfigurationError, match=said):
        everlearn.run("digits", ["stl"], **{"runs": tmp_path / "runs", **asked})
    assert list(tmp_path.iterdir()) == []


def test_tasks_of_ones_own_stay_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="learned in this process"):
        everlearn.run(made_stream(), ["stl"], backbone="digits", runs=tmp_path / "runs", ray="auto")
    assert not (tmp_path / "runs").exists()
