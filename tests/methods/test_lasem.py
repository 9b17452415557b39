"""LASEM: the E-step by hand, the M-step's gradient against a loop written out, what is kept at a task's end."""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Batch, Memory
from everlearn.methods.catalogue import make_method
from everlearn.methods.lasem import Lasem
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import every_configuration, spell
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.resnet import resnet18
from everlearn.networks.snapshots import snapshot
from everlearn.sharing import RULES, Hard, Own, SharingRule, Tucker
from everlearn.sharing.factors import Factors
from everlearn.tasks.task import TaskStream
from everlearn.testing import check_method
from everlearn.training.data import StreamData
from everlearn.training.fit import Found, Measured, Plan, State, Tick, learn
from everlearn.training.settings import Training

Streams = Callable[..., TaskStream]
MADE: dict[str, SharingRule] = {name: Tucker(2) if rule is Tucker else rule() for name, rule in RULES.items()}
SPACE = every_configuration(4)


def example(method: Lasem, backbone: Backbone, shape: tuple[int, ...], classes: int = 3, dtype=torch.float64):  # type: ignore[no-untyped-def]
    """A network of the given type with a second task open, its memory, and a batch of four images."""
    network = method.network(backbone, 2, 0)
    memory: Memory = {}
    for _ in range(2):
        if network.structures:
            method.leave(network, memory, [0], {})
        task = method.begin(network, memory, classes)
        method.enter(network, memory, [task], 0, {})
    random = torch.Generator().manual_seed(1)
    batch = Batch(torch.randn(4, *shape, generator=random, dtype=dtype), torch.tensor([0, 2, 1, 1]), torch.arange(4))
    network.to(dtype).train()
    return network, memory, batch


def cifar(method: Lasem):  # type: ignore[no-untyped-def]
    network, memory, batch = example(method, make_backbone("cifar", (3, 32, 32)), (3, 32, 32))
    network.head(1).eval()  # dropout off
    return network, memory, batch


def plain(network: LifelongNetwork, images: Tensor, configuration: Sequence[bool]) -> Tensor:
    """One configuration's logits for the second task."""
    for block, transfer in enumerate(configuration):
        images = network.run_block(block, network.weights(block, 1, transfer), images)
    return network.head(1)(images)


def by_hand(network: LifelongNetwork, memory: Memory, batch: Batch, likelihood: str, reduction: str) -> Tensor:
    """Equations 2 and 3 by a plain loop over all configurations; returns the posterior, leaves gradients."""
    evidence = memory["evidence"]
    weights = []
    for i, configuration in enumerate(SPACE):
        with torch.no_grad():
            p = plain(network, batch.images, configuration).softmax(1)[torch.arange(4), batch.labels]
        prior = evidence[i] / evidence.sum() if evidence.sum() > 0 else 1 / 16
        weights.append(prior * (p.prod() if likelihood == "batch" else p.mean()))
    posterior = torch.stack(weights) / sum(weights)
    for p, configuration in zip(posterior, SPACE, strict=True):
        loss = F.cross_entropy(plain(network, batch.images, configuration), batch.labels, reduction=reduction)
        for block, transfer in enumerate(configuration):
            penalty = network.penalty_of(block, 1) if transfer else None
            loss = loss if penalty is None else loss + penalty
        (p * loss).backward()
    return posterior


def gradients(network: LifelongNetwork) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return found


@pytest.mark.parametrize("rule", MADE)
@pytest.mark.parametrize("computation", ["tree", "loop"])
def test_the_gradient_is_that_of_a_plain_loop_over_all_configurations(rule: str, computation: str) -> None:
    """For every rule, on the CIFAR net in float64, to 1e-9; of every parameter the task can use."""
    method = Lasem(MADE[rule], computation=computation)  # type: ignore[arg-type]
    network, memory, batch = cifar(method)
    memory["evidence"] = torch.arange(1.0, 17, dtype=torch.float64)
    posterior = by_hand(network, memory, batch, "batch", "mean")
    expected = gradients(network)
    objective = method.objective(network, memory, 1, 0, "mean")
    for loss in objective.losses(batch):
        loss.backward()
    found = gradients(network)
    assert found.keys() == expected.keys() == objective.moves.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-9 * max(1, float(gradient.abs().max())))
    torch.testing.assert_close(memory["posterior"], posterior, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("likelihood", "reduction"), [("mean", "sum"), ("batch", "sum"), ("mean", "mean")])
def test_likelihoods_and_reductions(likelihood: str, reduction: str) -> None:
    method = Lasem(Factors(), likelihood=likelihood)  # type: ignore[arg-type]
    network, memory, batch = cifar(method)
    posterior = by_hand(network, memory, batch, likelihood, reduction)
    expected = gradients(network)
    next(method.objective(network, memory, 1, 0, reduction).losses(batch)).backward()  # type: ignore[arg-type]
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-11)
    assert posterior.max() - posterior.min() > 0.001


@pytest.mark.parametrize("rule", MADE)
def test_the_pruned_backward_is_the_loop_over_what_is_kept(rule: str) -> None:
    """The M-step leaves out what has no more than the threshold; the others' probabilities are made to add up."""
    method = Lasem(MADE[rule], threshold=0.05)
    network, memory, batch = cifar(method)
    with torch.no_grad():  # likelihoods of one order, so that a prior can lead to any posterior
        largest = max(float(plain(network, batch.images, c).abs().max()) for c in SPACE)
        network.head(1).output.weight.mul_(0.1 / largest)  # type: ignore[union-attr, operator]
    likelihood = by_hand(network, memory, batch, "batch", "mean")  # under a uniform prior, up to a factor
    wanted = torch.full((16,), 0.4 / 14, dtype=torch.float64)
    wanted[[3, 9]] = 0.3
    memory["evidence"] = wanted / likelihood
    gradients(network)
    posterior, kept = wanted, [3, 9]
    for i in kept:
        loss = F.cross_entropy(plain(network, batch.images, SPACE[i]), batch.labels)
        penalties = [network.penalty_of(block, 1) for block, transfer in enumerate(SPACE[i]) if transfer]
        total = loss + sum(p for p in penalties if p is not None)
        (posterior[i] / posterior[kept].sum() * total).backward()
    expected = gradients(network)
    next(method.objective(network, memory, 1, 0, "mean").losses(batch)).backward()
    found = gradients(network)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-9 * max(1, float(gradient.abs().max())))


class Two(torch.nn.Module):
    """A head that answers with fixed logits for each of two configurations, whatever the images."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        rows = features.flatten(1).mean(1, keepdim=True)  # 0 for the one configuration, 1 for the other
        return self.logits[0] * (1 - rows) + self.logits[1] * rows


def worked(**options: object) -> tuple[Lasem, LifelongNetwork, Memory, Batch]:
    """One block: transferred it gives 0, the task's own gives 1; the head's logits are ln(p), so softmax gives p.

    Transfer answers (0.8, 0.2), own (0.4, 0.6); the batch holds two images of the first class and one of the second.
    """
    method = Lasem(Hard(), **options)  # type: ignore[arg-type]
    logits = [[math.log(0.8), math.log(0.2)], [math.log(0.4), math.log(0.6)]]
    block = torch.nn.Conv2d(1, 1, 1, dtype=torch.float64)
    network = method.network(Backbone("worked", (block,), lambda classes: Two(logits)), 1, 0)
    network.to(torch.float64)
    memory: Memory = {}
    method.begin(network, memory, 2)
    method.enter(network, memory, [0], 0, {})
    network.to(torch.float64)
    with torch.no_grad():
        network.part(0).head.logits.copy_(torch.tensor(logits))  # type: ignore[union-attr, operator]
        for transfer, bias in ((True, 0.0), (False, 1.0)):
            weights = network.weights(0, 0, transfer)
            weights["weight"].zero_()
            weights["bias"].fill_(bias)
    batch = Batch(torch.ones(3, 1, 1, 1, dtype=torch.float64), torch.tensor([0, 0, 1]), torch.arange(3))
    return method, network, memory, batch


def after(method: Lasem, network: LifelongNetwork, memory: Memory, *batches: Batch) -> Memory:
    for batch in batches:
        for _ in method.objective(network, memory, 0, 0, "mean").losses(batch):
            pass
    return memory


def test_a_posterior_worked_by_hand() -> None:
    method, network, memory, batch = worked()
    assert [spell(c) for c in method._space(1)] == ["1", "0"]
    # Batch: transfer 0.8 * 0.8 * 0.2 = 0.128, own 0.4 * 0.4 * 0.6 = 0.096; prior (1/2, 1/2): 0.128 / 0.224 = 4 / 7.
    after(method, network, memory, batch)
    torch.testing.assert_close(memory["posterior"], torch.tensor([4 / 7, 3 / 7], dtype=torch.float64))
    # Counts with Laplace's one: (1 + 1, 1). Next posterior: 2/3 * 0.128 : 1/3 * 0.096 = 8 : 3.
    assert memory["evidence"].tolist() == [2, 1]
    after(method, network, memory, batch)
    torch.testing.assert_close(memory["posterior"], torch.tensor([8 / 11, 3 / 11], dtype=torch.float64))
    assert memory["evidence"].tolist() == [3, 1]


def test_the_authors_likelihood_and_prior_worked_by_hand() -> None:
    method, network, memory, batch = worked(likelihood="mean", prior="mean")
    # Means: transfer (0.8 + 0.8 + 0.2) / 3 = 0.6, own (0.4 + 0.4 + 0.6) / 3 = 7/15; 9 : 7 after a uniform prior.
    after(method, network, memory, batch)
    torch.testing.assert_close(memory["posterior"], torch.tensor([9 / 16, 7 / 16], dtype=torch.float64))
    torch.testing.assert_close(memory["evidence"], memory["posterior"])  # no pseudo-count
    # Prior (9/16, 7/16): 81 : 49. The next prior is the mean of both posteriors.
    after(method, network, memory, batch)
    second = torch.tensor([81 / 130, 49 / 130], dtype=torch.float64)
    torch.testing.assert_close(memory["posterior"], second)
    first = torch.tensor([9 / 16, 7 / 16], dtype=torch.float64)
    torch.testing.assert_close(memory["evidence"], first + second)
    finding = method.finding(network, memory, 0)
    torch.testing.assert_close(finding.weights[True,], float(first[0] + second[0]) / 2)
    assert finding.blocks == pytest.approx([float(first[0] + second[0]) / 2])


def test_the_prior_starts_anew_with_every_epoch_if_asked() -> None:
    for reset, expected in ((False, [4, 1]), (True, [2, 1])):
        method, network, memory, batch = worked(reset_prior=reset)
        after(method, network, memory, batch, replace(batch, step=1), batch)
        assert memory["evidence"].tolist() == expected


def test_sparse_em_weighs_only_the_plausible_between_full_e_steps() -> None:
    """Neal and Hinton 1998: what is not plausible keeps its probability until the next full E-step."""
    method = Lasem(Hard(), e_step_every=3, plausible=0.06)
    network, memory, batch = cifar(method)
    expected = by_hand(network, memory, batch, "batch", "mean")
    gradients(network)
    steps = method.objective(network, memory, 1, 0, "mean")
    list(steps.losses(batch))
    torch.testing.assert_close(memory["posterior"], expected)  # the first E-step is full
    before, evidence = memory["posterior"].clone(), memory["evidence"].clone()
    plausible = before > 0.06
    assert 0 < int(plausible.sum()) < 16
    list(steps.losses(batch))
    torch.testing.assert_close(memory["posterior"][~plausible], before[~plausible], rtol=0, atol=0)
    with torch.no_grad():
        true = torch.stack(
            [-F.cross_entropy(plain(network, batch.images, c), batch.labels, reduction="sum") for c in SPACE]
        )
    log = (evidence / evidence.sum()).log() + true
    within = log[plausible].softmax(0) * before[plausible].sum()
    torch.testing.assert_close(memory["posterior"][plausible], within)
    list(steps.losses(batch))
    list(steps.losses(batch))  # the fourth minibatch: full again
    full = (memory["evidence"] - F.one_hot(memory["posterior"].argmax(), 16)).log() + true
    torch.testing.assert_close(memory["posterior"], full.softmax(0))


def test_several_m_steps_use_one_posterior() -> None:
    method = Lasem(Hard(), m_steps_per_e_step=3)
    network, memory, batch = cifar(method)
    seen = []
    for loss in method.objective(network, memory, 1, 0, "mean").losses(batch):
        loss.backward()
        with torch.no_grad():
            for p in network.used(1).values():
                p -= 1e-3 * (0 if p.grad is None else p.grad)
        network.zero_grad()
        seen.append((float(loss.detach()), memory["evidence"].sum()))
    assert len(seen) == 3
    assert seen[0][0] > seen[1][0] > seen[2][0], "each step is taken from where the last one led"
    assert all(total == 16 for _, total in seen), "the prior moves once a minibatch, after the last"
    assert memory["evidence"].sum() == 17


def test_a_fixed_posterior() -> None:
    """Fig. 5: one configuration has P, the others share the rest, and it is what the task ends with."""
    method = Lasem(Hard(), fixed="top-2", fixed_probability=0.7)
    network, memory, batch = cifar(method)
    place = SPACE.index((False, False, True, True))
    for _ in range(2):
        list(method.objective(network, memory, 1, 0, "mean").losses(batch))
        expected = torch.full((16,), 0.3 / 15, dtype=torch.float64)
        expected[place] = 0.7
        torch.testing.assert_close(memory["posterior"], expected)
    loss = method.objective(network, memory, 1, 0, "mean").loss(batch)
    each = torch.stack([F.cross_entropy(plain(network, batch.images, c), batch.labels) for c in SPACE])
    torch.testing.assert_close(loss, expected @ each)
    method.leave(network, memory, [1], {})
    assert spell(network.configurations[1]) == "0011"


def test_the_e_step_drops_nothing_and_each_configuration_drops_its_own() -> None:
    method = Lasem(Own())  # every configuration is one network here, so only dropout can tell them apart
    network, memory, batch = example(method, make_backbone("cifar", (3, 32, 32)), (3, 32, 32))
    with torch.no_grad():
        for block in range(4):
            for name, t in network.weights(block, 1, True).items():
                t.copy_(network.weights(block, 1, False)[name])
    losses = [next(method.objective(network, memory, 1, 0, "mean").losses(batch)).item() for _ in range(2)]
    list(method.objective(network, memory, 1, 0, "mean").losses(batch))
    torch.testing.assert_close(memory["posterior"], torch.full((16,), 1 / 16, dtype=torch.float64))
    assert losses[0] != losses[1], "the M-step drops at random"
    assert network.head(1).training
    masks: list[Tensor] = []
    network.head(1).dropout.register_forward_hook(lambda _m, _i, out: masks.append(out.unflatten(0, (16, 4)) != 0))  # type: ignore[union-attr]
    method.objective(network, memory, 1, 0, "mean").loss(batch)
    # The hook saw the E-step, where all is kept that the images give, then the M-step.
    assert all(torch.equal(masks[0][0], mask) for mask in masks[0])
    assert len({mask.numpy().tobytes() for mask in masks[1]}) == 16


def test_unselected_shared_blocks_go_back_or_stay(tiny_stream: Streams) -> None:
    for unselected in ("rolled-back", "kept"):
        method = Lasem(Hard(), unselected=unselected)  # type: ignore[arg-type]
        network, memory, _ = example(method, make_backbone("digits", (1, 8, 8)), (1, 8, 8), dtype=torch.float32)
        before = snapshot(network, ["shared"])
        with torch.no_grad():
            for p in network.shared.parameters():
                p.add_(1)
        own = network.weights(1, 1, False)["conv.weight"].clone()
        memory["evidence"][every_configuration(3).index((True, False, True))] = 5
        moved = method.leave(network, memory, [1], {})
        for name, tensor in snapshot(network, ["shared"]).items():
            back = unselected == "rolled-back" and name.startswith("shared.1")
            assert torch.equal(tensor, before[name] + (0 if back else 1)), (unselected, name)
        assert moved == (set() if unselected == "kept" else {n for n in before if n.startswith("shared.1")})
        assert spell(network.configurations[1]) == "101"
        assert torch.equal(network.weights(1, 1)["conv.weight"], own)
        assert not any(name.startswith("before") for name in memory)


def test_the_first_tasks_unselected_blocks_are_as_at_the_start() -> None:
    method = Lasem(Hard())
    network = method.network(make_backbone("digits", (1, 8, 8)), 2, 0)
    memory: Memory = {}
    method.begin(network, memory, 2)
    method.enter(network, memory, [0], 0, {})
    with torch.no_grad():
        for p in network.shared.parameters():
            p.add_(1)
    memory["evidence"][every_configuration(3).index((False, True, True))] = 5
    method.leave(network, memory, [0], {})
    for key, tensor in network.start_shared(0).items():
        assert torch.equal(dict(network.shared[0].named_parameters())[key], tensor)


@pytest.mark.parametrize("rule", MADE)
def test_only_the_task_in_training_holds_both_alternatives(rule: str) -> None:
    """App. F: S + (T + 1) max(A, B) numbers at most, and as many as the configurations need when T tasks are over."""
    method = Lasem(MADE[rule])
    network = method.network(make_backbone("cifar", (3, 32, 32)), 3, 0)
    layers = [sites[0].layer for sites in network.sites]

    def held() -> int:
        heads = sum(p.numel() for task in range(len(network.tasks)) for p in network.head(task).parameters())
        return sum(p.numel() for p in network.parameters()) - heads

    shared = sum(network.rule.counts(layer)[0] for layer in layers)
    ordinary, transfer = (
        sum(n) for n in zip(*((la.numbers, network.rule.counts(la)[1]) for la in layers), strict=True)
    )
    memory: Memory = {}
    expected = shared
    for task, chosen in enumerate(["1011", "0000"] if rule != "tucker" else ["1011"]):
        method.begin(network, memory, 10)
        method.enter(network, memory, [task], 0, {})
        assert (
            held()
            == expected + ordinary + transfer
            <= shared + (task + 2) * max(ordinary, transfer) + min(ordinary, transfer)
        )
        configuration = tuple(c == "1" for c in chosen)
        memory["evidence"][SPACE.index(configuration)] = 9
        method.leave(network, memory, [task], {})
        expected += sum(
            network.rule.counts(la)[1] if c else la.numbers for la, c in zip(layers, configuration, strict=True)
        )
        assert held() == expected
        assert sum(t.numel() for t in memory.values()) < 100


def test_a_settled_task_is_exported_with_the_chosen_weights_alone() -> None:
    method = Lasem(Hard())
    network, memory, batch = example(method, make_backbone("cifar", (3, 32, 32)), (3, 32, 32))
    memory["evidence"][SPACE.index((True, False, False, True))] = 7
    network.eval()
    expected = plain(network, batch.images, (True, False, False, True))
    method.leave(network, memory, [1], {})
    network.eval()
    torch.testing.assert_close(network(batch.images, 1), expected)
    exported = network.export(1)
    torch.testing.assert_close(exported(batch.images), expected)
    assert sum(p.numel() for p in exported.parameters()) == 65_568 + 4096 * 64 + 64 + 64 * 3 + 3


@pytest.mark.parametrize("computation", ["tree", "loop"])
@pytest.mark.parametrize("rule", [Hard(), Factors()])
def test_batch_normalisation_sees_one_configuration_at_a_time(rule: SharingRule, computation: str) -> None:
    """A trunk of nine blocks in three groups: as the plain loop; each alternative keeps its statistics."""
    method = Lasem(rule, groups="1-3/4-6/7-9", computation=computation)  # type: ignore[arg-type]
    network, memory, batch = example(method, resnet18(channels=1, width=4), (1, 8, 8))
    space = method._space(9)
    assert len(space) == 8
    statistics = {n: b.clone() for n, b in network.named_buffers()}
    loss = method.objective(network, memory, 1, 0, "mean").loss(batch)
    moved = {n for n, b in network.named_buffers() if not torch.equal(b, statistics[n])}
    assert any(n.startswith("tasks.1.statistics.8") for n in moved)
    assert any(n.startswith("tasks.1.spare.statistics.8") for n in moved)
    assert not any(n.startswith("tasks.0") for n in moved)
    counted = {int(b) for n, b in network.named_buffers() if n.startswith("tasks.1") and "num_batches" in n}
    assert counted <= {0, 1}, "no statistics move twice for one minibatch"
    logits = torch.stack([plain(network, batch.images, c) for c in space])
    true = logits.log_softmax(-1)[:, torch.arange(4), batch.labels]
    posterior = true.sum(1).softmax(0).detach()
    expected = posterior @ -true.mean(1)
    penalty = torch.zeros(())
    for b in range(9):
        term = network.penalty_of(b, 1)
        if term is not None:
            penalty = penalty + sum(p for p, c in zip(posterior, space, strict=True) if c[b]) * term
    torch.testing.assert_close(loss, expected + penalty)


def test_the_task_answers_with_the_most_probable_configuration_while_it_learns(tiny_stream: Streams) -> None:
    stream = tiny_stream(tasks=2)
    method = make_method("lasem-hps", "digits", 2, {})
    network = method.network(make_backbone("digits", (1, 8, 8)), 2, 0)
    training = Training(epochs=4, batch=5, rate=3e-3, evaluate_every=1, evaluate_others_every=1)
    plan = Plan(method, StreamData(stream, torch.device("cpu"), True), [2, 2], training, 0)
    state = State(network)
    found: list[Found] = []
    for event in learn(plan, state):
        if isinstance(event, Found):
            found.append(event)
            assert event.finding.configuration == network.configurations[event.task]
            assert sum(event.finding.weights.values()) == pytest.approx(1, abs=0.01)
    assert found[0].finding.configuration == (True,) * 3, "before anything is known, all transfer"
    assert found[0].finding.weights == dict.fromkeys(every_configuration(3), 1 / 8)
    assert [(f.epochs, f.task) for f in found if f.settled] == [(4, 0), (8, 1)]
    assert not any(structure.open for structure in network.structures)


def test_earlier_tasks_are_evaluated_again_once_blocks_are_back(tiny_stream: Streams) -> None:
    stream = tiny_stream(tasks=2)
    method = Lasem(Hard(), fixed="top-1")
    network = method.network(make_backbone("digits", (1, 8, 8)), 2, 0)
    training = Training(epochs=3, batch=5, rate=1e-2, evaluate_every=3, evaluate_others_every=3)
    plan = Plan(method, StreamData(stream, torch.device("cpu"), True), [2, 2], training, 0)
    state, last = State(network), {}
    method_all = replace(method, fixed="all")
    for event in learn(Plan(method_all, plan.data, [2, 2], training, 0), state):
        if isinstance(event, Tick) and state.phase == 1:
            break
    for event in learn(plan, state):
        if isinstance(event, Measured) and event.task == 0:
            last.setdefault(event.epochs, []).append(event.loss)
    assert len(last[6]) == 2, "at the end of the second task, and once its unselected blocks were put back"
    assert last[6][0] != last[6][1]


@pytest.mark.parametrize(
    "options",
    [
        {"likelihood": "mean", "prior": "mean", "reset_prior": True},
        {"e_step_every": 3, "threshold": 0.05},
        {"m_steps_per_e_step": 2, "unselected": "kept", "computation": "loop"},
        {"groups": "1,3/2"},
    ],
)
def test_options_keep_what_everlearn_promises(options: dict[str, object]) -> None:
    check_method(make_method("lasem-df-cnn", "digits", 3, options))  # type: ignore[arg-type]


def test_choices_that_do_not_exist_are_refused() -> None:
    # Outside of this process, where types are not checked at run time.
    command = [sys.executable, "-m", "everlearn.cli", "run", "digits", "--methods", "lasem-hps", "--option"]
    said = subprocess.run([*command, "likelihood=bacth"], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr == "everlearn: there is no likelihood named 'bacth'; did you mean batch?\n"
    with pytest.raises(ConfigurationError, match="m_steps_per_e_step needs a whole number of at least 1, but is 0"):
        Lasem(Hard(), m_steps_per_e_step=0)
    with pytest.raises(ConfigurationError, match=r"threshold is a probability, 0 to 1, but is 1\.5"):
        Lasem(Hard(), threshold=1.5)
    backbone = make_backbone("digits", (1, 8, 8))
    with pytest.raises(ConfigurationError, match="name each of the backbone's 3 blocks once"):
        Lasem(Hard(), groups="1/2").network(backbone, 1, 0)
    with pytest.raises(ConfigurationError, match="do not allow the configuration 'top-1'"):
        Lasem(Hard(), groups="1/2,3", fixed="top-1").network(backbone, 1, 0)


def test_what_follows_the_configuration_is_not_recorded() -> None:
    """Whose statistics move depends on the configuration that the task answers with, which changes meanwhile."""

    def alike(backbone: Backbone, **options: Any) -> bool:
        network, memory, _ = example(Lasem(Hard(), **options), backbone, (1, 8, 8))
        return Lasem(Hard(), **options).objective(network, memory, 1, 0, "mean").alike

    digits = make_backbone("digits", (1, 8, 8))
    assert alike(digits)
    assert not alike(digits, threshold=0.01)
    assert not alike(digits, e_step_every=10)
    assert not alike(digits, reset_prior=True)
    assert not alike(resnet18(channels=1, width=4), groups="1-3/4-6/7-9")
