"""Kill -9 a process that teaches a learner, at random moments, and look at what it left.

    python benchmarks/kill_learner.py [--kills 200] [--method lwf]

Every other kill comes while the folder is written, the others at any moment of the lesson. Each time the store has to
open, its old tasks have to answer bit for bit as before, and `check` has to find no damage; at last the task has to be
learned. Prints one line; leaves with status 1 at the first failure.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import everlearn
from everlearn.storing.checking import check
from everlearn.testing.methods import made_stream

torch.set_num_threads(1)
STREAM = made_stream(tasks=4)
IMAGES = torch.cat([task.test.images for task in STREAM.tasks if task.test])


def lesson(folder: Path, writing: Callable[[], None]) -> None:
    """Learn the third task; say when the folder begins to be written."""
    learner = everlearn.open(folder)
    write = learner._store.write

    def told(record, files):
        writing()
        return write(record, files)

    object.__setattr__(learner._store, "write", told)
    learner.learn("more", STREAM.tasks[2], training={"epochs": 2})


def child(folder: Path) -> tuple[int, int]:
    """Begin the lesson in a child; return its process, and a pipe that a byte comes through when it writes."""
    receive, send = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            lesson(folder, lambda: os.write(send, b"w") and None)
        finally:
            os._exit(0)
    os.close(send)
    return process, receive


def durations(folder: Path) -> tuple[float, float]:
    """Seconds of a lesson until the folder is written, and of the writing."""
    begun = time.monotonic()
    process, receive = child(folder)
    os.read(receive, 1)
    wrote = time.monotonic()
    os.waitpid(process, 0)
    os.close(receive)
    return wrote - begun, time.monotonic() - wrote


def answers(folder: Path) -> list[object]:
    """What the old tasks answer."""
    learner = everlearn.open(folder)
    return [learner.predict(IMAGES, name) for name in ("birds", "fish")]


def main() -> int:
    """Kill, look, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--method", default="lwf")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "vision"
    quick = {"epochs": 1, "batch": 10, "evaluate_every": 1}
    learner = everlearn.Learner.create(folder, method=asked.method, backbone="digits", training=quick)
    learner.learn("birds", STREAM.tasks[0])
    base = learner.learn("fish", STREAM.tasks[1]).generation
    before, draw = answers(folder), random.Random(0)
    learning, writing = durations(folder)
    base = everlearn.open(folder).rollback(base)
    killed = {"learning": 0, "writing": 0}
    switched = too_late = 0
    while sum(killed.values()) < asked.kills:
        process, receive = child(folder)
        where = "writing" if sum(killed.values()) % 2 else "learning"
        if where == "writing":
            os.read(receive, 1)
            time.sleep(draw.uniform(0, writing))
        else:
            time.sleep(draw.uniform(0, learning))
        os.kill(process, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        os.close(receive)
        if status == -signal.SIGKILL:
            killed[where] += 1
        else:
            too_late += 1
        found = everlearn.open(folder)
        if check(folder).damage or found.generation not in (base, base + 1):
            print(f"damaged after {sum(killed.values())} kills: {check(folder).damage}, generation {found.generation}")
            return 1
        if found.generation == base + 1:
            switched += status == -signal.SIGKILL
            if "more" not in found.tasks:
                print("a generation without what it is for")
                return 1
            base = found.rollback(base)
        if answers(folder) != before:
            print(f"old tasks answer otherwise after {sum(killed.values())} kills")
            return 1
    lesson(folder, lambda: None)
    print(
        f"{sum(killed.values())} kills ({killed['learning']} while learning, {killed['writing']} while writing; "
        f"{too_late} more came too late): the store opened every time, old tasks answered bit for bit as before, no "
        f"damage; {switched} times the new generation was in place already; learning again succeeded."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
