"""APD-Net: weights are a masked shared part and a sparse part of a task's own; old tasks' parts follow the shared one.

Paper: J. Yoon, S. Kim, E. Yang and S. J. Hwang, "Scalable and Order-robust Continual Learning with Additive Parameter
Decomposition", ICLR 2020 (arXiv 1902.09432), Sec. 3 and Algorithm 1. APD(1) is without the consolidation, APD(2) with.

    for each task t:
        theta*_i <- sigma * M_i + sigma_g(i) + tau_i                for each i < t, as the last task left it
        minimise over sigma, tau_1 ... tau_t, v_1 ... v_t and the task's biases and head
            L({sigma * M_t + tau_t}; D_t) + lambda_1 sum_{i<=t} ||tau_i||_1
                                          + lambda_2 sum_{i<t} ||theta*_i - (sigma * M_i + sigma_g(i) + tau_i)||^2
        entries of tau_i of at most `drop_below` <- 0
        every s tasks, for each layer:
            tau_i <- tau_i + sigma_g(i);  group the tau_i by K-means
            for each group g of several tasks and each entry j:
                if max tau_{i,j} - min tau_{i,j} <= beta over the group:  sigma_{g,j} <- mean tau_{i,j},  tau_{i,j} <- 0
                else:                                                     sigma_{g,j} <- 0

Symbols: sigma what all tasks share; M_t = sigmoid(v_t) the mask of the outputs; tau_t what is the task's own; sigma_g
what a group of tasks shares; s = `consolidate_every`; K = `clusters`, by which the number of groups grows each time.

Details that change the numbers ("code" is the authors', jaehong31/APD):
  * All layers of the trunk are decomposed. Biases, normalisation and heads are the task's own and never move again.
  * The two penalties are sums, once a batch, whatever the reduction of the loss; the code's loss is a mean.
  * The code's second penalty has a half, so its 100 is a `lambda_2` of 50 here.
  * sigma_g does not move in training. v_i does, in the code too, although its option `mask_retrainable` is off.
  * tau_t starts as a copy of sigma (code, `tau_start=copy`) or at `zero`, M_t near one half.
  * `wd_rate`, of the code alone: weight decay of tau_t, v_t, and in the first task sigma.
  * Small entries are dropped for good when a task ends. The code leaves them out (below lambda_1) whenever it tests,
    and trains on with them.
  * A common entry goes to the group's mean (`centre=mean`) or midway between its extremes (code, `middle`). What each
    task had beside it is lost, at most beta of a weight, or half of it.
  * K-means starts from the groups as they were and from random tau_i beside them. There are K (t / s) groups.
  * The code multiplies all gradients by 10. Its Adam divides by their size, so only epsilon is thereby a tenth.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, UnknownNameError, check_not_negative
from everlearn.methods.base import Batch, Data, Finding, Memory, Method, Objective, Reduction
from everlearn.methods.losses import task_loss
from everlearn.networks.additive_network import AdditiveNetwork, adapted
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.seeds import derive, generator

_CHOICES = {"tau_start": ("copy", "zero"), "centre": ("mean", "middle")}
_BEFORE = "theta "


@dataclass(frozen=True)
class ApdNet(Method):
    """Additive parameter decomposition, with retroactive updates and hierarchical consolidation.

    Attributes:
        lambda_1: weight of the sum of |tau_i| over all tasks.
        lambda_2: weight of the squared distance of old tasks' weights from what they were.
        drop_below: entries of tau and sigma_g of at most this size become zero when a task is over.
        wd_rate: weight decay of tau_t and v_t, and in the first task of sigma; as half a square.
        tau_start: where tau_t starts: as a `copy` of sigma, or at `zero`.
        consolidate_every: s, tasks from one consolidation to the next; 0: there is none, APD(1).
        clusters: K, by how many the groups of a layer grow with each consolidation.
        beta: how far apart the entries of a group may lie and still be one.
        centre: what a common entry becomes: the group's `mean`, or the `middle` of its least and largest.

    Raises:
        UnknownNameError: a choice that does not exist.
        ConfigurationError: a number out of range.
    """

    lambda_1: float = 4e-4
    lambda_2: float = 100.0
    drop_below: float = 4e-4
    wd_rate: float = 1e-4
    tau_start: str = "copy"
    consolidate_every: int = 5
    clusters: int = 2
    beta: float = 0.01
    centre: str = "mean"

    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UnknownNameError(name, getattr(self, name), choices)
        check_not_negative(self, "lambda_1", "lambda_2", "drop_below", "wd_rate", "consolidate_every", "beta")
        if self.clusters < 1:
            raise ConfigurationError(f"clusters needs a whole number of at least 1, but came as {self.clusters}.")

    # ---------------------------------------------------------------- a task's beginning and end

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return AdditiveNetwork(backbone, seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        assert isinstance(network, AdditiveNetwork)
        task = network.add(classes)
        if self.tau_start == "copy":
            for layer in range(network.layers):
                _put(network.tau(task, layer), network.sigma(layer))
        return task

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        assert isinstance(network, AdditiveNetwork)
        if self.lambda_2 == 0 or tasks[0] == 0:
            return
        with torch.no_grad():
            for layer in range(network.layers):
                masks, taus = _of_tasks(network, layer, tasks[0])
                # sigma_g stands still while a task is trained, so it is left out here and in the penalty.
                memory[f"{_BEFORE}{layer}"] = adapted(network.sigma(layer), torch.stack(masks), torch.stack(taus))

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        assert isinstance(network, AdditiveNetwork)
        for name in [name for name in memory if name.startswith(_BEFORE)]:
            del memory[name]
        known, moved = tasks[0] + 1, set[str]()
        for layer in range(network.layers):
            for task in range(known):
                tau = network.tau(task, layer)
                if _put(tau, without_small(tau, self.drop_below)):
                    moved.add(network.name(task, layer, "addition"))
            if self.consolidate_every > 0 and known % self.consolidate_every == 0:
                moved |= self._consolidate(network, layer, known)
        return moved

    def finding(self, network: LifelongNetwork, memory: Memory, task: int) -> Finding:
        """How many numbers of each block are not zero, of all tasks together."""
        assert isinstance(network, AdditiveNetwork)
        return Finding(network.structures[task].configuration, counts=network.nonzero())

    # ---------------------------------------------------------------- a batch

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        assert isinstance(network, AdditiveNetwork)

        penalty = self.penalty(network, memory, task)

        def loss(batch: Batch) -> Tensor:
            return task_loss(network(batch.images, task), batch.labels, reduction) + penalty()

        moves = {name: p for name, p in network.used(task).items() if ".extra." not in name}
        for layer in range(network.layers):
            for old in range(task):
                if self.lambda_1 > 0 or self.lambda_2 > 0:
                    moves[network.name(old, layer, "addition")] = network.tau(old, layer)
                if self.lambda_2 > 0:
                    moves[network.name(old, layer, "mask")] = network.mask(old, layer)
        return Objective(moves, loss)

    def penalty(self, network: AdditiveNetwork, memory: Memory, task: int) -> Callable[[], Float[Tensor, ""]]:
        """What is added to the loss of each batch while a task is trained."""
        layers = [
            (network.sigma(layer), *_of_tasks(network, layer, task + 1), memory.get(f"{_BEFORE}{layer}"))
            for layer in range(network.layers)
        ]

        def added() -> Tensor:
            total = torch.zeros((), device=network.device)
            for sigma, masks, taus, before in layers:
                stacked = torch.stack(taus)  # [tasks, outputs, ...]
                total = total + self.lambda_1 * stacked.abs().sum()
                if before is not None:
                    drift = adapted(sigma, torch.stack(masks[:-1]), stacked[:-1]) - before
                    total = total + self.lambda_2 * drift.square().sum()
                for held in (taus[-1], masks[-1], sigma) if task == 0 else (taus[-1], masks[-1]):
                    total = total + self.wd_rate / 2 * held.square().sum()
            return total

        return added

    # ---------------------------------------------------------------- consolidation

    def _consolidate(self, network: AdditiveNetwork, layer: int, known: int) -> set[str]:
        """Group the tasks of a layer anew; return the names of what was changed."""
        full = torch.stack([_full(network, task, layer) for task in range(known)])  # [tasks, *weight]
        before = [list(members) for members in network.groups(layer)]
        alone = [[task] for task in range(known - self.consolidate_every) if all(task not in one for one in before)]
        starts = [full[members].mean(0) for members in sorted(before + alone)]
        count = min(known, self.clusters * known // self.consolidate_every)
        order = torch.randperm(known, generator=generator(network.seed, "clusters", known, layer)).to(full.device)
        starts += full[order[len(starts) : count]].unbind(0)
        seed = derive(network.seed, "k-means", known, layer)
        labels = grouped(full.flatten(1), torch.stack(starts[:count]).flatten(1), seed)
        common: dict[tuple[int, ...], Tensor] = {}
        for label in sorted(set(labels)):
            members = tuple(task for task, one in enumerate(labels) if one == label)
            if len(members) > 1:
                index = list(members)
                common[members], full[index] = shared_part(full[index], self.beta, self.centre)
        network.regroup(layer, {members: without_small(one, self.drop_below) for members, one in common.items()})
        moved = set(network.groups(layer).values())
        for task in range(known):
            if _put(network.tau(task, layer), full[task]):
                moved.add(network.name(task, layer, "addition"))
        return moved


def without_small(tensor: Tensor, size: float) -> Tensor:
    """The tensor with zeros for entries of at most this size."""
    large: Bool[Tensor, "..."] = tensor.abs() > size
    return torch.where(large, tensor, torch.zeros_like(tensor))


def shared_part(full: Tensor, beta: float, centre: str) -> tuple[Tensor, Tensor]:
    """What a group of tasks has in common, and what each has left (the paper's decomposition).

    Args:
        full: tau of each task, `[tasks, ...]`.
        beta: entries that lie no farther apart are one.
        centre: it is their `mean`, or the `middle` of the least and the largest.

    Returns:
        sigma_g, `[...]`, zero where the tasks differ; and tau, `[tasks, ...]`, zero where they do not.
    """
    least, largest = full.amin(0), full.amax(0)
    one = largest - least <= beta
    middle = full.mean(0) if centre == "mean" else (least + largest) / 2
    zero = torch.zeros_like(full)
    return torch.where(one, middle, zero[0]), torch.where(one, zero, full)


def grouped(points: Float[Tensor, " n d"], starts: Float[Tensor, " k d"], seed: int) -> list[int]:
    """The group of each point, by at most a hundred steps of K-means from these centres; fewer if points coincide."""
    found: Any = import_module("sklearn.cluster")  # here, not above: it takes a second, and only this method needs it
    means = found.KMeans(len(starts), init=starts.cpu().numpy(), n_init=1, max_iter=100, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # Of its ConvergenceWarning: tasks that are alike are one group, as they should be.
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        return [int(label) for label in means.fit_predict(points.cpu().numpy())]


def _of_tasks(network: AdditiveNetwork, layer: int, tasks: int) -> tuple[list[Tensor], list[Tensor]]:
    """v and tau of the first tasks."""
    return [network.mask(i, layer) for i in range(tasks)], [network.tau(i, layer) for i in range(tasks)]


def _full(network: AdditiveNetwork, task: int, layer: int) -> Tensor:
    """tau with what the task's group shares, copied."""
    tau, local = network.tau(task, layer).detach(), network.local(task, layer)
    return tau.clone() if local is None else tau + local.detach()


def _put(parameter: nn.Parameter, numbers: Tensor) -> bool:
    """Give a parameter new numbers; return whether they are other ones."""
    with torch.no_grad():
        if torch.equal(parameter, numbers):
            return False
        parameter.copy_(numbers)
    return True
