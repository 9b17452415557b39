"""Concurrent requests gathered into batches, and answered by one thread, which alone runs the networks.

A batch ends when it is full, when nothing that was announced is missing, or when it has waited long enough. Whoever
asks announces it before decoding, so that a single client never waits for others that do not come.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from everlearn.serving.current import Loaded
from everlearn.tasks.pixels import to_float

WAIT = 0.005
"""Seconds that a batch waits for more at most."""
ENOUGH = 32
"""Images that no batch waits with."""
MOST = 32
"""Images that a network gets at a time."""


@dataclass
class Job:
    """The images of one request.

    Attributes:
        loaded: the generation that answers; a request keeps the one that it began with.
        tasks: that are asked.
        levels: `[n, H, W]` or `[n, H, W, 3]`, 8-bit.
        found: the probabilities of each task, `[n, classes]`.
    """

    loaded: Loaded
    tasks: tuple[str, ...]
    levels: np.ndarray
    found: "Future[list[Tensor]]" = field(default_factory=lambda: Future[list[Tensor]]())


class Batcher:
    """The thread that answers.

    Args:
        seen: called with the number of images of each batch.
    """

    def __init__(self, seen: Callable[[int], None] = lambda _: None) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._seen, self._announced, self._lock = seen, 0, threading.Lock()
        self._thread = threading.Thread(target=self._work, name="everlearn-predict", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what is there, and end."""
        self._jobs.put(None)
        self._thread.join()

    @contextmanager
    def announced(self) -> Iterator[Callable[[Job], None]]:
        """Say that a job will come; yields what to give it to."""
        given = False
        with self._lock:
            self._announced += 1

        def give(job: Job) -> None:
            nonlocal given
            given = True
            self._jobs.put(job)

        try:
            yield give
        finally:
            if not given:
                self._arrived()

    def _arrived(self) -> None:
        with self._lock:
            self._announced -= 1

    def _work(self) -> None:
        while True:
            jobs, ended = self._gather()
            for group in _groups(jobs):
                self._seen(sum(len(job.levels) for job in group))
                _answer(group)
            if ended:
                return

    def _gather(self) -> tuple[list[Job], bool]:
        """The next jobs; and whether they are the last."""
        jobs: list[Job] = []
        images, until = 0, 0.0
        while images < MOST:
            try:
                job = self._jobs.get(timeout=self._patience(images, until) if jobs else None)
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            self._arrived()
            until = until if jobs else perf_counter() + WAIT
            jobs.append(job)
            images += len(job.levels)
        return jobs, False

    def _patience(self, images: int, until: float) -> float:
        if images >= ENOUGH or not self._announced:
            return 0.0
        return max(0.0, until - perf_counter())


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that the same networks answer, together."""
    groups: dict[tuple[int, tuple[str, ...]], list[Job]] = {}
    for job in jobs:
        if job.found.set_running_or_notify_cancel():  # not if the client has gone
            groups.setdefault((id(job.loaded), job.tasks), []).append(job)
    return list(groups.values())


def _answer(jobs: Sequence[Job]) -> None:
    first = jobs[0]
    try:
        levels = np.concatenate([job.levels for job in jobs])
        parts = [to_float(levels[start : start + MOST]) for start in range(0, len(levels), MOST)]
        found = [torch.cat([first.loaded.ask(task, part) for part in parts]) for task in first.tasks]
    except Exception as error:  # it belongs to those who asked; this thread goes on
        for job in jobs:
            job.found.set_exception(error)
        return
    sizes = [len(job.levels) for job in jobs]
    for job, rows in zip(jobs, zip(*(part.split(sizes) for part in found), strict=True), strict=True):
        job.found.set_result(list(rows))
