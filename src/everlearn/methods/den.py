"""DEN: a network that retrains what a task needs, grows where that is not enough, and splits what drifted too far.

Paper: J. Yoon, E. Yang, J. Lee and S. J. Hwang, "Lifelong Learning with Dynamically Expandable Networks", ICLR 2018.

    t = 1:   minimise L(W) + mu sum_l |W_l|_1                                                                   (Eq. 2)
    t > 1:   SelectiveRetraining (Alg. 2)
               minimise L(W_L,t) + mu |W_L,t|_1 over the new outputs' weights alone                              (Eq. 3)
               S = the units that lead to those it uses (everlearn.methods.selection)
               minimise L(W_S) + mu |W_S|_2^2 over S alone, cut out of the network                               (Eq. 4)
             DynamicExpansion (Alg. 3), if L > tau
               k new units a layer: minimise L(W^N) + mu |W^N|_1 + gamma sum_g |W^N_g|_2 over them alone         (Eq. 5)
               remove those whose incoming weights are zero
             Split (Alg. 4)
               minimise L(W) + lambda |W - W^{t-1}|_2^2                                                          (Eq. 6)
               split each unit i with rho_i = |w_i^t - w_i^{t-1}|_2 > sigma (everlearn.methods.splitting), and again
    inference: task t sees the units that were there when it was learned (everlearn.networks.growing)

Symbols: L the mean loss of the task (beside a sum of losses norms count once for each example), W^{t-1} the weights
that the last task left, g the incoming weights of a new unit.

Details that change the numbers:
  * The paper gives no number but k = 10, 13 and 20. mu = 1e-5, 1e-4 (Eq. 4), gamma = 1e-3, lambda = 0.25, tau = 0.01,
    sigma = 0.05 and k = 10 are its authors' code's. There a proximal step is by mu and gamma whatever the rate
    (`proximal=fixed`); here by their product with the rate, so that they weigh against the gradient as the equations
    say, or rather against the gradient as the optimiser scales it. At a rate of 1e-3 mu = 0.01 is then the code's.
  * Hardly any weight is exactly zero where every step is noisy: what is smaller than `zero` when a task is over counts
    as zero, if it was zero before, is new, or the task is the first.
  * Eq. 3 is solved exactly, on the training images' features, with its own strength `mu_top`. The code takes one step,
    which leaves nearly every weight: `selecting=all` is what that amounts to.
  * The hidden layers of a head are shared and grow; a head is one layer. Biases bear no l1 norm.
  * Convolutions: a connection is a kernel, whose l2 norm counts in Eqs. 2 and 5; a unit is a filter (Sec. 3).
  * S is dense: weights between selected units that were zero move as well. New units are joined to S and to each other,
    and see all inputs. With the code every input is in S (`inputs=all`).
  * The whole head of the task moves in Eq. 5. Its weights from new units start at zero, like those from new units into
    selected ones, so that the loss goes on from where it was.
  * Eq. 4 has the drift term of Eq. 6 and the l1 norm besides (`retraining=drift`), as in the code. As it stands (`l2`)
    S is free to forget: it fits nearly every new task, so that L > tau hardly ever holds, and Eq. 6 then takes back
    what was learned without new units to hold it. The paper has all its incremental models regularised (Sec. 4).
  * Eq. 6 is over S and the new units: what is not in S stays as it was. W^{t-1} of new weights is nothing, so they are
    free. The code does not solve it anew before splitting.
  * One task's epochs are shared out among its stages by `retrain`, `expand`, `drift` and `split`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, check_not_negative
from everlearn.methods import den_equations as equations
from everlearn.methods.base import Data, Finding, Images, Memory, Method, Objective, Rate, Reduction
from everlearn.methods.expanding import add_units, keep_needed, new_weights
from everlearn.methods.losses import task_loss
from everlearn.methods.proximal import connections
from everlearn.methods.sampling import some_of
from everlearn.methods.selection import leading_to, sparse_linear, used_units
from everlearn.methods.splitting import drifts, split_units
from everlearn.networks.backbone import Backbone
from everlearn.networks.growing import GrowingNetwork
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.trunks import at_rest
from everlearn.networks.units import expanded, which, whole, with_shared_hidden_layers
from everlearn.seeds import generator

FIRST, RETRAIN, EXPAND, DRIFT, SPLIT, TUNE = range(6)
"""The stages: of the first task Eq. 2; of others Eqs. 4, 5, 6 and 6 again; and all tasks together, if asked for."""

BATCH = 250
"""Images at a time where features and losses are computed."""

FEATURES = 2**26
"""Bytes of features that Eq. 3 is solved on; of more images, as many as fit."""

_CHOICES = {
    "selecting": ("converged", "all"),
    "outputs": ("all", "first"),
    "inputs": ("connected", "all"),
    "retraining": ("l2", "drift"),
    "proximal": ("rate", "fixed"),
    "loss_of": ("all", "batch"),
    "splitting": ("always", "expanded", "never"),
    "copies": ("new", "old"),
    "edges": ("handed", "copied"),
}


@dataclass(frozen=True)
class Den(Method):
    """Dynamically expandable networks.

    Attributes:
        mu: strength of the l1 norm in Eqs. 2 and 5.
        mu_top: strength of the l1 norm in Eq. 3.
        l2: strength of the l2 norm in Eq. 4.
        gamma: strength of the group norm in Eq. 5; 0 keeps every new unit.
        lambda_drift: lambda of Eq. 6.
        tau: the training loss above which the network is expanded.
        sigma: the drift above which a unit is split.
        k: new units that are tried in each layer.
        zero: the size below which a weight counts as zero once its task is over.
        retrain: share of a task's epochs for Eq. 4.
        expand: for Eq. 5.
        drift: for Eq. 6 before units are split.
        split: for Eq. 6 after that.
        selecting: solve Eq. 3 until it has `converged`, or select `all` units.
        outputs: units count as selected that `all` outputs use, or the `first` alone (the authors' code).
        inputs: S takes the inputs that are `connected` to it, or `all`.
        retraining: Eq. 4 with the term of Eq. 6 and the l1 norm (`drift`, the authors' code), or as it stands (`l2`).
        proximal: norms weigh against the gradient (`rate`), or act by themselves at every step (`fixed`).
        loss_of: L is compared with tau over `all` training images, or over one `batch` (the authors' code).
        splitting: units are split `always` that drifted, only in tasks that `expanded` the network, or `never`.
        split_most: at most so many units a layer are split, those that drifted least; 0: no limit.
        copies: a copy starts from the `new` weights, or from the `old` ones (the authors' code).
        edges: what took from a unit takes from its copy, and nothing from new units at first (`handed`); or from both,
            and at random from new units (`copied`, the authors' code).
        stamped: whether a task sees only the units that were there when it was learned.
        tune_after: after so many tasks all are trained together in the structure that was found; 0: never.
    """

    mu: float = 0.05
    mu_top: float = 1e-3
    l2: float = 1e-4
    gamma: float = 1.0
    lambda_drift: float = 0.25
    tau: float = 0.01
    sigma: float = 0.05
    k: int = 10
    zero: float = 0.01
    retrain: float = 0.4
    expand: float = 0.2
    drift: float = 0.2
    split: float = 0.2
    selecting: str = "converged"
    outputs: str = "all"
    inputs: str = "connected"
    retraining: str = "drift"
    proximal: str = "rate"
    loss_of: str = "all"
    splitting: str = "always"
    split_most: int = 0
    copies: str = "new"
    edges: str = "handed"
    stamped: bool = True
    tune_after: int = 0

    stages: ClassVar[tuple[str, ...]] = ("train", "retrain", "expand", "drift", "split", "fine-tune")
    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def __post_init__(self) -> None:
        check_not_negative(
            self, "mu", "mu_top", "l2", "gamma", "lambda_drift", "zero", "retrain", "expand", "drift", "split"
        )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"{name} is {' or '.join(choices)}, but came as {getattr(self, name)!r}.")
        if self.k < 1 or self.split_most < 0 or self.tune_after < 0 or not (self.tau >= 0 and self.sigma >= 0):
            raise ConfigurationError(
                "k needs a whole number of at least 1, and split_most, tune_after, tau and sigma numbers of at least "
                f"0, but they came as {self.k}, {self.split_most}, {self.tune_after}, {self.tau} and {self.sigma}."
            )

    # ---------------------------------------------------------------- the frame

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return GrowingNetwork(with_shared_hidden_layers(backbone), seed, self.stamped)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        for what in ("selected", "added", "split"):
            memory[what] = torch.zeros(network.blocks, dtype=torch.int64)
        memory["loss"] = torch.zeros(())
        return growing(network).add(classes)

    def epochs(self, stage: int, epochs: int, task: int) -> int:
        if stage == FIRST:
            return epochs if task == 0 else 0
        if stage == TUNE:
            return epochs if task + 1 == self.tune_after else 0
        shares = (self.retrain, self.expand, self.drift, self.split)
        if task == 0 or shares[stage - 1] == 0:
            return 0
        # Rounded where a stage ends, so that what is rounded up and down does not add up.
        return max(1, round(sum(shares[:stage]) * epochs) - round(sum(shares[: stage - 1]) * epochs))

    def sources(self, task: int, stage: int) -> tuple[int, ...]:
        return tuple(range(task + 1)) if stage == TUNE else (task,)

    def needed(self, network: LifelongNetwork, memory: Memory, task: int, stage: int) -> bool:
        if stage == EXPAND:
            return float(memory["loss"]) > self.tau
        return stage != SPLIT or bool(memory["split"].any())

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        task, grown = tasks[0], growing(network)
        if stage == TUNE:
            self._close(grown, task)
        if task == 0 or task not in data:
            return
        if stage == RETRAIN:
            self._select(grown, memory, task, data[task])
        elif stage == EXPAND and self.expand > 0:
            memory["loss"] = torch.tensor(self._training_loss(grown, task, data[task]))
            if self.needed(network, memory, task, EXPAND):
                add_units(grown, task, self.k, random=self.edges == "copied")
        elif stage == DRIFT and new_weights(grown, task):
            memory["added"] = torch.tensor(keep_needed(grown, task))
        elif stage == SPLIT:
            self._split(grown, memory, task)

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        grown = growing(network)
        if stage == FIRST:
            return equations.first_task(grown, self.mu, self._scale, reduction)
        if stage == RETRAIN and self.retraining == "drift":
            return equations.retraining_near(grown, task, self.l2, self.lambda_drift, self.mu, self._scale, reduction)
        if stage == RETRAIN:
            return equations.retraining(grown, task, self.l2, reduction)
        if stage == EXPAND:
            return equations.expanding(grown, task, self.mu, self.gamma, self._scale, reduction)
        if stage == TUNE:
            return equations.all_tasks(grown, task, self.l2, reduction)
        return equations.drifting(grown, task, self.lambda_drift, reduction)

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        # What was closed before the last stage, and has not been trained since, is evaluated in its last form.
        return {name for task in range(len(network.tasks)) for name in network.used(task)}

    def finding(self, network: LifelongNetwork, memory: Memory, task: int) -> Finding | None:
        grown = growing(network)
        counts = {what: whole(memory[what]) for what in ("selected", "added", "split")} if task else {}
        return Finding((True,) * grown.blocks, counts={"units": grown.units(task), **counts})

    # ---------------------------------------------------------------- between the stages

    def _select(self, network: GrowingNetwork, memory: Memory, task: int, images: Images) -> None:
        """Eq. 3 and the search from the top; the part that is found is cut out."""
        each, head = network.each[-1], network.head_layer(task)
        if self.selecting == "all":
            top = tuple(range(network.sizes()[-1]))
            weight, bias = head.weight.detach(), head.bias.detach()
        else:
            features, labels = self._features(network, task, images)
            weight, bias = sparse_linear(features, labels, network.classes[task], self.mu_top)
            top = used_units(weight, each, self.outputs == "first")
        units = leading_to(network, top, self.inputs == "all")
        network.cut_out(task, units)
        network.set_head(task, weight[:, expanded(top, each).to(weight.device)], bias)
        memory["selected"] = torch.tensor([len(one) for one in units[1:]])

    def _features(self, network: GrowingNetwork, task: int, images: Images) -> tuple[Tensor, Tensor]:
        """What reaches the task's outputs of its training images, `[n, units * pixels]`, and their labels."""
        features: list[Tensor] = []
        labels: list[Tensor] = []
        # Not what leaves the trunk: a head may pool that before its layer.
        watched = network.head_layer(task).register_forward_pre_hook(
            lambda _, seen: features.append(seen[0].flatten(1))
        )
        with watched, at_rest(network):
            network(images.take(slice(0, 1)), task)
            random = generator(network.seed, "features", task)
            for some, truth in some_of(images, max(1, FEATURES // features.pop().nbytes), BATCH, random):
                network(some, task)
                labels.append(truth)
        return torch.cat(features), torch.cat(labels)

    def _training_loss(self, network: GrowingNetwork, task: int, images: Images) -> float:
        total, seen = 0.0, 0
        with at_rest(network):
            most, random = BATCH if self.loss_of == "batch" else 0, generator(network.seed, "loss", task)
            for some, truth in some_of(images, most, BATCH, random):
                total, seen = total + float(task_loss(network(some, task), truth, "sum")), seen + len(truth)
        return total / seen

    def _split(self, network: GrowingNetwork, memory: Memory, task: int) -> None:
        expanding = float(memory["loss"]) > self.tau
        if self.splitting == "never" or (self.splitting == "expanded" and not expanding):
            return
        chosen: list[list[int]] = []
        for rho in drifts(network, task):
            moved = sorted(which(rho > self.sigma), key=lambda unit: float(rho[unit]))
            chosen.append(sorted(moved[: self.split_most] if self.split_most else moved))
        memory["split"] = torch.tensor([len(units) for units in chosen])
        if any(chosen):
            split_units(network, task, chosen, self.copies == "old", self.edges == "copied")

    def _close(self, network: GrowingNetwork, task: int) -> None:
        """Put the task's part back; what is next to nothing and was nothing is nothing."""
        if task == 0:
            for block in range(network.blocks):
                _clean(network.trunk(block).weight, self.zero)
            return
        if not network.structures[task].cut:
            return
        for block, layer in enumerate(network.cut(task)):
            old = network.old(task, block).weight
            held = torch.zeros(layer.weight.shape[:2], dtype=torch.bool, device=network.device)
            held[: old.shape[0], : old.shape[1]] = connections(old) > 0
            _clean(layer.weight, self.zero, held)
        network.close(task)

    def _scale(self, rate: Rate) -> Rate:
        return rate if self.proximal == "rate" else 1.0


def growing(network: LifelongNetwork) -> GrowingNetwork:
    """The network, which is one that grows."""
    assert isinstance(network, GrowingNetwork)
    return network


@torch.no_grad()
def _clean(weight: Tensor, zero: float, held: Tensor | None = None) -> None:
    """Make connections exactly zero that are smaller than `zero`, but for those that are held; in place."""
    small = connections(weight) < zero
    if held is not None:
        small &= ~held
    weight[small] = 0
