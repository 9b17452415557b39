"""Tensor factorisation that starts from trained single-task networks: "TF (Distillation)".

Paper: Yang and Hospedales (ICLR 2017), Sec. 4.1; Table 2 of Lee, Stokes and Eaton (IJCAI 2019, App. C).

    stage 1   train every task's own network (STL)
    stage 2   stack the tasks' filters of each layer, W = [W_1 ... W_T]; decompose W = S x_1 U_1 ... x_5 U_5;
              train core, factors, biases and heads

Symbols: S the core, U_n the factor of mode n; the fifth mode counts tasks.

Details that change the numbers:
  * Both stages last the full number of epochs: together about twice the training of any other row.
  * Biases and heads carry on from stage 1; the papers do not say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from everlearn.methods.base import Batch, Data, Memory, Method, Objective, Reduction
from everlearn.methods.losses import task_loss
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.sharing.rule import Tensors
from everlearn.sharing.tucker import Tucker


@dataclass(frozen=True)
class FactorisedFromTrained(Method):
    """Train single-task networks, factorise them together, train on.

    Attributes:
        rule: the factorisation; knows the number of tasks.
    """

    rule: Tucker

    stages: ClassVar[tuple[str, ...]] = ("single tasks", "factorised")
    protocols: ClassVar[tuple[str, ...]] = ("multi-task",)

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return LifelongNetwork(backbone, self.rule, seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        return network.add_task(classes, (False,) * network.blocks)

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        if stage == 0:
            return
        for block, sites in enumerate(network.sites):
            trained = [network.weights(block, task) for task in tasks]
            shared: dict[str, Tensors] = {}
            own: list[dict[str, Tensors]] = [{} for _ in tasks]
            for site in sites:
                layers = [site.pick(weights) for weights in trained]
                shared[site.path] = self.rule.from_trained(site.layer, [w["weight"].detach() for w in layers])
                for part, layer in zip(own, layers, strict=True):
                    part[site.path] = {"bias": layer["bias"]} if site.layer.bias else {}
            network.transfer_block(block, shared, dict(zip(tasks, own, strict=True)))

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        def loss(batch: Batch) -> Tensor:
            return task_loss(network(batch.images, task), batch.labels, reduction)

        return Objective(network.used(task), loss)
