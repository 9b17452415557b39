"""A process that executes runs for another: `python -m everlearn.experiments.worker`.

Lines of JSON go both ways: a `Hello` and then one `RunConfig` at a time come on standard input, `Report`s leave on
standard output, which is theirs alone: what else is printed goes to standard error. When the input ends (the parent
closed it, or died) the worker saves a checkpoint and stops: no run is ever orphaned, and Ctrl-C, which the parent
handles, loses nothing.
"""

import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from queue import Queue

import torch
from pydantic import BaseModel

from everlearn.errors import EverlearnError
from everlearn.experiments.elsewhere import execute_at
from everlearn.experiments.execute import Place
from everlearn.experiments.records import RunConfig, StreamConfig
from everlearn.tasks import make_stream
from everlearn.tasks.task import TaskStream


class Hello(BaseModel):
    """What a worker is told first."""

    data: Path | None
    place: Place
    threads: int


class Job(BaseModel):
    """One run, and its position in the parent's list."""

    run: int
    config: RunConfig


class Report(BaseModel):
    """What is known of one run.

    Attributes:
        run: its position in the list.
        epochs: that are over, those of all attempts.
        total: epochs in all.
        phases: that are over.
        done: whether its result is written.
        error: what a user must be told, if the run could not be done.
    """

    run: int
    epochs: int
    total: int
    phases: int = 0
    done: bool = False
    error: str | None = None


class Executor:
    """Executes runs one after the other, and keeps the last stream for the next run."""

    def __init__(self, data: Path | None, place: Place, given: TaskStream | None = None) -> None:
        self.data, self.place, self.given = data, place, given
        self._config: StreamConfig | None = None
        self._stream: TaskStream | None = None

    def stream(self, config: StreamConfig) -> TaskStream:
        """The stream that a configuration names, or the one that was given."""
        if self.given is not None:
            return self.given
        if self._stream is None or config != self._config:
            self._stream = make_stream(config.name, config.seed, self.data, config.options)
            self._config = config
        return self._stream

    def run(self, job: Job) -> Generator[Report]:
        """Execute one run; closing the generator saves a checkpoint. Errors for users end in the last report."""
        last = Report(run=job.run, epochs=0, total=1)
        try:
            for progress in execute_at(job.config, self.stream(job.config.stream), self.place):
                last = Report(run=job.run, epochs=progress.epochs, total=progress.total, phases=progress.phases)
                yield last
        except EverlearnError as error:
            yield last.model_copy(update={"error": str(error)})
        else:
            yield last.model_copy(update={"epochs": last.total, "done": True})


def main() -> None:
    """Work until the input ends."""
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a user's own method or a library prints is no report
    hello = Hello.model_validate_json(sys.stdin.readline())
    torch.set_num_threads(hello.threads)
    executor = Executor(hello.data, hello.place)
    jobs: Queue[str] = Queue()
    over = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(line)
        over.set()
        jobs.put("")

    threading.Thread(target=listen, daemon=True).start()
    while not over.is_set() and (line := jobs.get()):
        run = executor.run(Job.model_validate_json(line))
        shown = -1
        for report in run:
            permille = report.epochs * 1000 // report.total
            if report.done or report.error or permille != shown:
                shown = permille
                print(report.model_dump_json(), file=reports, flush=True)
            if over.is_set():
                run.close()
                return


if __name__ == "__main__":
    main()
