"""Crashes made to order: something happens at the n-th call of a system function; a child that is killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

CALLS = ("replace", "fsync", "rename", "mkdir")
"""Functions of `os` that a save calls."""


@contextmanager
def at_call(what: str, number: int | None, then: Callable[[], None]) -> Iterator[None]:
    """Before the `number`-th call (from 0; None: before each) of `os.NAME`, do something."""
    real, calls = getattr(os, what), [0]

    def called(*args: object, **more: object) -> object:
        calls[0] += 1
        if number is None or calls[0] == number + 1:
            then()
        return real(*args, **more)

    with patch.object(os, what, called):
        yield


def in_a_child(do: Callable[[], object], kill_after: float | None = None) -> int:
    """Do something in a forked process; return its status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            do()
            status = 0
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
