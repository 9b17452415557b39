"""Static transfer: one sharing rule under a configuration that is fixed beforehand.

Papers: STL, HPS, TF and DF-CNN of Lee, Stokes and Eaton (IJCAI 2019); the static configurations of Lee, Behpour and
Eaton (ICML 2021), Sec. 2; TF also Yang and Hospedales (ICLR 2017) and Bulat et al. (AAAI 2020).

    for each task t:
        new own parameters (those of the rule where c_t = 1, an ordinary layer's where c_t = 0), a new head
        minimise  L(f(x; rule(shared, own_t), head_t), y) + penalty      over shared, own_t, head_t

Symbols: c_t the configuration of task t; L the cross-entropy; theta_s the shared parameters.

Details that change the numbers:
  * The parameters of other tasks never move, but theta_s does, and earlier tasks' weights are made from it anew:
    nothing stops them from drifting.
  * The rule's penalty (the orthogonality of `factors`) is added once a batch, whatever the reduction of the loss.
"""

from dataclasses import dataclass

from torch import Tensor

from everlearn.methods.base import Batch, Memory, Method, Objective, Reduction
from everlearn.methods.losses import task_loss
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import configurations_of_tasks
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.sharing.rule import SharingRule


@dataclass(frozen=True)
class StaticTransfer(Method):
    """A sharing rule under a fixed configuration.

    Attributes:
        rule: how transferred blocks get their weights.
        configuration: which blocks transfer; see `everlearn.networks.configurations`.
        shared_head: one head for all tasks (SNN) instead of one for each.
    """

    rule: SharingRule
    configuration: str = "all"
    shared_head: bool = False

    @property
    def takes_trained(self) -> bool:
        return self.rule.starts_as_given and not self.shared_head

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        found = configurations_of_tasks(self.configuration, len(backbone.blocks), tasks)  # complain before training
        return LifelongNetwork(backbone, self.rule, seed, self.shared_head, tuple(map(any, zip(*found, strict=True))))

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        task = len(network.tasks)
        parts = self.configuration.split("/")
        text = parts[task] if len(parts) > 1 else parts[0]
        return network.add_task(classes, configurations_of_tasks(text, network.blocks, 1)[0])

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        return transfer_objective(network, task, reduction)


def transfer_objective(network: LifelongNetwork, task: int, reduction: Reduction) -> Objective:
    """Everything that the task uses moves, down its cross-entropy and the rule's penalty."""

    def loss(batch: Batch) -> Tensor:
        total = task_loss(network(batch.images, task), batch.labels, reduction)
        penalty = network.penalty(task)
        return total if penalty is None else total + penalty

    return Objective(network.used(task), loss)
