"""Differentiable search, against slow loops, numbers worked out by hand, and autograd through the step ahead."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Batch, Memory, Objective
from everlearn.methods.catalogue import make_method
from everlearn.methods.darts import ALPHA, Darts, Mixture, alpha_name, alpha_of, cut, discrete, halves
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.resnet import resnet18
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.testing import check_method
from everlearn.training.optimisers import make_optimisers
from everlearn.training.settings import Training

DIGITS = make_backbone("digits", (1, 8, 8))


def begun(method: Darts, backbone: Backbone = DIGITS, tasks: int = 1) -> tuple[LifelongNetwork, Memory]:
    """A network whose last task is open and may move, with random alphas."""
    network, memory = method.network(backbone, tasks, 0), Memory()
    for _ in range(tasks):
        task = method.begin(network, memory, 2)
    method.enter(network, memory, [task], 0, {})
    with torch.no_grad():
        alpha_of(network, task).copy_(torch.randn(network.blocks, 2, generator=torch.Generator().manual_seed(1)))
    return network.train().requires_grad_(True), memory


def some(count: int, shape: tuple[int, ...] = (1, 8, 8), start: int = 0) -> Batch:
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(start))
    return Batch(images, torch.arange(count) % 2, torch.arange(start, start + count))


def objective_of(method: Darts, network: LifelongNetwork, memory: Memory) -> Objective:
    return method.objective(network, memory, len(network.tasks) - 1, 0, "mean")


def with_gradient(network: LifelongNetwork) -> set[str]:
    return {name for name, p in network.named_parameters() if p.grad is not None}


# ---------------------------------------------------------------- the mixture


@pytest.mark.parametrize("mix", ["before-pooling", "after-block"])
def test_the_mixture_by_a_slow_loop(mix: Any) -> None:
    method = Darts(Hard(), mix=mix)
    network, _ = begun(method)
    network.eval()
    x, head = some(5).images, dict(network.tasks[0].head.named_parameters())
    for block, pool in enumerate((1, 2, 2)):
        a, b = alpha_of(network, 0)[block].tolist()
        share = math.exp(b) / (math.exp(a) + math.exp(b))
        shared, own = dict(network.shared[block].named_parameters()), network.part(0).spare.own[block]
        own = dict(own.named_parameters())
        mine = F.relu(F.conv2d(x, own["=|conv/weight"], own["=|conv/bias"], padding=1))
        transferred = F.relu(F.conv2d(x, shared["conv|weight"], shared["conv|bias"], padding=1))
        if mix == "before-pooling":
            x = F.max_pool2d((1 - share) * mine + share * transferred, pool)
        else:
            x = (1 - share) * F.max_pool2d(mine, pool) + share * F.max_pool2d(transferred, pool)
    x = F.relu(F.linear(x.flatten(1), head["hidden1.weight"], head["hidden1.bias"]))
    expected = F.linear(x, head["output.weight"], head["output.bias"])
    mixture = Mixture(network, 0, "mean", mix == "before-pooling")
    torch.testing.assert_close(mixture.logits(some(5).images, mixture.alpha), expected)
    other = Mixture(network, 0, "mean", mix != "before-pooling")
    assert not torch.allclose(other.logits(some(5).images, mixture.alpha), expected), "the order must matter"


def test_mixing_before_pooling_is_the_default_where_a_block_ends_in_pooling() -> None:
    assert Darts(Hard()).mix == "before-pooling"
    pool, convolution = nn.MaxPool2d(2), nn.Conv2d(1, 1, 3)
    before, after = cut(nn.Sequential(convolution, nn.ReLU(), pool))
    assert after is pool
    assert [name for name, _ in before.named_parameters()] == ["0.weight", "0.bias"], "names must stay"
    for whole in (nn.Sequential(convolution, nn.ReLU()), convolution, nn.Sequential(pool), pool):
        assert cut(whole) == (whole, None)
    before, after = cut(nn.Sequential(convolution, pool, nn.ReLU()))  # as the papers' networks compute it
    assert [name for name, _ in before.named_children()] == ["0", "2"]
    assert (before[0], after) == (convolution, pool)
    assert isinstance(before[1], nn.ReLU)
    residual = resnet18(1, 4).blocks[2]
    assert cut(residual) == (residual, None)


def test_a_decided_alpha_is_the_discrete_network() -> None:
    method = Darts(Factors())
    network, memory = begun(method)
    network.eval()
    with torch.no_grad():
        alpha_of(network, 0).copy_(torch.tensor([[0.0, 200], [200, 0], [0, 200]]))
    method.present(network, memory, [0])
    mixture = Mixture(network, 0, "mean", True)
    assert network.configurations == [(True, False, True)]
    torch.testing.assert_close(mixture.logits(some(5).images, mixture.alpha), network(some(5).images, 0))


def test_a_penalty_counts_by_its_blocks_share_and_alpha_does_not_see_it() -> None:
    network, memory = begun(Darts(Factors(orthogonality=0.7)))
    network.eval()
    batch, mixture = some(6), Mixture(network, 0, "sum", True)
    alpha = mixture.alpha
    plain = F.cross_entropy(mixture.logits(batch.images, alpha), batch.labels, reduction="sum")
    penalty = sum(alpha[b].softmax(0)[1] * network.penalty_of(b, 0) for b in range(3))
    torch.testing.assert_close(mixture.loss(batch), plain + penalty)
    (by_hand,) = torch.autograd.grad(plain, alpha)
    steps = Darts(Factors(orthogonality=0.7)).objective(network, memory, 0, 0, "sum").losses(batch)
    next(steps).backward()
    torch.testing.assert_close(alpha.grad, by_hand)


# ---------------------------------------------------------------- steps


def test_alphas_gradient_by_hand() -> None:
    # h = s0 (1 x) + s1 (3 x) with x = 1 and alpha = 0: h = 2; logits (h, 0), label 0: L = log(1 + exp(-2)).
    # dL/dh = sigmoid(2) - 1 = -0.119203;  dh/dalpha_0 = s0 s1 (1 - 3) = -0.5;  dh/dalpha_1 = s1 s0 (3 - 1) = 0.5
    # dL/dalpha = (0.0596015, -0.0596015): the step is towards transfer, which raises the right logit.
    block = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False))
    backbone = Backbone("one", (block,), lambda classes: nn.Linear(1, classes, bias=False), "given")
    method = Darts(Hard())
    network, memory = begun(method, backbone)
    with torch.no_grad():
        alpha_of(network, 0).zero_()
        network.weights(0, 0, False)["1.weight"].fill_(1.0)
        network.weights(0, 0, True)["1.weight"].fill_(3.0)
        network.head(0).weight.copy_(torch.tensor([[1.0], [0.0]]))
    batch = Batch(torch.ones(1, 1, 1, 1), torch.tensor([0]), torch.tensor([0]))
    next(objective_of(method, network, memory).losses(batch)).backward()
    assert alpha_of(network, 0).grad.tolist()[0] == pytest.approx([0.0596015, -0.0596015], abs=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_alpha_moves_first_then_the_weights_which_see_the_new_alpha(order: int) -> None:
    method = Darts(Factors(), order=order)
    network, memory = begun(method, tasks=2)
    network.eval()
    batch, objective = some(6), objective_of(method, network, memory)
    assert set(objective.moves) == set(network.used(1))
    assert alpha_name(1) in objective.moves
    assert not objective.apart, "under the authors' scheme one optimiser moves all"
    losses = objective.losses(batch)
    next(losses).backward()
    assert with_gradient(network) == {alpha_name(1)}
    with torch.no_grad():
        alpha_of(network, 1).add_(3 * torch.eye(3, 2))
    network.zero_grad()
    second = next(losses)
    torch.testing.assert_close(second, Mixture(network, 1, "mean", True).loss(batch))
    second.backward()
    assert with_gradient(network) == set(objective.moves) - {alpha_name(1)}
    assert next(losses, None) is None


def test_a_step_ahead_leaves_every_weight_as_it_was_bit_for_bit() -> None:
    method = Darts(Factors(), order=2, xi=0.3)
    network, memory = begun(method)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    gradient = torch.autograd.grad(next(objective_of(method, network, memory).losses(some(6))), alpha_of(network, 0))[0]
    assert gradient.abs().sum() > 0
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert not with_gradient(network)


@dataclass(frozen=True)
class Decayed(Hard):
    """Hard sharing with a penalty: the sum of squares of the shared weight."""

    def penalty(self, layer, shared, own):  # type: ignore[no-untyped-def]
        return shared["weight"].square().sum()


def smooth(seed: int) -> tuple[LifelongNetwork, Memory, dict[str, Tensor]]:
    """Two blocks of tanh in double precision, open, and their numbers by name."""
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh()), nn.Sequential(nn.Linear(4, 3), nn.Tanh())]
    network, memory = begun(Darts(Decayed()), Backbone.of(blocks, 3))
    network.double()
    return network, memory, {name: p for name, p in network.named_parameters() if name != alpha_name(0)}


def smooth_loss(w: dict[str, Tensor], alpha: Tensor, batch: Batch, penalised: bool) -> Tensor:
    x, total = batch.images.flatten(1), torch.zeros((), dtype=torch.float64)
    for b, layer in enumerate(("1", "0")):
        own, shared = f"tasks.0.spare.own.{b}.=|{layer}/", f"shared.{b}.{layer}|"
        share = alpha[b].softmax(0)
        mine, transferred = (torch.tanh(F.linear(x, w[n + "weight"], w[n + "bias"])) for n in (own, shared))
        x = share[0] * mine + share[1] * transferred
        total = total + share[1].detach() * w[shared + "weight"].square().sum()
    logits = F.linear(x, w["tasks.0.head.1.weight"], w["tasks.0.head.1.bias"])
    return F.cross_entropy(logits, batch.labels) + (total if penalised else 0)


@pytest.mark.parametrize("together", [True, False])
def test_the_second_order_against_autograd_through_the_step_ahead(together: bool) -> None:
    xi = 0.2
    network, _, weights = smooth(0)
    first, second = (
        Batch(b.images.double(), b.labels, b.index) for b in (some(7, (1, 2, 3)), some(5, (1, 2, 3), start=7))
    )
    for_alpha = second if not together else first
    alpha = alpha_of(network, 0)
    inner = smooth_loss(weights, alpha, first, penalised=True)
    step = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
    ahead = {name: p - xi * g for (name, p), g in zip(weights.items(), step, strict=True)}
    (exact,) = torch.autograd.grad(smooth_loss(ahead, alpha, for_alpha, penalised=False), alpha)
    still = {name: p.detach() for name, p in ahead.items()}
    (direct,) = torch.autograd.grad(smooth_loss(still, alpha, for_alpha, penalised=False), alpha)
    method = Darts(Decayed(), order=2, xi=xi)
    found = method.alpha_gradient(Mixture(network, 0, "mean", True), list(weights.values()), for_alpha, first)
    assert (exact - direct).abs().max() > 1e-4, "looking ahead must make a difference here"
    torch.testing.assert_close(found - direct, exact - direct, rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-8)


class Masks(nn.Module):
    """Dropout that remembers its masks."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(F.dropout(torch.ones_like(x), 0.5, self.training))
        return x * self.seen[-1]


def test_the_passes_of_a_second_order_step_share_their_dropout_and_the_weights_draw_anew() -> None:
    masks = Masks()
    block = nn.Sequential(nn.Flatten(), nn.Linear(6, 20))
    backbone = Backbone("masked", (block,), lambda classes: nn.Sequential(masks, nn.Linear(20, classes)))
    method = Darts(Hard(), order=2)
    network, memory = begun(method, backbone)
    torch.manual_seed(0)
    for loss in objective_of(method, network, memory).losses(some(4, (1, 2, 3))):
        loss.backward()
    *search, weights = masks.seen
    assert len(search) == 4
    assert all(torch.equal(mask, search[0]) for mask in search)
    assert not torch.equal(weights, search[0])


# ---------------------------------------------------------------- bilevel


def test_the_halves_are_disjoint_equal_and_drawn() -> None:
    def mine(seed: int, task: int, count: int = 200) -> set[int]:
        part = halves(some(count), seed, task)[1]
        return set() if part is None else set(part.index.tolist())

    weights, alpha = halves(some(200), 3, 1)
    assert set(weights.index.tolist()) | set(alpha.index.tolist()) == set(range(200))
    assert len(weights.index) == len(alpha.index) == 100
    assert torch.equal(alpha.images, some(200).images[alpha.index])
    assert torch.equal(weights.labels, some(200).labels[weights.index])
    assert mine(3, 1) == set(alpha.index.tolist())
    assert len({frozenset(mine(seed, task)) for seed in (3, 4) for task in (0, 1)}) == 4
    # The first of two neighbours is alpha's about as often as the second: 100 fair coins, 5 deviations are 25.
    assert 25 < sum(i % 2 for i in mine(3, 1)) < 75
    assert mine(3, 1, 50) == {i for i in mine(3, 1) if i < 50}, "the same halves whatever the batch"


@pytest.mark.parametrize("order", [1, 2])
def test_each_level_learns_from_its_half(order: int) -> None:
    method = Darts(Hard(), scheme="bilevel", order=order, xi=0.1)
    network, memory = begun(method)
    network.eval()
    objective, alpha = objective_of(method, network, memory), alpha_of(network, 0)
    weights = [p for name, p in objective.moves.items() if name != alpha_name(0)]
    batch, mixture = some(8), Mixture(network, 0, "mean", True)
    for_weights, for_alpha = halves(batch, network.seed, 0)
    expected = method.alpha_gradient(mixture, weights, for_alpha, for_weights)
    losses = objective.losses(batch)
    next(losses).backward()
    torch.testing.assert_close(alpha.grad, expected, rtol=0, atol=0)
    if order == 1:
        (direct,) = torch.autograd.grad(mixture.cross_entropy(for_alpha, alpha), alpha)
        torch.testing.assert_close(expected, direct)
    assert torch.equal(next(losses), mixture.loss(for_weights))
    assert next(losses, None) is None


@pytest.mark.parametrize("order", [1, 2])
def test_an_empty_half_takes_no_step(order: int) -> None:
    method = Darts(Hard(), scheme="bilevel", order=order)
    network, memory = begun(method)
    network.eval()
    objective, (for_weights, for_alpha) = objective_of(method, network, memory), halves(some(8), network.seed, 0)
    (only,) = objective.losses(for_weights)
    only.backward()
    assert alpha_name(0) not in with_gradient(network)
    network.zero_grad()
    (only,) = objective.losses(for_alpha)
    only.backward()
    assert with_gradient(network) == {alpha_name(0)}
    alpha = alpha_of(network, 0)
    (direct,) = torch.autograd.grad(Mixture(network, 0, "mean", True).cross_entropy(for_alpha, alpha), alpha)
    torch.testing.assert_close(alpha.grad, direct)


@pytest.mark.parametrize("norm", [True, False])
def test_a_half_of_one_image_takes_no_step_where_a_batch_is_normalised(norm: bool) -> None:
    method = Darts(Hard(), scheme="bilevel")
    network, memory = begun(method, resnet18(1, 4) if norm else DIGITS)
    parts = halves(some(3), network.seed, 0)
    assert sorted(len(part.index) for part in parts if part is not None) == [1, 2]
    steps = [loss.backward() for loss in objective_of(method, network, memory).losses(some(3))]
    assert len(steps) == (1 if norm else 2)


def test_alpha_has_the_originals_adam() -> None:
    method = Darts(Hard(), scheme="bilevel")
    network, memory = begun(method)
    objective = objective_of(method, network, memory)
    assert objective.apart == {alpha_name(0): ALPHA}
    run, own = make_optimisers(Training(), objective)
    assert isinstance(own, torch.optim.Adam)
    (group,) = own.param_groups
    assert group["params"] == [alpha_of(network, 0)]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.999), 1e-3)
    assert ALPHA.schedule == "constant"
    assert len(run.param_groups[0]["params"]) == len(objective.moves) - 1
    (decoupled,) = make_optimisers(
        Training(optimiser="adamw", beta1=0.8, beta2=0.9), Objective(objective.moves, objective.loss)
    )
    assert decoupled.param_groups[0]["betas"] == (0.8, 0.9)
    for name in ("beta1", "beta2"):
        with pytest.raises(ConfigurationError, match=f"{name} needs"):
            Training(**{name: 1.0})


# ---------------------------------------------------------------- a task's beginning and end


def test_a_task_begins_undecided_and_a_tie_is_task_specific() -> None:
    method = Darts(Hard())
    network, memory = method.network(DIGITS, 1, 0), Memory()
    method.begin(network, memory, 2)
    assert torch.equal(alpha_of(network, 0), torch.zeros(3, 2))
    assert method.finding(network, memory, 0).configuration == network.configurations[0] == (False, False, False)
    assert discrete(torch.tensor([[1.0, 1.0], [1.0, 1.0001], [0.2, 0.1]])) == (False, True, False)
    with torch.no_grad():
        alpha_of(network, 0)[1, 1] = math.log(3)
    method.present(network, memory, [0])
    assert network.configurations == [(False, True, False)]
    found = method.finding(network, memory, 0)
    assert found.configuration == (False, True, False)
    assert found.blocks == pytest.approx((0.5, 0.75, 0.5))  # 3 / (1 + 3)


@pytest.mark.parametrize("unselected", ["rolled-back", "kept"])
def test_what_is_not_selected_goes_back(unselected: Any) -> None:
    method = Darts(Hard(), unselected=unselected)
    network, memory = begun(method, tasks=2)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    with torch.no_grad():
        alpha_of(network, 1).copy_(torch.tensor([[0.0, -1], [0, 1], [0, 0]]))
        for parameter in network.parameters():
            parameter.add_(1)
    learned = {name: t.clone() for name, t in network.state_dict().items()}
    names = method.leave(network, memory, [1], {})
    back = {f"shared.{block}.conv|{name}" for block in (0, 2) for name in ("weight", "bias")}
    assert names == (back if unselected == "rolled-back" else set())
    for name, tensor in network.state_dict().items():
        if name.startswith("shared."):
            assert torch.equal(tensor, before[name] if name in names else learned[name])
    assert not network.structures[1].open
    assert network.configurations[1] == (False, True, False)
    assert torch.equal(network.weights(0, 1)["conv.weight"], learned["tasks.1.spare.own.0.=|conv/weight"])
    assert not any(name.startswith(("tasks.1.extra", "tasks.1.spare")) for name in network.state_dict())
    method.present(network, memory, [1])
    found = method.finding(network, memory, 1)
    assert found.configuration == (False, True, False)
    assert found.blocks == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e), 0.5])
    assert sum(t.numel() for t in memory.values()) == 3, "of a task that is over the shares alone are remembered"
    method.begin(network, memory, 2)
    assert not memory


def test_each_alternative_has_its_own_running_statistics() -> None:
    block = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2))
    method = Darts(Hard())
    network, memory = begun(method, Backbone.of([block], 27))
    for loss in objective_of(method, network, memory).losses(some(6)):
        loss.backward()
    own, transferred = (network.weights(0, 0, transfer)["1.running_mean"] for transfer in (False, True))
    assert own.abs().sum() > 0
    assert transferred.abs().sum() > 0
    assert not torch.equal(own, transferred)


# ---------------------------------------------------------------- as a whole


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("darts-hps", {"order": 2}),
        ("darts-hps", {"scheme": "bilevel"}),
        ("darts-df-cnn", {"scheme": "bilevel", "order": 2, "mix": "after-block", "unselected": "kept"}),
    ],
)
def test_variants_keep_what_everlearn_promises(name: str, options: dict[str, Any]) -> None:
    """The default is among the methods of the contract tests."""
    check_method(make_method(name, "digits", 3, options))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("scheme", "both", "scheme named 'both'"),
        ("mix", "never", "mix named 'never'"),
        ("unselected", "lost", "unselected named 'lost'"),
        ("order", 3, "order is 1 or 2, but is 3"),
        ("xi", 0.0, "xi needs a number above 0"),
        ("xi", float("nan"), "xi needs a number above 0"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: Any, words: str) -> None:
    method = Darts(Hard())
    object.__setattr__(method, name, value)  # past the type checker of the tests, which would be first
    with pytest.raises(ConfigurationError, match=words):
        method.__post_init__()
