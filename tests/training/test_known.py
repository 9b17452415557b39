"""Answers from what a stage leaves as it is: those of the network to the bit, and computed once for each image."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
from everlearn.training import keeping as module
from everlearn.training.evaluation import answered
from everlearn.training.keeping import Known
from tests.methods.family import QUICK, at_stage, begun, learned, numbers, same, small

METHODS = [FineTuning(), Lwf(), FeatureExtraction(hidden=6), Expansion(layers=1, nodes=2)]

Listed = list[tuple[Tensor, Tensor]]


def equal(some: Listed, others: Listed) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("limit", [2**29, 0], ids=["kept", "too-large"])
def test_they_are_the_networks_own(method: Method, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", limit)
    plan, state = begun(method, backbone=small(norm=isinstance(method, FineTuning | FeatureExtraction)))
    learned(plan, state, at_stage(1, HEAD))
    known = Known(method.objective(state.network, state.memory, 1, state.stage, "mean"))
    state.network.eval()
    for _ in range(3):
        for split, data in plan.data[1].items():
            answers = known.of(split, data)
            assert answers is not None
            with torch.no_grad():
                assert equal(list(answers(3)), list(answered(state.network, 1, data, 3)))
                torch.nn.init.normal_(next(iter(state.network.head(1).parameters())))  # the head moves meanwhile


def test_there_are_none_where_the_head_needs_more() -> None:
    plan, state = begun(ProgressiveNet(1.0))
    learned(plan, state, at_stage(1, 0))
    objective = plan.method.objective(state.network, state.memory, 1, 0, "mean")
    assert objective.still is not None
    assert Known(objective).of("test", plan.data[1]["test"]) is None
    assert Known(Objective({}, lambda batch: batch.images.sum())).of("test", plan.data[1]["test"]) is None


def counting(seen: list[int]) -> Objective:
    """Two numbers an image are still (8 bytes), and their sum is the answer."""

    def still(images: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(images))
        return images.flatten(1).sum(1), images.flatten(1).sum(1, keepdim=True)

    def answer(kept: tuple[Tensor, ...]) -> Tensor:
        return kept[0][:, None] + kept[1]

    return Objective({}, lambda batch: batch.images.sum(), still=still, answer=answer)


def test_as_much_is_kept_as_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = begun(FineTuning())
    splits = {name: plan.data[0][name] for name in ("train", "test")}
    sizes = {name: len(split.labels) for name, split in splits.items()}
    for limit, places in ((8 * sum(sizes.values()), {"train", "test"}), (8 * sizes["train"], {"train"}), (8, set())):
        monkeypatch.setattr(module, "KEPT", limit)
        seen: list[int] = []
        known = Known(counting(seen))
        for again in range(2):
            for name, data in splits.items():
                seen.clear()
                answers = known.of(name, data)
                assert answers is not None
                found = list(answers(4))
                assert sum(seen) == (0 if again and name in places else sizes[name])
                expected = data.take(slice(None)).flatten(1).sum(1, keepdim=True) * 2
                torch.testing.assert_close(torch.cat([logits for logits, _ in found]), expected)
                assert torch.equal(torch.cat([labels for _, labels in found]), data.labels)


def test_what_was_broken_off_does_not_count_as_kept() -> None:
    plan, _ = begun(FineTuning())
    seen: list[int] = []
    known, data = Known(counting(seen)), plan.data[0]["test"]
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
    """And of one to see how much there is: for the steps, for the evaluations between, and for that at the start."""
    training = replace(QUICK, evaluate_every=1)
    method = Counted(hidden=6)
    plan, state = begun(method, made_stream(tasks=2), training=training)
    learned(plan, state, at_stage(1, 0))
    method.seen.clear()
    learned(plan, state)
    sizes = {name: len(data.labels) for name, data in plan.data[1].items()}
    assert sum(method.seen) == 1 + sizes["train"] + 2 * sum(sizes.values())


@pytest.mark.parametrize("make", [FineTuning, Lwf, lambda: FeatureExtraction(hidden=6)], ids=["ft", "lwf", "fe"])
def test_a_run_finds_the_same_to_the_bit(make: Callable[[], Method], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for answers in (True, False):
        if not answers:
            monkeypatch.setattr(Known, "of", lambda self, split, data: None)
        plan, state = begun(make(), training=replace(QUICK, evaluate_every=1))
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
