"""Concurrent requests are answered together, and each gets its own answers."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from torch import Tensor

from everlearn.serving.batching import Batcher, Job


class Counting:
    """In the place of a generation: the probability of the only class is the image's level."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        self.fault: Exception | None = None

    def ask(self, task: str, pixels: Tensor) -> Tensor:
        self.hold.wait(5)
        self.sizes.append(len(pixels))
        if self.fault:
            raise self.fault
        return pixels.mean((1, 2, 3)).unsqueeze(1) * (2 if task == "double" else 1)


def job(loaded: Counting, *levels: int, task: str = "one") -> Job:
    images = np.stack([np.full((2, 2), level, np.uint8) for level in levels])
    made = Job.__new__(Job)  # not by __init__, whose types are checked in the tests
    made.__dict__.update(loaded=loaded, tasks=(task,), levels=images)
    made.found = Job.__dataclass_fields__["found"].default_factory()  # type: ignore[operator]
    return made


def ask(batcher: Batcher, one: Job) -> list[float]:
    with batcher.announced() as give:
        give(one)
    return (one.found.result(5)[0] * 255).squeeze(1).round().tolist()


@pytest.fixture
def loaded() -> Counting:
    return Counting()


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher()
    batcher.start()
    yield batcher
    batcher.stop()


def test_waiting_requests_are_answered_together(batcher: Batcher, loaded: Counting) -> None:
    loaded.hold.clear()
    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(ask, batcher, job(loaded, 250))
        while batcher._jobs.qsize():
            pass
        rest = [pool.submit(ask, batcher, job(loaded, i, i + 100)) for i in range(20)]
        while batcher._jobs.qsize() < 20:
            pass
        loaded.hold.set()
        assert first.result() == [250]
        assert [one.result() for one in rest] == [[i, i + 100] for i in range(20)]
    assert loaded.sizes == [1, 32, 8]


def test_large_requests_are_divided_and_small_ones_do_not_overfill(batcher: Batcher, loaded: Counting) -> None:
    assert ask(batcher, job(loaded, *range(150))) == list(range(150))
    assert loaded.sizes == [32, 32, 32, 32, 22]


def test_tasks_are_not_mixed(batcher: Batcher, loaded: Counting) -> None:
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(ask, batcher, job(loaded, 10))
        double = pool.submit(ask, batcher, job(loaded, 10, task="double"))
        assert (one.result(), double.result()) == ([10], [20])


def test_a_fault_is_told_to_those_who_asked_and_the_thread_goes_on(batcher: Batcher, loaded: Counting) -> None:
    loaded.fault = ValueError("broken")
    with pytest.raises(ValueError, match="broken"):
        ask(batcher, job(loaded, 1))
    loaded.fault = None
    assert ask(batcher, job(loaded, 2)) == [2]


def test_what_was_announced_and_never_came_is_not_waited_for(batcher: Batcher, loaded: Counting) -> None:
    with pytest.raises(RuntimeError, match="undecodable"), batcher.announced():
        raise RuntimeError("undecodable")
    assert batcher._announced == 0
    assert ask(batcher, job(loaded, 3)) == [3]
    assert batcher._announced == 0


def test_a_client_that_left_costs_nothing(batcher: Batcher, loaded: Counting) -> None:
    gone = job(loaded, 1)
    gone.found.cancel()
    with batcher.announced() as give:
        give(gone)
    assert ask(batcher, job(loaded, 2)) == [2]
    assert sum(loaded.sizes) == 1
