"""Answers from what a stage leaves as it is: those of the network to the bit, and computed once for each image."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from everlearn.methods.base import Memory, Method, Objective, Reduction
from everlearn.methods.expansion import Expansion
from everlearn.methods.feature_extraction import FeatureExtraction
from everlearn.methods.fine_tuning import HEAD, FineTuning
from everlearn.methods.lwf import Lwf
from everlearn.methods.progressive import ProgressiveNet
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.testing.methods import made_stream
from everlearn.training import evaluation, fit
from everlearn.training import keeping as module
from everlearn.training.evaluation import answered
from everlearn.training.keeping import Known, Rows
from tests.methods.family import QUICK, at_stage, begun, learned, numbers, same, small

METHODS = [FineTuning(), Lwf(), FeatureExtraction(hidden=6), Expansion(layers=1, nodes=2), ProgressiveNet(1.0)]

Listed = list[tuple[Tensor, Tensor]]


def equal(some: Listed, others: Listed) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("limit", [2**30, 2**9, 0], ids=["kept", "in part", "too-large"])
def test_they_are_the_networks_own(method: Method, limit: int) -> None:
    plan, state = begun(method, backbone=small(norm=isinstance(method, FineTuning | FeatureExtraction)))
    learned(plan, state, at_stage(1, HEAD))
    objective = method.objective(state.network, state.memory, 1, state.stage, "mean")
    known = Known(objective, partial(state.network, task=1), limit)
    state.network.eval()
    for _ in range(3):
        for split, data in plan.data[1].items():
            answers = known.of(split, data)
            assert answers is not None
            with torch.no_grad():
                assert equal(list(answers(3)), list(answered(state.network, 1, data, 3)))
                torch.nn.init.normal_(next(iter(state.network.head(1).parameters())))  # the head moves meanwhile


def test_there_are_none_where_what_is_still_is_not_enough() -> None:
    plan, _ = begun(FineTuning())
    data = plan.data[0]["test"]
    whole = counting([])
    assert Known(whole, torch.sum, 0).of("test", data) is not None
    assert Known(replace(whole, answer=None), torch.sum, 0).of("test", data) is None
    assert Known(replace(whole, still=None), torch.sum, 0).of("test", data) is None


def doubled(images: Tensor) -> Tensor:
    """What the network answers that `counting` belongs to."""
    return images.flatten(1).sum(1, keepdim=True) * 2


def counting(seen: list[int]) -> Objective:
    """Two numbers an image are still (8 bytes), and their sum is the answer."""

    def still(images: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(images))
        return images.flatten(1).sum(1), images.flatten(1).sum(1, keepdim=True)

    def answer(kept: tuple[Tensor, ...], images: Callable[[], Tensor]) -> Tensor:
        assert torch.equal(kept[0], images().flatten(1).sum(1))
        return kept[0][:, None] + kept[1]

    return Objective({}, lambda batch: batch.images.sum(), still=still, answer=answer)


def test_as_much_is_kept_as_fits() -> None:
    """Whole splits first come first served, then whole batches of one; the last batch of the first split is short."""
    plan, _ = begun(FineTuning())
    splits = {name: plan.data[0][name] for name in ("train", "test")}
    train, test = (len(split.labels) for split in splits.values())
    assert test > 6
    assert train % 6
    rooms = {train + test: (train, test), train + 9: (train, 6), train: (train, 0), 8: (6, 0), 5: (0, 0)}
    for room, kept in rooms.items():
        seen: list[int] = []
        known = Known(counting(seen), doubled, 8 * room)
        for again in range(3):
            for (name, data), held in zip(splits.items(), kept, strict=True):
                seen.clear()
                answers = known.of(name, data)
                assert answers is not None
                found = list(answers(6))
                first = 6 if held == 0 else 0  # of the first batch it is seen that there is no room
                assert sum(seen) == (first if again else max(held, 6))
                expected = doubled(data.take(slice(None)))
                torch.testing.assert_close(torch.cat([logits for logits, _ in found]), expected)
                assert torch.equal(torch.cat([labels for _, labels in found]), data.labels)


@pytest.mark.parametrize(
    ("free", "cores", "expected"),
    [(2**34, 2, 2**31), (2**34, 4, 2**30), (2**34, 16, 2**29), (2**20, 1, 2**29)],
    ids=["at most 2 GB", "a part of what is free", "at least half a GB", "little free"],
)
def test_room_is_what_processes_side_by_side_have(
    free: int, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(module.os, "cpu_count", lambda: cores)
    assert module.room(torch.device("cpu")) == expected
    monkeypatch.setattr(module, "world", lambda: 2)
    assert module.room(torch.device("cpu")) == module.LEAST, "processes that train together keep the same"


def test_a_run_keeps_what_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    class Told(Known):
        def __init__(self, objective: Objective, run: Callable[[Tensor], Tensor], room: int, train: Rows = ()) -> None:
            given.append(room)
            super().__init__(objective, run, room, train)

    monkeypatch.setattr(fit, "Known", Told)
    monkeypatch.setattr(fit, "room", lambda device: 12345)
    plan, state = begun(FineTuning())
    learned(plan, state, at_stage(1, HEAD, 1))
    assert set(given) == {12345}


def test_what_is_not_kept_the_network_is_asked_for() -> None:
    """So that processes which train together each compute their own part of it."""
    plan, _ = begun(FineTuning())
    data, asked = plan.data[0]["train"], list[int]()

    def run(images: Tensor) -> Tensor:
        asked.append(len(images))
        return doubled(images)

    known = Known(counting([]), run, 8 * 6)
    for _ in range(2):
        asked.clear()
        answers = known.of("train", data)
        assert answers is not None
        list(answers(6))
        assert sum(asked) == len(data.labels) - 6


def test_a_run_that_goes_on_at_the_end_of_a_stage_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, state = begun(FineTuning())
    learned(plan, state, at_stage(1, HEAD))
    state.epoch = plan.method.epochs(HEAD, plan.training.epochs, 1)
    monkeypatch.setattr(fit, "_objective", lambda *_: pytest.fail("there is no epoch left"))
    assert list(fit._stage(plan, state, plan.phases()[1])) == []


def test_what_was_broken_off_does_not_count_as_kept() -> None:
    plan, _ = begun(FineTuning())
    seen: list[int] = []
    known, data = Known(counting(seen), doubled, 2**20), plan.data[0]["test"]
    answers = known.of("test", data)
    assert answers is not None
    next(answers(3))
    seen.clear()
    list(answers(3))
    assert sum(seen) == len(data.labels)


@dataclass(frozen=True)
class Counted(FeatureExtraction):
    """Counts the images that the trunk is run for."""

    seen: list[int] = field(default_factory=list[int])

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        found = super().objective(network, memory, task, stage, reduction)

        def counted(images: Tensor, task: int) -> Tensor:
            self.seen.append(len(images))
            return LifelongNetwork.features(network, images, task)

        network.features = counted  # type: ignore[method-assign]
        return found


def test_a_trunk_at_rest_is_run_once_for_each_image() -> None:
    """And for one to see how much there is: for steps and evaluations together, and also for that before any step."""
    training = replace(QUICK, evaluate_every=1)
    method = Counted(hidden=6)
    plan, state = begun(method, made_stream(tasks=2), training=training)
    learned(plan, state, at_stage(1, 0))
    method.seen.clear()
    learned(plan, state)
    sizes = {name: len(data.labels) for name, data in plan.data[1].items()}
    assert sum(method.seen) == 1 + sum(sizes.values())


@pytest.mark.parametrize("make", [FineTuning, Lwf, lambda: FeatureExtraction(hidden=6), ProgressiveNet])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("room", [2**30, 0], ids=["kept", "too-large"])
def test_a_run_finds_the_same_to_the_bit(
    room: int, precision: str, make: Callable[[], Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations are in float32 whatever steps are in, and of several batches."""
    monkeypatch.setattr(evaluation, "ON_CPU", 6)
    monkeypatch.setattr(fit, "room", lambda device: room)
    found = []
    for answers in (True, False):
        if not answers:
            monkeypatch.setattr(Known, "of", lambda self, split, data: None)
        plan, state = begun(make(), training=replace(QUICK, evaluate_every=1, precision=precision))
        found.append((learned(plan, state), numbers(state)))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_none_where_all_tasks_objectives_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Known, "of", lambda self, split, data: asked.append(split))
    plan, state = begun(FineTuning(), training=replace(QUICK, evaluate_every=1))
    learned(plan, state, at_stage(1, HEAD, 1))
    assert asked
    asked.clear()
    plan, state = begun(FineTuning(), training=replace(QUICK, protocol="multi-task", evaluate_every=1))
    learned(plan, state)
    assert not asked
