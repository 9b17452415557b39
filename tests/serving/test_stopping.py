"""`everlearn serve` in a process of its own, stopped from outside."""

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest


@pytest.mark.parametrize("times", [1, 2])
def test_it_stops_without_a_traceback_however_often_it_is_told(original: Path, times: int) -> None:
    command = [sys.executable, "-m", "everlearn.cli", "serve", str(original), "--port", "0"]
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # as no shell's background job has it
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=listen
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().partition(" is served at ")[2].split()[0]
        with urlopen(f"{address}/health", timeout=30) as answer:  # it is in its loop
            assert answer.status == 200
        for _ in range(times):
            server.send_signal(signal.SIGINT)
            time.sleep(0.05)
        said, _ = server.communicate(timeout=60)
    assert server.returncode == 130
    assert said == ""
