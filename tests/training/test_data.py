"""Images ready to be taken: in memory, or decoded ahead; the same batches either way."""

import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import DataError
from everlearn.seeds import generator
from everlearn.tasks import Split, StoredImages, Task, TaskStream
from everlearn.tasks.pixels import Fit
from everlearn.tasks.standardising import Statistics
from everlearn.tasks.stored import ImageFiles
from everlearn.training import data as module
from everlearn.training.data import Resident, StreamData, Streamed, decode_ahead, on_device, training_batches
from tests.tasks.made import write_images

CPU = torch.device("cpu")
COUNT = 23


@pytest.fixture
def stored(tmp_path: Path) -> StoredImages:
    write_images(tmp_path, {"cat": COUNT})
    files = ImageFiles(tmp_path, tuple(f"cat/{number}.png" for number in range(COUNT)))
    by = Statistics(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4]))
    return StoredImages(files, np.arange(COUNT), Fit((4, 3)), by=(by,))


def both(stored: StoredImages, last: bool) -> tuple[Resident, Streamed]:
    labels = torch.arange(COUNT) % 2
    held = on_device(Split(stored.load(), labels), CPU, last)
    needed = on_device(Split(stored, labels), CPU, last)
    assert isinstance(held, Resident)
    assert isinstance(needed, Streamed)
    return held, needed


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("start", "limit"), [(0, None), (2, None), (4, None), (0, 11), (1, 11), (0, 3)])
def test_batches_are_the_same_in_memory_and_decoded_ahead(
    stored: StoredImages, last: bool, start: int, limit: int | None
) -> None:
    held, needed = (list(training_batches(data, 5, 7, 3, 2, start, limit)) for data in both(stored, last))
    assert [batch.step for batch in held] == list(range(start, {None: 4, 11: 2, 3: 1}[limit]))
    assert len(held) == len(needed)
    for one, other in zip(held, needed, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.images.stride() == other.images.stride()
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.index, other.index)
        assert (one.step, one.task) == (other.step, other.task) == (one.step, 3)


def test_the_order_is_the_seeds_and_a_limit_takes_its_first(stored: StoredImages) -> None:
    held, _ = both(stored, True)
    order = torch.randperm(COUNT, generator=generator(7, "order", 3, 2))
    assert torch.equal(torch.cat([b.index for b in training_batches(held, 5, 7, 3, 2, 0)]), order[:20])
    assert torch.equal(torch.cat([b.index for b in training_batches(held, 5, 7, 3, 2, 0, 11)]), order[:10])
    # Fewer than a batch make one batch.
    assert [len(b.index) for b in training_batches(held, 50, 7, 3, 2, 0)] == [COUNT]
    assert [len(b.index) for b in training_batches(held, 5, 7, 3, 2, 0, 2)] == [2]


@pytest.mark.parametrize(("start", "sizes"), [(0, [15, 5]), (3, [5]), (2, [10])])
def test_several_batches_are_given_as_one(stored: StoredImages, start: int, sizes: list[int]) -> None:
    for data in both(stored, True):
        singly = list(training_batches(data, 5, 7, 3, 2, start))
        together = list(training_batches(data, 5, 7, 3, 2, start, together=3))
        assert [len(batch.index) for batch in together] == sizes
        assert [batch.step for batch in together] == list(range(start, 4, 3))
        for name in ("images", "labels", "index"):
            whole, parts = (torch.cat([getattr(b, name) for b in some]) for some in (together, singly))
            assert torch.equal(whole, parts)


@pytest.mark.parametrize("last", [True, False])
def test_all_images_in_order(stored: StoredImages, last: bool) -> None:
    held, needed = both(stored, last)
    for one, other in zip(held.batches(10), needed.batches(10), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    for index in (slice(3, 9), torch.tensor([8, 2, 2])):
        assert torch.equal(held.take(index), needed.take(index))


def test_few_batches_are_decoded_ahead_and_the_rest_never_if_training_stops() -> None:
    begun: list[int] = []

    def decode(index: torch.Tensor) -> torch.Tensor:
        begun.append(int(index))
        return index

    batches = decode_ahead(decode, [torch.tensor(k) for k in range(50)])
    assert int(next(batches)) == 0
    time.sleep(0.1)
    assert len(begun) <= 1 + module.AHEAD
    before = threading.active_count()
    assert isinstance(batches, Iterator)
    batches.close()  # type: ignore[attr-defined]
    assert len(begun) <= 1 + module.AHEAD
    assert threading.active_count() < before


def test_results_come_in_order_whatever_is_done_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 8)

    def decode(index: torch.Tensor) -> torch.Tensor:
        time.sleep(0.002 * (int(index) % 3))
        return index

    assert [int(k) for k in decode_ahead(decode, [torch.tensor(k) for k in range(20)])] == list(range(20))


def test_an_image_that_cannot_be_decoded_is_named(stored: StoredImages, tmp_path: Path) -> None:
    (tmp_path / "cat" / "7.png").write_bytes(b"")
    needed = as_needed(stored)
    with pytest.raises(DataError, match=r"cat/7.png is empty"):
        list(training_batches(needed, 5, 7, 3, 2, 0))


def as_needed(stored: StoredImages) -> Streamed:
    needed = on_device(Split(stored, torch.arange(COUNT) % 2), CPU, True)
    assert isinstance(needed, Streamed)
    return needed


def test_memory_stays_flat(stored: StoredImages, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the training, no more batches are alive than those ahead, the one in hand and one on its way."""
    made: list[weakref.ref[torch.Tensor]] = []
    take = StoredImages.take

    def noted(self: StoredImages, index: torch.Tensor) -> torch.Tensor:
        images = take(self, index)
        made.append(weakref.ref(images))
        return images

    monkeypatch.setattr(StoredImages, "take", noted)
    most = 0
    for _ in as_needed(stored).ahead(torch.arange(COUNT).split(1)):
        time.sleep(0.005)
        most = max(most, sum(one() is not None for one in list(made)))
    assert len(made) == COUNT
    assert 1 <= most <= module.AHEAD + 2


def test_missing_splits_are_left_out() -> None:
    split = Split(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]))
    many = Split(torch.zeros(4, 1, 2, 2), torch.ones(4, 3))
    tasks = (
        Task("gone", ("a", "b")),
        Task("kept", ("a", "b"), test=split),
        Task("new", ("a", "b", "c"), many, many, many),
    )
    data = StreamData(TaskStream("s", 0, tasks), CPU, True)
    assert [sorted(data[task]) for task in range(3)] == [[], ["test"], ["test", "train", "validation"]]
    batch = next(training_batches(data[2]["train"], 3, 0, 2, 0, 0))
    assert (batch.labels.shape, batch.task) == ((3, 3), 2)
