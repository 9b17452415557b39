"""What both workers say to the driver: a line of JSON for each epoch, and one at the end.

It needs the standard library alone. A worker does an epoch for each line that it reads, so that two never run at once.
"""

import json
import os
import sys
from collections.abc import Sequence
from time import perf_counter, process_time


class Turns:
    """A worker's side. What else a library prints goes to the standard error."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._cpu = self._wall = 0.0

    def wait(self) -> None:
        """Wait for the next turn, and start the clocks; leave if nobody is there any more."""
        if not sys.stdin.readline():
            sys.exit(1)
        self._wall, self._cpu = perf_counter(), process_time()

    def over(self) -> None:
        """Stop the clocks and say what they show."""
        self._say(cpu=process_time() - self._cpu, wall=perf_counter() - self._wall)

    def done(self, accuracies: Sequence[float], steps: int, versions: str) -> None:
        """Say how it ended: test accuracies of all tasks, and how many steps were taken."""
        self._say(accuracies=list(accuracies), steps=steps, versions=versions)

    def _say(self, **what: object) -> None:
        self._answers.write(json.dumps(what) + "\n")
        self._answers.flush()
