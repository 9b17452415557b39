"""Several runs at once on several machines: each run is a task of a Ray cluster.

A task's reports come back as the stream of its values, so nothing but the tasks themselves has to outlive anything.
Ray does not repeat a task: when a worker is killed or a node lost, the run is given to the cluster again from here,
and goes on from its last checkpoint. What goes over the wire is JSON.
"""

import inspect
import os
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from everlearn.errors import ConfigurationError, EverlearnError, StoreError
from everlearn.experiments import store
from everlearn.experiments.cluster import Cluster, ray_itself
from everlearn.experiments.execute import Place, check_device
from everlearn.experiments.files import explained, locked
from everlearn.experiments.records import RunConfig
from everlearn.experiments.remote import mirror_of
from everlearn.experiments.worker import Executor, Hello, Job, Report

_LOSSES = 5
"""So often a run may be lost in a row without having got farther."""
_LOCK_SECONDS = 120.0
"""So long a run waits for a lost worker to let go of its folder."""
_STOP_SECONDS = 120.0
"""So long stopped runs may take to the end of an epoch and their checkpoint."""


def run_on_ray(configs: Sequence[RunConfig], data: Path | None, place: Place, cluster: Cluster) -> Generator[Report]:
    """All runs, as many at a time as the cluster has room for; closing lets every run save a checkpoint and stop.

    Needs a connection (`connected`).
    """
    with explained(place.root):
        place.root.mkdir(parents=True, exist_ok=True)
    crew = _Crew(Hello(data=data, place=replace(place, root=place.root.absolute()), threads=1), configs, cluster)
    try:
        for i in range(len(configs)):
            crew.begin(_Attempt(i))
        while crew.running:
            yield from crew.reports()
    finally:
        crew.stop()


@dataclass(frozen=True)
class _Attempt:
    """A run that the cluster has been given: how often in a row it was lost, and how far it had come before."""

    run: int
    losses: int = 0
    reached: int = -1


class _Crew:
    """The tasks on the cluster, by the streams of their reports."""

    def __init__(self, hello: Hello, configs: Sequence[RunConfig], cluster: Cluster) -> None:
        self._ray, self._hello, self._configs = ray_itself(), hello, configs
        # Ray would repeat a task from its first report on; a run goes on from a checkpoint. So it is done here.
        options = {"num_cpus": cluster.cores, "num_gpus": cluster.gpus, "max_retries": 0, "num_returns": "streaming"}
        # Ray wants to see that it is a generator, also where something that checks types is around it.
        self._task = self._ray.remote(**options)(inspect.unwrap(_task))
        self.running: dict[Any, _Attempt] = {}
        self._reached: dict[int, int] = {}
        self._check_room(cluster)

    def begin(self, attempt: _Attempt) -> None:
        """Give a run to the cluster."""
        config = self._configs[attempt.run]
        job = Job(run=attempt.run, config=config).model_dump_json()
        name = store.run_folder(self._hello.place.root, config).name  # shown by Ray's own tools
        again = attempt.losses > 0
        stream = self._task.options(name=name).remote(
            self._hello.model_dump_json(), job, again, str(Path.cwd()), version("everlearn")
        )
        self.running[stream] = attempt

    def reports(self) -> Iterator[Report]:
        """What is new, once something is, or after some seconds."""
        ready, _ = self._ray.wait(list(self.running), num_returns=1, timeout=5)
        for stream in ready:
            try:
                report = Report.model_validate_json(self._ray.get(next(stream)))
            except StopIteration:
                del self.running[stream]
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ImportError):
                    raise EverlearnError(f"a node of the cluster lacks what a run needs: {error.cause}.") from None
                raise
            except self._ray.exceptions.RayError as error:
                yield from self._lost(self.running.pop(stream), error)
            else:
                self._reached[report.run] = report.epochs
                yield self._seen(report) if report.done else report

    def stop(self) -> None:
        """Let every run save and stop; those that have not begun never do."""
        errors = self._ray.exceptions.RayError
        for stream in self.running:
            with suppress(errors):
                self._ray.cancel(stream, force=False)
        end = time.monotonic() + _STOP_SECONDS
        while self.running and time.monotonic() < end:
            for stream in self._ray.wait(list(self.running), num_returns=1, timeout=1)[0]:
                try:
                    self._ray.get(next(stream))
                except (StopIteration, errors):
                    del self.running[stream]

    def _lost(self, attempt: _Attempt, error: Exception) -> Iterator[Report]:
        reached = self._reached.get(attempt.run, -1)
        losses = 1 if reached > attempt.reached else attempt.losses + 1
        if losses < _LOSSES:
            self.begin(_Attempt(attempt.run, losses, max(reached, attempt.reached)))
            return
        yield Report(
            run=attempt.run, epochs=0, total=1, error=f"its worker was lost {losses} times without getting farther "
            f"({type(error).__name__}: too little memory, usually); the same command goes on from the last checkpoint.",
        )  # fmt: skip

    def _seen(self, report: Report) -> Report:
        """A report that a run is done; or that its result is not to be seen from here."""
        folder = store.run_folder(self._hello.place.root, self._configs[report.run])
        if self._hello.place.url is not None or _appears(folder / store.RESULT):
            return report
        error = f"it is done, but {folder} is not to be seen from here; give a folder that all nodes share, or a URL."
        return report.model_copy(update={"done": False, "error": error})

    def _check_room(self, cluster: Cluster) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= cluster.cores and n.get("GPU", 0) >= cluster.gpus for n in nodes):
            most = ", ".join(f"{max((n.get(kind, 0) for n in nodes), default=0):g} {kind}" for kind in ("CPU", "GPU"))
            wanted = f"{cluster.cores:g} CPU and {cluster.gpus:g} GPU"
            raise ConfigurationError(
                f"a run was to have {wanted}, but no node of the cluster has that (the most are {most}); give "
                "less to each run, or let such a node join first."
            )


def _task(hello: str, job: str, again: bool, folder: str, wanted: str) -> Iterator[str]:
    """What a node does: one run. Reports leave as JSON; an interrupt, which is how Ray cancels, saves and stops.

    Args:
        hello: data and place, as JSON.
        job: the run, as JSON.
        again: whether a worker was lost with this run before.
        folder: the one that the command was given in.
        wanted: the version of everlearn there.
    """
    stopping = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopping.set())
    try:
        work = Job.model_validate_json(job)
        if why := _unfit(Hello.model_validate_json(hello), folder, wanted):
            yield Report(run=work.run, epochs=0, total=1, error=why).model_dump_json()
            return
        executor = _executor(hello)
        if again:
            _await_lock(store.run_folder(executor.place.root, work.config))
        run, shown = executor.run(work), -1
        for report in run:
            permille = report.epochs * 1000 // report.total
            if report.done or report.error or permille != shown:
                shown = permille
                yield report.model_dump_json()
            if stopping.is_set():
                run.close()
                return
    finally:
        signal.signal(signal.SIGINT, before)


def _unfit(hello: Hello, folder: str, wanted: str) -> str | None:
    """Why this node cannot do a run; None if it can."""
    node = socket.gethostname()
    if (here := version("everlearn")) != wanted:
        return f"the node {node} has everlearn {here}, but the command was given to {wanted}; install one on all nodes."
    if hello.place.url is None and not hello.place.root.is_dir():
        return (
            f"the folder {hello.place.root} does not exist on the node {node}; give a folder that all nodes share, "
            "or a URL."
        )
    try:
        check_device(hello.place.device)
    except EverlearnError as error:
        return f"on the node {node}: {error}"
    with suppress(OSError):  # a user's own files may be named from there; where it is missing, they are not found
        os.chdir(folder)
    torch.set_num_threads(hello.threads)
    return None


@lru_cache(maxsize=1)
def _executor(hello: str) -> Executor:
    """One for all runs of a worker process, so that the next run may find its stream in memory."""
    asked = Hello.model_validate_json(hello)
    place = asked.place
    return Executor(asked.data, replace(place, root=mirror_of(place.url)) if place.url else place)


def _await_lock(folder: Path) -> None:
    """Wait for a lost worker to end; if it does not, the run says so."""
    end = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < end:
        with suppress(StoreError), locked(folder) as mine:
            if mine:
                return
        time.sleep(0.2)


def _appears(file: Path, seconds: float = 10.0) -> bool:
    """Whether a file is there; a folder that machines share may be some seconds late."""
    end = time.monotonic() + seconds
    while not (there := file.exists()) and time.monotonic() < end:
        time.sleep(0.2)
    return there
