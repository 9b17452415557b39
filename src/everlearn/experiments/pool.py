"""Several runs at once: worker processes of one thread each.

One thread a process is the fastest use of a few cores for networks of this size. The workers are ordinary
subprocesses that talk in lines of JSON, so a script or a notebook needs no `if __name__ == "__main__"`.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import IO

import torch

from everlearn.errors import EverlearnError
from everlearn.experiments.execute import Place
from everlearn.experiments.plan import spelt
from everlearn.experiments.records import RunConfig
from everlearn.experiments.worker import Executor, Hello, Job, Report
from everlearn.tasks.task import TaskStream


def run_here(
    configs: Sequence[RunConfig], data: Path | None, place: Place, given: TaskStream | None = None
) -> Generator[Report]:
    """One run after the other in this process, on the given stream if there is one; closing saves a checkpoint."""
    executor = Executor(data, place, given)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has: sums over several threads may differ in their last bits
    try:
        for i, config in enumerate(configs):
            yield from executor.run(Job(run=i, config=config))
    finally:
        torch.set_num_threads(threads)


def run_in_processes(
    configs: Sequence[RunConfig], data: Path | None, place: Place, workers: int, threads: int = 1
) -> Generator[Report]:
    """All runs, `workers` at a time; closing the generator lets every worker save a checkpoint and stop.

    Raises:
        EverlearnError: a worker died.
    """
    messages: Queue[tuple[int, Report | None]] = Queue()
    hello = Hello(data=data, place=place, threads=threads)
    crew: list[_Worker] = []
    todo = [Job(run=i, config=config) for i, config in reversed(list(enumerate(configs)))]
    try:
        for number in range(min(workers, len(configs))):
            crew.append(_Worker(number, hello, messages))
            crew[-1].send(todo.pop())
        working = len(crew)
        while working:
            number, report = messages.get()
            if report is None:
                raise crew[number].died()
            yield report
            if not (report.done or report.error):
                continue
            if todo:
                crew[number].send(todo.pop())
            else:
                working -= 1
    finally:
        for worker in crew:
            worker.stop()
        for worker in crew:
            worker.join()


_TRACEBACK = "Traceback (most recent call last):"
_LINES = 60
"""So many lines of a traceback are shown, the last ones."""


class _Worker:
    """One subprocess, and a thread that reads what it reports."""

    def __init__(self, number: int, hello: Hello, messages: "Queue[tuple[int, Report | None]]") -> None:
        self._number, self._messages = number, messages
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `join`)
        self._stopping, self._run = False, ""
        threads = {name: str(hello.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "everlearn.experiments.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env={**os.environ, **threads},
            start_new_session=True,  # Ctrl-C in the terminal is for the parent alone
        )
        self._write(hello.model_dump_json())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, job: Job) -> None:
        self._run = f"{spelt(job.config)} (trial {job.config.trial})"
        self._write(job.model_dump_json())

    def stop(self) -> None:
        self._stopping = True
        if self._process.stdin:
            with suppress(BrokenPipeError):  # it is dead already
                self._process.stdin.close()

    def join(self) -> None:
        self._process.wait()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        self._complaints.close()

    def died(self) -> EverlearnError:
        status = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        own = [place for place, line in enumerate(lines) if line == _TRACEBACK]
        if own and status == 1:  # of a method of the user's own, or ours: whoever mends it needs the place
            return EverlearnError(
                f"{self._run}: a worker process ended with status {status}, by an error of the program. Once it is "
                "mended, or this run left out, the same command goes on from the last checkpoints. It said:\n"
                + "\n".join(lines[own[0] :][-_LINES:])
            )
        said = f" It said: {lines[-1]}" if lines else ""
        hint = " (too little memory, usually: try fewer workers)" if status == -9 else ""
        return EverlearnError(
            f"{self._run}: a worker process ended with status {status}{hint}; the same command goes on from the last "
            f"checkpoints.{said}"
        )

    def _write(self, line: str) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the reader sees the end of its output and reports it

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._messages.put((self._number, Report.model_validate_json(line)))
        if not self._stopping:
            self._messages.put((self._number, None))
