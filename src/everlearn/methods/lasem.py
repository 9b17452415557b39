"""LASEM: which blocks of a task transfer is a latent variable, learned by expectation-maximisation with the weights.

Paper: Lee, Behpour and Eaton, "Sharing Less is More: Lifelong Learning in Deep Networks with Selective Layer Transfer"
(ICML 2021), Algorithm 1.

    for each task t:
        new theta_t: for every block both an ordinary layer and what the rule needs of the task; one head; new prior pi
        for each minibatch (X, y):
            E:  P(c | X, y)  proportional to  pi(c) P(y | X, c)          for every configuration c        (Eq. 2)
            M:  theta <- theta - rate * sum over c of P(c | X, y) grad L(f_c(X), y)      m times          (Eq. 3)
            pi(c) = (n_c + 1) / sum over c' of (n_c' + 1)                                                 (Eq. 1)
        keep for each block what the configuration c* = argmax pi needs

Symbols: c one boolean a block, true is transfer; theta_s, theta_t shared and own parameters, one set for all
configurations; n_c the minibatches of this task for which c was the most probable; L the cross-entropy.

Details that change the numbers:
  * The likelihood P(y | X, c): of the whole minibatch, the product over its examples (the paper's notation; here in
    log space, `likelihood="batch"`), or the mean over the examples of the probability of the true class (the authors'
    code, `"mean"`). The product is far more decided: with ten examples the posterior is nearly one configuration's.
  * The prior: counts of minibatches won, plus one (the paper, `prior="counts"`), or the running mean of the
    posteriors (the default of the authors' code, `"mean"`). Both start uniform with every task.
  * The E-step is without dropout, the M-step with it, each configuration with a mask of its own.
  * A configuration that does not contain a tensor gives it no gradient, and the others' weight is not raised for it.
    A rule's penalty counts for each block with the posterior probability that the block transfers.
  * While a task is learned the shared parameters of all blocks move. At its end those that c* does not use are put
    back to what they were before the task (the authors' code, `unselected="rolled-back"`), or stay
    (`"kept"`; the paper is silent). After the first task "before" is their random start.
  * The task answers with argmax pi while it is learned; the first of equals, which transfers more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.methods.base import Batch, Data, Finding, Memory, Method, Objective, Reduction
from everlearn.methods.losses import task_loss
from everlearn.methods.posteriors import above, normalised, shares
from everlearn.networks.alternatives import (
    Trunk,
    dropouts,
    has_statistics,
    logits_of,
    loop_features,
    resting,
    tree_features,
)
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import Configuration, every_configuration, parse_configuration
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.snapshots import listed, put_back, snapshot
from everlearn.sharing.rule import SharingRule

_TRUNKS: dict[str, Trunk] = {"tree": tree_features, "loop": loop_features}
_CHOICES = {
    "likelihood": ("batch", "mean"),
    "prior": ("counts", "mean"),
    "unselected": ("rolled-back", "kept"),
    "computation": tuple(_TRUNKS),
}
_BEFORE = "before/"


@dataclass(frozen=True)
class Lasem(Method):
    """Expectation-maximisation over the configurations of one sharing rule.

    Attributes:
        rule: how transferred blocks get their weights.
        groups: blocks that transfer together or not at all (App. E): "1-3/4-6/7-9"; empty: every block by itself.
        likelihood: P(y | X, c): `batch` or `mean`; see above.
        prior: pi: `counts` or `mean`; see above.
        reset_prior: start the prior anew at every epoch.
        m_steps_per_e_step: numMSteps, optimiser steps on a minibatch with one posterior.
        unselected: what becomes of shared parameters that the task does not use: `rolled-back` or `kept`.
        threshold: the M-step leaves out configurations of no more than this posterior probability, and the others
            share theirs; 0 is exact.
        e_step_every: k, minibatches from one full E-step to the next; between them only the plausible configurations
            are weighed against each other and the others' probabilities stand still (sparse EM; Neal and Hinton
            1998); 1 is exact.
        plausible: probability above which a configuration counts as plausible.
        fixed: a configuration to which the posterior is fixed instead (Fig. 5); empty: none.
        fixed_probability: its probability, the others having equal shares of the rest.
        computation: `tree` or `loop`: how the trunk is computed; the same numbers, but for rounding.

    Raises:
        UnknownNameError: a choice that does not exist.
        ConfigurationError: a number out of range.
    """

    rule: SharingRule
    groups: str = ""
    likelihood: Literal["batch", "mean"] = "batch"
    prior: Literal["counts", "mean"] = "counts"
    reset_prior: bool = False
    m_steps_per_e_step: int = 1
    unselected: Literal["rolled-back", "kept"] = "rolled-back"
    threshold: float = 0.0
    e_step_every: int = 1
    plausible: float = 0.01
    fixed: str = ""
    fixed_probability: float = 0.9
    computation: Literal["tree", "loop"] = "tree"

    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UnknownNameError(name, getattr(self, name), choices)
        for name in ("m_steps_per_e_step", "e_step_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} needs a whole number of at least 1, but is {getattr(self, name)}.")
        for name in ("threshold", "plausible", "fixed_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} is a probability, 0 to 1, but is {getattr(self, name)}.")

    # ---------------------------------------------------------------- a task's beginning and end

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        self._space(len(backbone.blocks))  # complain before training
        if self.fixed:
            self._fixed_posterior(len(backbone.blocks), torch.zeros(()))
        return LifelongNetwork(backbone, self.rule, seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        memory.clear()
        memory |= self._fresh(network)
        return network.add_task(classes, self._space(network.blocks)[0], open=True)

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        if self.unselected == "rolled-back":
            memory |= {_BEFORE + name: tensor for name, tensor in snapshot(network, ["shared"]).items()}

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        configuration = self.best(network, memory)
        network.settle(tasks[0], configuration)
        before = {name.removeprefix(_BEFORE): memory.pop(name) for name in list(memory) if name.startswith(_BEFORE)}
        unused = tuple(f"shared.{block}." for block, transfer in enumerate(configuration) if not transfer)
        back = {name: tensor for name, tensor in before.items() if name.startswith(unused)}
        put_back(network, back)
        return set(back)

    def present(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> None:
        if network.structures[tasks[0]].open:
            network.choose(tasks[0], self.best(network, memory))

    def finding(self, network: LifelongNetwork, memory: Memory, task: int) -> Finding:
        prior, space = normalised(memory["evidence"]), self._space(network.blocks)
        weights = {c: p for c, p in zip(space, listed(prior), strict=True) if p >= 0.001}
        return Finding(self.best(network, memory), weights, tuple(listed(shares(space, prior))))

    # ---------------------------------------------------------------- a minibatch

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        step = _Step(self, network, memory, task, reduction, self._space(network.blocks))

        def steps(batch: Batch) -> Iterator[Tensor]:
            if self.reset_prior and batch.step == 0:
                memory.update(self._fresh(network))
            learned: Memory = {}
            yield from step.losses(batch, learned)
            for name, tensor in learned.items():
                memory[name].copy_(tensor)

        # Statistics follow the configuration, which changes meanwhile.
        alike = self.threshold == 0 and self.e_step_every == 1 and not self.reset_prior and not step.follows
        return Objective(network.used(task), lambda batch: next(step.losses(batch, {})), steps, alike=alike)

    def updated(self, evidence: Tensor, posterior: Tensor) -> Tensor:
        """The evidence behind the prior after one more minibatch (Eq. 1)."""
        if self.fixed:
            return posterior
        first = torch.zeros_like(posterior).scatter(0, posterior.argmax(keepdim=True), 1.0)  # no number leaves a GPU
        return evidence + (first if self.prior == "counts" else posterior)

    def _fresh(self, network: LifelongNetwork) -> Memory:
        """What a task's search starts from: the Laplace counts of one, or nothing; a uniform prior either way."""
        count = len(self._space(network.blocks))
        posterior = torch.full((count,), 1 / count, dtype=torch.float64, device=network.device)
        if self.fixed:
            posterior = self._fixed_posterior(network.blocks, posterior)
        start = torch.zeros_like if self.prior == "mean" else torch.ones_like
        evidence = posterior if self.fixed else start(posterior)
        return {"evidence": evidence, "posterior": posterior, "since": torch.zeros((), dtype=torch.int64)}

    def best(self, network: LifelongNetwork, memory: Memory) -> Configuration:
        """The configuration that an open task answers with now: the first of those with the most behind them."""
        return self._space(network.blocks)[int(memory["evidence"].argmax())]

    def _space(self, blocks: int) -> tuple[Configuration, ...]:
        return every_configuration(blocks, self.groups)

    def _fixed_posterior(self, blocks: int, like: Tensor) -> Tensor:
        space, chosen = self._space(blocks), parse_configuration(self.fixed, blocks)
        if chosen not in space:
            raise ConfigurationError(f"the groups {self.groups!r} do not allow the configuration {self.fixed!r}.")
        others = (1 - self.fixed_probability) / max(1, len(space) - 1)
        return like.new_tensor([self.fixed_probability if c == chosen else others for c in space])


@dataclass(frozen=True)
class _Step:
    """The E-step and the M-steps of a minibatch; reads the memory, and writes what was learned apart."""

    method: Lasem
    network: LifelongNetwork
    memory: Memory
    task: int
    reduction: Reduction
    space: tuple[Configuration, ...]

    @cached_property
    def dropouts(self) -> list[nn.Module]:
        """What drops at random, in the trunk and in the task's head."""
        return dropouts([*self.network.templates, self.network.head(self.task)])

    @cached_property
    def follows(self) -> bool:
        """Whether the trunk or the task's head keeps running statistics."""
        return has_statistics([*self.network.templates, self.network.head(self.task)])

    @cached_property
    def trunk_drops(self) -> bool:
        """Whether the trunk drops at random."""
        return bool(dropouts(self.network.templates))

    @cached_property
    def transfers(self) -> Tensor:
        """Which blocks each configuration transfers, as 0 and 1, `[C, blocks]`."""
        return torch.tensor(self.space, dtype=torch.float32, device=self.network.device)

    def losses(self, batch: Batch, learned: Memory) -> Iterator[Tensor]:
        method = self.method
        full = method.e_step_every == 1 or int(self.memory["since"]) == 0
        weighed = list(range(len(self.space)))
        if not full:
            weighed = above(self.memory["posterior"], method.plausible)
        # Where nothing in the trunk is dropped and all configurations go on, one pass serves both steps.
        once = method.threshold == 0 and not self.trunk_drops
        features = self._features(batch, weighed, moves=True) if once else None
        posterior = self._e_step(batch, weighed, features)
        going = weighed if method.threshold == 0 else above(posterior, method.threshold, weighed)
        for _ in range(method.m_steps_per_e_step):
            yield self._m_step(batch, going, posterior, features)
            features = None
        learned["posterior"] = posterior
        learned["evidence"] = method.updated(self.memory["evidence"], posterior)
        learned["since"] = (self.memory["since"] + 1) % method.e_step_every

    @torch.no_grad()
    def _e_step(self, batch: Batch, weighed: Sequence[int], features: Tensor | None) -> Tensor:
        """P(c | X, y) of every configuration (Eq. 2); of those that are not weighed it stands as it was."""
        if self.method.fixed:
            return self.memory["posterior"]
        with resting(self.dropouts):
            if features is None:
                features = self._features(batch, weighed, moves=False)
            logits = self._logits(features, weighed, moves=False)
        true = -_losses(logits, batch.labels).double()  # [C, B]: log P(y | x, c)
        likelihood = true.sum(1) if self.method.likelihood == "batch" else true.exp().mean(1).log()
        prior = normalised(self.memory["evidence"])
        if len(weighed) == len(self.space):
            return (prior.log() + likelihood).softmax(0)
        posterior = self.memory["posterior"].clone()
        mass = posterior[weighed].sum()
        posterior[weighed] = (prior[weighed].log() + likelihood).softmax(0) * mass
        return posterior

    def _m_step(self, batch: Batch, going: Sequence[int], posterior: Tensor, features: Tensor | None) -> Tensor:
        """The expected loss under the posterior: its gradient is that of Eq. 3."""
        if features is None:
            features = self._features(batch, going, moves=True)
        logits = self._logits(features, going, moves=True)
        each = _losses(logits, batch.labels)
        losses = each.sum(1) if self.reduction == "sum" else each.mean(1)  # [C]
        weights = posterior if len(going) == len(self.space) else posterior[going]
        if self.method.threshold > 0 or self.method.e_step_every > 1:
            weights = weights / weights.sum()
        weights = weights.to(losses.dtype)
        with torch.autocast(losses.device.type, enabled=False):  # what is done to losses is no layer's
            total = weights @ losses
            for block in range(self.network.blocks):
                penalty = self.network.penalty_of(block, self.task)
                if penalty is not None and any(self.space[i][block] for i in going):
                    transfers = self.transfers if len(going) == len(self.space) else self.transfers[going]
                    total = total + weights @ transfers[:, block].to(weights.dtype) * penalty
        return total

    def _leading(self) -> Configuration | None:
        """What statistics follow, where there are any: the configuration that the task would answer with now."""
        return self.method.best(self.network, self.memory) if self.follows else None

    def _features(self, batch: Batch, which: Sequence[int], moves: bool) -> Tensor:
        configurations = [self.space[i] for i in which]
        leading = self._leading() if moves else None
        return _TRUNKS[self.method.computation](self.network, batch.images, self.task, configurations, leading)

    def _logits(self, features: Tensor, which: Sequence[int], moves: bool) -> Tensor:
        leading = self._leading() if moves else None
        return logits_of(self.network, features, self.task, [self.space[i] for i in which], leading)


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Every example's loss under every configuration, `[C, B]`, of logits `[C, B, classes]`."""
    repeated = labels.repeat(len(logits), *(1,) * (labels.ndim - 1))
    return task_loss(logits.flatten(0, 1), repeated, "none").view(len(logits), -1)
