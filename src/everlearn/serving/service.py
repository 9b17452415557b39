"""A server at work: one request's way from bytes to probabilities, and what runs beside the requests."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import numpy as np
from fastapi import Request
from torch import Tensor

from everlearn.errors import StoreError, UnknownNameError
from everlearn.serving.answers import Health
from everlearn.serving.batching import Batcher, Job
from everlearn.serving.current import Current, Loaded
from everlearn.serving.decoding import TOGETHER, decode
from everlearn.serving.limits import Limits, Refused
from everlearn.serving.measuring import Metrics
from everlearn.serving.uploads import Body, Budget, Upload, read_form, too_large
from everlearn.storing.records import Preprocessing

log = logging.getLogger("everlearn.serving")

SWITCH = 5e-5
"""Seconds for which a thread may hold Python's lock while another waits for it. A network wants the lock back after
each of its layers; by Python's default, 5 ms, it would wait for the threads that decode longer than it computes."""

EVERY = 1.0
"""Seconds between two looks for a newer generation."""


@dataclass(frozen=True)
class Asked:
    """What came of a request.

    Attributes:
        loaded: the generation that answered.
        names: of the images.
        found: the probabilities of each task that was asked, `[n, classes]`.
    """

    loaded: Loaded
    names: Sequence[str]
    found: Mapping[str, Tensor]


class Service:
    """What the paths need.

    Args:
        current: the learner.
        limits: of a request.
    """

    def __init__(self, current: Current, limits: Limits) -> None:
        self.current, self._limits = current, limits
        self.metrics = Metrics()
        self._budget = Budget(limits.bytes_together)
        self._batcher: Batcher | None = None
        self._pool: ThreadPoolExecutor | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Predict, decode and look for newer generations, for as long as it lasts."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        threads = min(8, max(1, (os.cpu_count() or 1) - 1))  # the network has a core of its own
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="everlearn-decode")
        self._batcher = Batcher(self.metrics.batches.observe)
        self._batcher.start()
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            self._batcher.stop()
            self._pool.shutdown()
            sys.setswitchinterval(before)

    async def predict(self, request: Request, task: str | None) -> Asked:
        """Answer a request.

        Raises:
            Refused: it is beyond a limit, or its images cannot be read.
        """
        loaded = self.current.loaded
        tasks, pre = _asked(loaded, task)
        with self._budget.share() as take:
            uploads = await self._read(request, take)
            job = await self._decoded(loaded, tasks, uploads, pre)
            found = await asyncio.wrap_future(job.found)
        self.metrics.images.inc(len(uploads))
        return Asked(loaded, [upload.name for upload in uploads], dict(zip(tasks, found, strict=True)))

    async def _read(self, request: Request, take: Callable[[int], None]) -> list[Upload]:
        body = Body(request.receive)
        try:
            if _stated(request) > self._limits.bytes:
                raise too_large(self._limits)
            return await read_form(request.headers.get("content-type", ""), body, self._limits, take)
        except Refused:
            if not request.headers.get("expect"):  # else it waits to be told to send
                await body.drain(self._limits.bytes)
            raise

    async def _decoded(
        self, loaded: Loaded, tasks: tuple[str, ...], uploads: Sequence[Upload], pre: Preprocessing
    ) -> Job:
        """The job of a request, given to the thread that answers."""
        assert self._batcher is not None
        loop = asyncio.get_running_loop()
        with self._batcher.announced() as give:
            parts = [uploads[start : start + TOGETHER] for start in range(0, len(uploads), TOGETHER)]
            calls = [loop.run_in_executor(self._pool, decode, part, pre, self._limits) for part in parts]
            job = Job(loaded, tasks, np.concatenate(await asyncio.gather(*calls)))
            give(job)
        return job

    async def health(self) -> Health:
        """How the server is, and whether the store has a newer generation."""
        loaded = self.current.loaded
        try:
            number, mark = await asyncio.to_thread(self.current.on_disk)
        except StoreError:
            number, mark = None, None
        return Health(
            alive=True,
            generation=loaded.generation,
            on_disk=number,
            up_to_date=mark == loaded.mark,
            problem=self.current.problem,
        )

    def numbers(self) -> bytes:
        """The metrics."""
        self.metrics.generation.set(self.current.loaded.generation)
        self.metrics.reloads.set(self.current.reloads)
        self.metrics.up_to_date.set(self.current.problem is None)
        return self.metrics.text()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await asyncio.to_thread(self.current.refresh)
            except Exception:
                log.exception("the store could not be looked at; generation %d stays", self.current.loaded.generation)


def _asked(loaded: Loaded, task: str | None) -> tuple[tuple[str, ...], Preprocessing]:
    """The tasks that are to answer, and what is done to images before.

    Raises:
        Refused: there is no such task, or none at all.
    """
    pre = loaded.preprocessing
    if pre is None:
        raise Refused(409, "the learner knows no task yet; teach it one with `everlearn learn`.")
    if pre.channels not in (1, 3):
        raise Refused(409, f"the learner's images have {pre.channels} channels, which no image file has.")
    if task is None:
        return tuple(loaded.tasks), pre
    if task not in loaded.tasks:
        raise Refused(404, str(UnknownNameError("task", task[:80], loaded.tasks)))
    return (task,), pre


def _stated(request: Request) -> int:
    stated = request.headers.get("content-length", "0")
    return int(stated) if stated.isdecimal() else 0
