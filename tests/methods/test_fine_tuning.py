"""Fine-tuning and its relatives: what moves, what is held, what strength 0 and a frozen trunk mean."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.methods.base import Batch, Memory, Method, Reduction
from everlearn.methods.catalogue import make_method
from everlearn.methods.ewc import Ewc
from everlearn.methods.feature_extraction import FeatureExtraction
from everlearn.methods.fine_tuning import ALL, HEAD, FineTuning, Term
from everlearn.methods.joint import JointTraining
from everlearn.methods.l2 import L2
from everlearn.methods.lwf import Lwf
from everlearn.methods.springs import Springs
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.trunks import at_rest, features_of, logits_of_tasks
from everlearn.testing.methods import made_stream
from everlearn.training.fit import learn
from tests.methods.family import (
    QUICK,
    answers,
    at_stage,
    batch_of,
    begun,
    learned,
    multi_label_stream,
    numbers,
    same,
    small,
)

BOUND: dict[str, Method] = {
    "lwf": Lwf(), "lwf-live": Lwf(responses="live"), "lwf-l1": Lwf(response="l1"), "l2": L2(lambda_c=5.0),
    "ewc": Ewc(lambda_ewc=50.0), "ewc-online": Ewc(springs="online", lambda_ewc=50.0),
}  # fmt: skip


@pytest.mark.parametrize(
    "method",
    [Lwf(lambda_old=0.0), Lwf(lambda_old=0.0, responses="live"), L2(lambda_c=0.0), Ewc(lambda_ewc=0.0, warm_up=0.25)],
)
def test_strength_zero_is_fine_tuning_to_the_bit(method: Method) -> None:
    expected, found = begun(FineTuning()), begun(method)
    assert learned(*expected) == learned(*found)
    assert same(numbers(expected[1]), numbers(found[1]))


@pytest.mark.parametrize("name", BOUND)
def test_a_term_that_is_on_holds_what_is_old(name: str) -> None:
    """What the term measures ends smaller than in fine-tuning, which does not know of it."""
    plan, state = begun(BOUND[name], backbone=small(dropout=0.0))
    learned(plan, state, at_stage(1, ALL))
    network, batch = state.network, batch_of(plan, 1, 20)
    springs = BOUND[name].holds(network, state.memory, 1)
    term = BOUND[name].term(network, state.memory, 1, "mean") or (lambda _, __: _by_autograd(springs))
    start = copy.deepcopy(network.requires_grad_(True).state_dict())
    found = []
    for bound in (False, True):
        network.load_state_dict(start)
        optimiser = torch.optim.SGD(network.parameters(), 0.05)
        for _ in range(30):
            features = features_of(network, batch.images, [1, 0])
            added = term(batch, features)
            loss = F.cross_entropy(network.head(1)(features[1]), batch.labels)
            optimiser.zero_grad()
            (loss + added if bound else loss).backward()
            optimiser.step()
        found.append(float(term(batch, features_of(network, batch.images, [1, 0])).detach()))
    least = 0.0 if name.startswith(("l2", "ewc")) else _least(term, start, network, batch)
    assert found[1] - least < 0.5 * (found[0] - least)


def _by_autograd(springs: Springs | None) -> Tensor:
    assert springs is not None
    rows = zip(springs.held, springs.anchors, springs.stiffness or [1.0] * len(springs.held), strict=True)
    return springs.strength / 2 * sum(((a * (p - b).square()).sum() for p, b, a in rows), torch.zeros(()))


def _least(term: Term, start: dict[str, Tensor], network: LifelongNetwork, batch: Batch) -> float:
    """What the term is where nothing has changed: a distribution's cross-entropy with itself is not zero."""
    network.load_state_dict(start)
    return float(term(batch, features_of(network, batch.images, [1, 0])).detach())


@pytest.mark.parametrize("name", BOUND)
def test_a_term_that_does_nothing_is_told(name: str) -> None:
    method = BOUND[name]
    plan, state = begun(method)
    learned(plan, state, at_stage(1, ALL, epoch=1))
    assert method.doubts(state.network, state.memory, [1]) == []
    springs = method.holds(state.network, state.memory, 1)
    assert float(state.memory["bound"] if springs is None else springs.energy()) > 0
    state.memory["bound"] = torch.zeros(())
    for parameter, anchor in zip(springs.held, springs.anchors, strict=True) if springs else ():
        parameter.data.copy_(anchor)
    assert "was zero in every batch of task 2" in method.doubts(state.network, state.memory, [1])[0]
    assert method.doubts(state.network, state.memory, [0]) == []
    assert FineTuning().doubts(state.network, state.memory, [1]) == []


def test_a_warning_reaches_the_state() -> None:
    # Dead units all through: no weight of the trunk ever moves, so the springs are never stretched.
    backbone = small()
    with torch.no_grad():
        backbone.blocks[2][1].bias.fill_(-1e3)
    plan, state = begun(L2(), backbone=replace(backbone, start="given"))
    learned(plan, state)
    assert len(state.warnings) == 2
    assert "L2" in state.warnings[0]


def test_the_head_alone_moves_in_the_warm_up() -> None:
    plan, state = begun(FineTuning(), backbone=small(norm=True))
    learned(plan, state, at_stage(1, HEAD))
    before = numbers(state)
    learned(plan, state, at_stage(1, ALL))
    moved = {name for name, tensor in numbers(state).items() if not torch.equal(tensor, before[name])}
    assert moved == {"tasks.1.head.1.weight", "tasks.1.head.1.bias"}


def test_responses_are_forgotten_with_the_task() -> None:
    for method in (Lwf(), Lwf(responses="live")):
        plan, state = begun(method)
        learned(plan, state)
        assert not {name for name in state.memory if name.startswith(("responses", "old/"))}


@pytest.mark.parametrize(
    "method", [FeatureExtraction(hidden=6), make_method("duplicate-and-fine-tune", "small", 3, {})]
)
def test_old_answers_stay_to_the_bit(method: Method) -> None:
    plan, state = begun(method, backbone=small(norm=True))
    learned(plan, state, at_stage(1, 0))
    before = answers(plan, state, 0)
    learned(plan, state)
    assert torch.equal(answers(plan, state, 0), before)


def test_feature_extraction_has_two_layers_of_its_own_and_their_rate() -> None:
    plan, state = begun(FeatureExtraction(hidden=6, head_rate=5.0))
    learned(plan, state, at_stage(1, 0, epoch=1))
    shapes = [tuple(p.shape) for p in state.network.head(1).parameters()]
    assert shapes == [(6, 8), (6,), (2, 6), (2,)]
    assert [group["lr"] for group in state.optimisers[1][0].param_groups] == [pytest.approx(0.25)]


def test_the_shared_rate_is_a_tenth() -> None:
    plan, state = begun(FineTuning(shared_rate=0.1))
    learned(plan, state, at_stage(1, ALL, epoch=1))
    rates = {len(group["params"]): group["lr"] for group in state.optimisers[1][0].param_groups}
    assert rates == {2: pytest.approx(0.05), 6: pytest.approx(0.005)}  # the head, and the trunk's six


def test_duplicates_start_from_the_first_network() -> None:
    plan, state = begun(make_method("duplicate-and-fine-tune", "small", 3, {}))
    learned(plan, state, at_stage(2, HEAD))
    first, third = state.network.part(0), state.network.part(2)
    assert same(dict(first.own.state_dict()), dict(third.own.state_dict()))
    assert not same(dict(first.own.state_dict()), dict(state.network.part(1).own.state_dict()))


def test_more_task_specific_layers_start_from_the_first_tasks() -> None:
    plan, state = begun(Lwf(configuration="bottom-2"))
    learned(plan, state, at_stage(1, HEAD))
    first, second = state.network.part(0), state.network.part(1)
    assert same(dict(first.own[2].state_dict()), dict(second.own[2].state_dict()))
    assert learned(plan, state)


def test_what_is_no_longer_shared_starts_from_what_the_first_task_has_there() -> None:
    plan, state = begun(FineTuning(configuration="111/110/110"), backbone=small(norm=True))
    learned(plan, state, at_stage(1, HEAD))
    first, second = (state.network.weights(2, task) for task in (0, 1))
    assert same(first, second)
    assert all(first[name] is not second[name] for name in first)


def test_lwf_by_a_loop_written_out() -> None:
    """The joint loss of a batch, and that it reaches old heads, with part of the trunk the tasks' own."""
    for configuration in ("all", "bottom-2"):
        plan, state = begun(Lwf(lambda_old=0.7, configuration=configuration), backbone=small(dropout=0.0))
        learned(plan, state, at_stage(2, ALL))
        old = copy.deepcopy(state.network).eval()
        objective = plan.method.objective(state.network, state.memory, 2, ALL, "mean")
        assert {f"tasks.{t}.head.1.weight" for t in range(3)} <= set(objective.moves)
        with torch.no_grad():
            for parameter in state.network.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        batch = batch_of(plan, 2)
        expected = F.cross_entropy(state.network(batch.images, 2), batch.labels)
        for task in range(2):
            wanted = (old(batch.images, task) / 2).softmax(1).detach()
            expected = expected - 0.7 * (wanted * (state.network(batch.images, task) / 2).log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(objective.loss(batch), expected)
        total = plan.method.objective(state.network, state.memory, 2, ALL, "sum").loss(batch)
        torch.testing.assert_close(total, 5 * expected)


def test_recorded_and_live_responses_agree() -> None:
    found = []
    for responses in ("recorded", "live"):
        plan, state = begun(Lwf(responses=responses), backbone=small(norm=True))
        learned(plan, state)
        found.append(numbers(state))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_several_labels_are_learned_and_held() -> None:
    plan, state = begun(Lwf(), multi_label_stream(), small(dropout=0.0))
    records = learned(plan, state)
    assert state.memory["several"].tolist() == [0.0, 1.0, 0.0]
    assert all(0 <= record.accuracy <= 1 for record in records)
    losses = [record.loss for record in records if record.task == 1 and record.split == "train"]
    assert losses[-1] < losses[0]


def test_learning_needs_no_image_of_an_earlier_task() -> None:
    for method in (FineTuning(), Lwf(), L2(), Ewc(), FeatureExtraction(hidden=6)):
        plan, state = begun(method)
        learned(plan, state)
        expected = numbers(state)
        plan, state = begun(method)
        for _ in learn(plan, state):
            for task in range(state.phase):
                plan.data[task]["train"].pixels.fill_(float("nan"))
        assert same(expected, numbers(state)), type(method).__name__


def test_joint_training_takes_turns_and_equally_many() -> None:
    stream = made_stream()
    plan, state = begun(JointTraining(), stream)
    learned(plan, state, at_stage(2, ALL))
    objective = plan.method.objective(state.network, state.memory, 2, ALL, "mean")
    batch = replace(batch_of(plan, 0), task=0)
    state.network.eval()
    torch.testing.assert_close(objective.loss(batch), F.cross_entropy(state.network(batch.images, 0), batch.labels))
    assert plan.method.sources(2, ALL) == (0, 1, 2)
    assert plan.method.sources(2, HEAD) == (2,)
    before = state.steps
    learned(plan, state, at_stage(2, ALL, epoch=1))
    assert state.steps - before == 3 * 4  # three tasks, four batches of five of twenty images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm_up": -1.0}, "warm_up needs a number of at least 0"),
        ({"statistics": "mine"}, "trunk or task"),
        ({"temperature": 0.0}, "temperature one above 0"),
        ({"responses": "kept"}, "recorded or live"),
    ],
)
def test_faults_in_options_are_told(options: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_method("lwf", "small", 2, options)


def test_an_unknown_response_loss_is_told() -> None:
    with pytest.raises(UnknownNameError, match="no response loss named 'kl'"):
        make_method("lwf", "small", 2, {"response": "kl"})


def test_old_tasks_follow_the_trunks_statistics_or_keep_their_own() -> None:
    for statistics in ("trunk", "task"):
        plan, state = begun(FineTuning(statistics=statistics), backbone=small(norm=True))
        learned(plan, state, at_stage(1, HEAD))
        before = {name: t.clone() for name, t in state.network.part(0).statistics.named_buffers()}
        learned(plan, state)
        old, new = (dict(state.network.part(task).statistics.named_buffers()) for task in (0, 2))
        assert same(dict(old), dict(new) if statistics == "trunk" else before)
        assert not same(dict(new), before)


def test_the_schedule_for_settings() -> None:
    assert FineTuning().epochs(HEAD, 20, 0) == 0
    assert FineTuning().epochs(HEAD, 20, 1) == 5
    assert FineTuning().epochs(ALL, 20, 1) == QUICK.epochs * 5


@dataclass(frozen=True)
class Both(L2):
    """Springs, and a term of its own."""

    def term(self, network: LifelongNetwork, memory: Memory, task: int, reduction: Reduction) -> Term | None:
        return lambda batch, features: features[task].square().mean()


def test_a_term_and_springs_go_together() -> None:
    plan, state = begun(Both(lambda_c=5.0))
    learned(plan, state, at_stage(1, ALL, epoch=1))
    method = plan.method
    objective = method.objective(state.network, state.memory, 1, ALL, "mean")
    assert objective.steps is not None
    assert objective.before is not None
    assert method.doubts(state.network, state.memory, [1]) == []
    state.memory["bound"] = torch.zeros(())
    assert len(method.doubts(state.network, state.memory, [1])) == 1, "the term did nothing, whatever the springs did"
    state.memory["batches"] = torch.ones((), dtype=torch.int64)
    assert method.doubts(state.network, state.memory, [1]) == [], "nothing had moved when its only batch came"


@dataclass(frozen=True)
class Told(L2):
    """Springs under which the old heads move too."""

    def moves(self, network: LifelongNetwork, task: int, bound: bool) -> dict[str, torch.nn.Parameter]:
        return dict(network.named_parameters()) if bound else network.used(task)


def test_springs_bind_as_a_term_does() -> None:
    plan, state = begun(Told(lambda_c=5.0))
    learned(plan, state, at_stage(1, ALL, epoch=1))
    moved = [
        name.partition(".head.")[0] for name in plan.method.objective(state.network, state.memory, 1, ALL, "mean").moves
    ]
    assert {"tasks.0", "tasks.1"} <= set(moved)


@pytest.mark.parametrize("configuration", ["all", "011", "000"])
def test_learning_without_forgetting_moves_no_statistics_that_a_task_keeps_for_itself(configuration: str) -> None:
    """Old tasks answer the new images in training: neither their blocks' statistics nor their heads' may follow."""
    plain = small(norm=True)

    def head(classes: int) -> nn.Module:
        first, *others = plain.head(classes).children()
        return nn.Sequential(first, nn.BatchNorm1d(8, affine=False), *others)

    method = Lwf(configuration=configuration, statistics="task")
    plan, state = begun(method, backbone=replace(plain, head=head))
    learned(plan, state, at_stage(1, HEAD))
    kept = {name: t.clone() for name, t in state.network.part(0).named_buffers()}
    assert any(name.startswith("head.") for name in kept)
    learned(plan, state, at_stage(2, HEAD))
    assert same(dict(state.network.part(0).named_buffers()), kept)
    free, followed = begun(replace(method, statistics="trunk"), backbone=replace(plain, head=head))
    learned(free, followed, at_stage(2, HEAD))
    assert not same(dict(followed.network.part(0).named_buffers()), kept)


@pytest.mark.parametrize("responses", ["recorded", "live"])
def test_what_old_tasks_answered_is_with_the_statistics_that_they_keep(responses: str) -> None:
    plan, state = begun(Lwf(statistics="task", responses=responses), backbone=small(norm=True))
    learned(plan, state, at_stage(2, ALL))
    network, batch = state.network, batch_of(plan, 2, 20)
    with at_rest(network):
        answers = [network(batch.images, task) for task in (0, 1)]
    assert not torch.allclose(answers[1], logits_of_tasks(network, features_of(network, batch.images, [0, 1]), [1])[0])
    found = plan.method._recorded(network, state.memory, 2)(batch)  # type: ignore[attr-defined]
    torch.testing.assert_close(found, torch.cat(answers, 1))
