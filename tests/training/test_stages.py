"""What the loop offers to methods whose stages differ: proximal steps, stages not needed; and the ROC curve."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.experiments.checkpoint import load_state, save_state
from everlearn.experiments.plan import settings
from everlearn.methods.base import Batch, Memory, Objective, Reduction
from everlearn.methods.static import StaticTransfer
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.sharing.hard import Hard
from everlearn.testing.methods import made_stream
from everlearn.training.data import StreamData
from everlearn.training.evaluation import area_under_roc, evaluate
from everlearn.training.fit import Event, Measured, Plan, State, Tick, learn
from everlearn.training.optimisers import rate_at
from everlearn.training.settings import Training

QUICK = Training(epochs=2, batch=5, rate=1e-3, evaluate_every=1, evaluate_others_every=1)
TWELVE = made_stream(tasks=2, train=12)


@dataclass(frozen=True)
class Stages(StaticTransfer):
    """Three stages, of which the second is not needed for the second task; each step is followed by something."""

    stages: ClassVar[tuple[str, ...]] = ("first", "middle", "last")

    def needed(self, network: LifelongNetwork, memory: Memory, task: int, stage: int) -> bool:
        return (task, stage) != (1, 1)

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        known = super().objective(network, memory, task, stage, reduction)

        def after(rate: float) -> None:
            assert not torch.is_grad_enabled()
            seen = torch.tensor([[float(task), float(stage), rate]], dtype=torch.float64)
            memory["seen"] = torch.cat([memory["seen"], seen]) if "seen" in memory else seen

        def steps(batch: Batch) -> Iterator[Tensor]:
            yield known.loss(batch)
            yield known.loss(batch)

        return replace(known, after=after, steps=steps)


def prepared(training: Training = QUICK) -> tuple[Plan, State]:
    method = Stages(Hard())
    network = method.network(make_backbone("digits", (1, 8, 8)), 2, 7)
    data = StreamData(TWELVE, torch.device("cpu"), False)
    return Plan(method, data, [2, 2], training, 7), State(network)


def run(plan: Plan, state: State) -> list[Event]:
    return list(learn(plan, state))


def test_after_each_step_of_the_optimisers_comes_what_a_method_does_then() -> None:
    plan, state = prepared(QUICK)
    run(plan, state)
    # Two epochs of two batches, two steps each, in five stages.
    places = [(task, stage) for task, stage in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2)) for _ in range(8)]
    assert [(int(task), int(stage)) for task, stage, _ in state.memory["seen"].tolist()] == places
    assert state.steps == len(places) == 40
    epochs = [epoch for start in (0, 2, 4, 6, 10) for epoch in (start, start + 1) for _ in range(4)]
    rates = [rate_at(QUICK, epoch, 0, 2) for epoch in epochs]
    assert state.memory["seen"][:, 2].tolist() == rates


def test_the_epochs_of_a_stage_that_is_not_needed_pass_by() -> None:
    plan, state = prepared()
    events = run(plan, state)
    assert [(phase.first, phase.last) for phase in plan.phases()] == [(0, 6), (6, 12)]
    assert (state.epochs, state.worked) == (12, 12) == (plan.work(state.network),) * 2
    measured = sorted({e.epochs for e in events if isinstance(e, Measured) and e.training == 1})
    # Before the first stage and after its two epochs; then before the last stage, and after its epochs.
    assert measured == [6, 7, 8, 10, 11, 12]


def test_a_run_that_is_stopped_goes_on_past_a_stage_that_is_not_needed() -> None:
    plan, state = prepared()
    run(plan, state)
    ticks = sum(isinstance(event, Tick) for event in run(*prepared()))
    for stop in range(ticks):
        plan, again = prepared()
        seen = -1
        for event in learn(plan, again):
            seen += isinstance(event, Tick)
            if seen == stop:
                break
        run(plan, again)
        assert (again.epochs, again.worked, again.steps) == (state.epochs, state.worked, state.steps)
        assert torch.equal(again.memory["seen"], state.memory["seen"])
        for name, tensor in state.network.state_dict().items():
            assert torch.equal(again.network.state_dict()[name], tensor)


def test_the_seconds_of_each_phase_add_up() -> None:
    plan, state = prepared()
    run(plan, state)
    assert len(state.seconds) == 2
    assert 0 < state.seconds[0] < state.seconds[1] == state.training_seconds


def test_what_a_method_does_between_stages_counts_as_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: Stages, *_: object) -> set[str]:
        time.sleep(0.05)
        return set()

    _, quick = plan, state = prepared()
    monkeypatch.setattr(Stages, "enter", busy)
    monkeypatch.setattr(Stages, "leave", busy)
    run(plan, state)
    # Two tasks, three stages and an end each.
    assert quick.training_seconds > 8 * 0.05


def test_the_seconds_of_phases_that_are_over_come_back(tmp_path: Path) -> None:
    plan, state = prepared()
    for event in learn(plan, state):
        if isinstance(event, Tick) and state.phase == 1:
            break
    save_state(tmp_path / "state.safetensors", state, {})
    again = prepared()[1]
    load_state(tmp_path / "state.safetensors", plan, again)
    assert again.seconds == state.seconds
    assert len(again.seconds) == 1


# ------------------------------------------------------------------ the area under the ROC curve


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    # Three classes. Of the first, images 0 and 1 (scores .7, .2) against 2 and 3 (.3, .1): three pairs of four.
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]])
    labels = torch.tensor([0, 0, 1, 2])
    # Second class: image 2 (.6) against .2, .7, .1: two of three. Third: .8 is above all.
    assert area_under_roc(scores.log(), labels) == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)


def test_equal_scores_count_half() -> None:
    logits = torch.zeros(4, 2)
    assert area_under_roc(logits, torch.tensor([0, 1, 1, 0])) == pytest.approx(0.5)


def test_a_class_without_images_is_left_out() -> None:
    scores = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.55, 0.35, 0.1]])
    assert area_under_roc(scores.log(), torch.tensor([0, 1, 0])) == pytest.approx(1.0)
    assert area_under_roc(scores.log(), torch.tensor([0, 0, 0])) is None
    assert area_under_roc(torch.full((3, 3), float("nan")), torch.tensor([0, 1, 0])) is None


def test_of_a_multi_label_task_each_label_has_its_own() -> None:
    logits = torch.tensor([[2.0, -1.0], [1.0, 3.0], [0.0, 2.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert area_under_roc(logits, labels) == pytest.approx((0.5 + 1.0) / 2)


def test_it_is_measured_on_test_images_and_only_if_asked_for() -> None:
    plan, state = prepared(replace(QUICK, auroc=True))
    measured = [event for event in run(plan, state) if isinstance(event, Measured)]
    assert {event.split for event in measured if event.auroc is not None} == {"test"}
    assert all(event.auroc is not None for event in measured if event.split == "test")
    last = next(event for event in reversed(measured) if event.split == "test")
    data = plan.data[last.task]["test"]
    assert last.auroc == evaluate(state.network, last.task, data, auroc=True).auroc
    assert evaluate(state.network, last.task, data).auroc is None
    plan, state = prepared()
    assert all(event.auroc is None for event in run(plan, state) if isinstance(event, Measured))


@pytest.mark.parametrize(("given", "wanted"), [("true", True), ("no", False), (True, True), ("1", True)])
def test_a_setting_that_is_true_or_false_is_read_from_words(given: str | bool, wanted: bool) -> None:
    assert settings(Training(), {"auroc": given}).auroc is wanted


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="auroc needs true or false, but came as 'maybe'"):
        settings(Training(), {"auroc": "maybe"})
