"""What a stage leaves as it is: computed once for each image, of the right images, and never instead of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from everlearn.methods.base import Batch, Memory, Method, Objective, Reduction
from everlearn.methods.feature_extraction import FeatureExtraction
from everlearn.methods.fine_tuning import HEAD, FineTuning
from everlearn.methods.progressive import ProgressiveNet
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.testing.methods import made_stream
from everlearn.training import evaluation
from everlearn.training import keeping as module
from everlearn.training.data import TrainingData
from everlearn.training.keeping import filled, keep
from everlearn.training.precision import layers_in
from everlearn.training.settings import Training
from tests.methods.family import QUICK, at_stage, batch_of, begun, learned, numbers, same, small

METHODS = [FineTuning(), FeatureExtraction(hidden=6), ProgressiveNet(1.0), ProgressiveNet(1.0, "together")]


def brought(objective: Objective, seen: list[Batch]) -> Objective:
    """The objective, with a note of each batch that its loss is asked for."""

    def loss(batch: Batch) -> Tensor:
        seen.append(batch)
        return objective.loss(batch)

    return replace(objective, loss=loss)


def keeping(objective: Objective, images: Mapping[int, TrainingData], training: Training, seed: int) -> Objective:
    """The objective of whose images what is still is kept."""
    return filled(objective, keep(objective, images, training, seed))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_loss_of_what_was_kept_is_the_loss(method: Method) -> None:
    plan, state = begun(method, backbone=small(norm=True))
    learned(plan, state, at_stage(1, HEAD))
    objective = method.objective(state.network, state.memory, 1, state.stage, "mean")
    seen: list[Batch] = []
    kept = keeping(brought(objective, seen), {1: plan.data[1]["train"]}, plan.training, 0)
    batch = batch_of(plan, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = objective.loss(batch)
        torch.manual_seed(0)
        torch.testing.assert_close(kept.loss(batch), expected)
    assert objective.still is not None
    assert len(seen[-1].still) > 0
    for mine, theirs in zip(seen[-1].still, objective.still(batch.images), strict=True):
        torch.testing.assert_close(mine, theirs)
    for other in (replace(batch, plain=False), replace(batch, task=0)):
        kept.loss(other)
        assert seen[-1].still == (), "augmented images, or another task's, have what another image has"


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_whoever_changes_a_batch_has_what_belongs_to_it(method: Method) -> None:
    """A method of one's own may flip images, and says so, or take them in another order."""
    plan, state = begun(method, backbone=small(norm=True, dropout=0.0))
    learned(plan, state, at_stage(1, HEAD))
    inner, other = plan.method.objective(state.network, state.memory, 1, state.stage, "mean"), batch_of(plan, 1)
    turned = torch.arange(len(other.labels)).flip(0)
    state.network.eval()
    for change in (
        lambda batch: replace(batch, images=batch.images.flip(3), plain=False),
        lambda batch: replace(
            batch, images=batch.images[turned], labels=batch.labels[turned], index=batch.index[turned]
        ),
    ):
        wrapped = replace(inner, loss=lambda batch, change=change: inner.loss(change(batch)))
        kept = keeping(wrapped, {1: plan.data[1]["train"]}, plan.training, 0)
        torch.testing.assert_close(kept.loss(other), wrapped.loss(other), rtol=1e-5, atol=1e-6)
    flipped = inner.loss(replace(other, images=other.images.flip(3)))
    assert not torch.allclose(flipped, inner.loss(other), rtol=1e-5, atol=1e-6), "it would not be seen"


def test_what_is_not_at_rest_is_drawn_from_the_seed() -> None:
    """And no draw of others moves by it."""
    plan, _ = begun(FineTuning())

    def still(images: Tensor) -> tuple[Tensor, ...]:
        return (torch.rand(len(images)),)

    found = []
    for seed in (1, 1, 2):
        torch.rand(3)
        before = torch.get_rng_state()
        seen: list[Batch] = []
        objective = brought(Objective({}, lambda batch: batch.images.sum(), still=still), seen)
        keeping(objective, {0: plan.data[0]["train"]}, Training(), seed).loss(batch_of(plan, 0))
        assert torch.equal(before, torch.get_rng_state())
        found.append(seen[-1].still[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_layout_of_rows_stays() -> None:
    plan, _ = begun(FineTuning())
    for layout in (torch.channels_last, torch.contiguous_format):
        seen: list[Batch] = []

        def still(images: Tensor, layout: torch.memory_format = layout) -> tuple[Tensor, ...]:
            return (images.repeat(1, 3, 1, 1).contiguous(memory_format=layout),)

        objective = brought(Objective({}, lambda batch: batch.images.sum(), still=still), seen)
        batch = batch_of(plan, 0)
        keeping(objective, {0: plan.data[0]["train"]}, Training(), 0).loss(batch)
        assert torch.equal(seen[-1].still[0], batch.images.repeat(1, 3, 1, 1))
        assert seen[-1].still[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_is_kept_is_used(method: Method) -> None:
    plan, state = begun(method)
    learned(plan, state, at_stage(1, HEAD))
    objective, batch = method.objective(state.network, state.memory, 1, state.stage, "mean"), batch_of(plan, 1)
    assert objective.still is not None
    still = objective.still(batch.images)

    def loss(rows: Sequence[Tensor]) -> Tensor:
        torch.manual_seed(0)
        return objective.loss(replace(batch, kept=tuple(rows), index=torch.arange(len(batch.labels))))

    with torch.random.fork_rng():
        expected = loss(still)
        for place in range(len(still)):
            changed = [row + float(place == other) for other, row in enumerate(still)]
            assert not torch.allclose(loss(changed), expected), place


def rows_of(images: Tensor) -> tuple[Tensor, ...]:
    """A number of an image, twice."""
    return images.flatten(1).sum(1), images.flatten(1).sum(1, keepdim=True) * 2


def test_as_much_is_kept_as_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two splits of 30 images with 8 bytes each: both, one, none."""
    plan, _ = begun(FineTuning())
    splits = {task: plan.data[task]["train"] for task in (0, 1)}
    sizes = {task: len(split.labels) for task, split in splits.items()}
    for limit, places in ((8 * sum(sizes.values()), {0, 1}), (8 * sizes[0], {0}), (8 * sizes[0] - 1, set())):
        monkeypatch.setattr(module, "KEPT", limit)
        seen: list[Batch] = []
        objective = brought(Objective({}, lambda batch: batch.images.sum(), still=rows_of), seen)
        kept = keeping(objective, splits, Training(), 0)
        for task in splits:
            batch = batch_of(plan, task)
            kept.loss(batch)
            assert (seen[-1].still != ()) == (task in places)
            if task in places:
                for mine, theirs in zip(seen[-1].still, rows_of(batch.images), strict=True):
                    torch.testing.assert_close(mine, theirs)


def test_as_many_images_at_a_time_as_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that evaluations may have what is kept: to the bit what they would compute."""
    plan, _ = begun(FineTuning())
    seen: list[int] = []

    def still(images: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(images))
        return (images.flatten(1).sum(1),)

    monkeypatch.setattr(evaluation, "ON_CPU", 7)
    keep(Objective({}, lambda batch: batch.images.sum(), still=still), {0: plan.data[0]["train"]}, Training(), 0)
    count = len(plan.data[0]["train"].labels)
    assert seen == [1, *[7] * (count // 7), *([count % 7] if count % 7 else [])]


def test_several_losses_a_batch_have_it_too() -> None:
    plan, _ = begun(FineTuning())
    objective = Objective(
        {}, lambda batch: batch.still[0].sum(), lambda batch: iter([batch.still[0].sum()] * 2), still=rows_of
    )
    batch = batch_of(plan, 0)
    found = list(keeping(objective, {0: plan.data[0]["train"]}, Training(), 0).losses(batch))
    torch.testing.assert_close(torch.stack(found), batch.images.sum().repeat(2))


def test_in_the_precision_of_the_layers() -> None:
    plan, state = begun(FeatureExtraction(hidden=6))
    learned(plan, state, at_stage(1, 0))
    objective = plan.method.objective(state.network, state.memory, 1, 0, "mean")
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        seen: list[Batch] = []
        training = replace(plan.training, precision=precision)
        kept = keeping(brought(objective, seen), {1: plan.data[1]["train"]}, training, 0)
        with layers_in(precision, torch.device("cpu")):
            kept.loss(batch_of(plan, 1))
        assert seen[-1].still[0].dtype == dtype


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_with_it_kept_the_same_is_learned(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """With augmented images to the bit, as nothing is kept of them."""
    found = []
    for limit in (module.KEPT, 0):
        monkeypatch.setattr(module, "KEPT", limit)
        plan, state = begun(method, made_stream(tasks=2), backbone=small(dropout=0.0))
        learned(plan, state)
        found.append(numbers(state))
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-4, atol=1e-5)
    augmented = []
    for limit in (2**29, 0):
        monkeypatch.setattr(module, "KEPT", limit)
        plan, state = begun(method, made_stream(tasks=2), training=replace(QUICK, augment="flip"))
        learned(plan, state)
        augmented.append(numbers(state))
    assert same(*augmented)


@dataclass(frozen=True)
class Counted(FeatureExtraction):
    """Counts how many images what is still is computed of."""

    seen: list[int] = field(default_factory=list[int])

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        found = super().objective(network, memory, task, stage, reduction)
        inner = found.still
        if inner is None:
            return found

        def still(images: Tensor) -> tuple[Tensor, ...]:
            self.seen.append(len(images))
            return inner(images)

        return replace(found, still=still)


def test_nothing_is_computed_twice_and_nothing_where_images_are_augmented() -> None:
    """But for one image, by which it is known how much there will be; images that are evaluated are never augmented."""
    for augment, expected in (("", True), ("flip", False)):
        method = Counted(hidden=6)
        plan, state = begun(method, made_stream(tasks=2), training=replace(QUICK, augment=augment))
        learned(plan, state)
        sizes = {name: len(data.labels) for name, data in plan.data[1].items()}
        train = sizes.pop("train")
        assert method.seen == ([1, train, *sizes.values()] if expected else [train, *sizes.values()])


def test_nothing_is_kept_where_all_tasks_objectives_are_there_at_once() -> None:
    for protocol, expected in (("multi-task", False), ("lifelong", True)):
        method = Counted(hidden=6)
        plan, state = begun(method, made_stream(tasks=2), training=replace(QUICK, protocol=protocol))
        learned(plan, state)
        assert state.steps > 0
        assert (sorted(method.seen)[:1] == [1]) == expected, "one image tells how much there will be"
