"""Network expansion: each new task gets new nodes in the top layers.

Paper: Li and Hoiem (ECCV 2016), Sec. 4.2, Fig. 6(b) and Table 2(b); the nodes' start: Chen et al. (ICLR 2016).

    each new task:  k new nodes in each of the top layers, connected to all nodes of the layer below
                    minimise L(f(x; theta_s, nodes, theta_n), y)      over the new nodes' weights and theta_n

Symbols: theta_s the trunk as it was; theta_n the new head; k is 1,024 in the paper.

Details that change the numbers:
  * The paper adds nodes to "the top 3 layers" of AlexNet: both hidden fully connected layers and the outputs.
    `layers=2` is that, the new head being the third.
  * What was there is frozen, and does not see the new nodes: old tasks answer as before to the last bit.
  * New nodes copy nodes at random (see `everlearn.networks.expanded`); the new head's weights are random.
  * A further task's nodes are connected to those of earlier tasks too.
  * With LwF (`expansion-lwf`) everything moves, the weights from new nodes to old ones, which start at zero, too.
"""

from dataclasses import dataclass

import torch

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Memory
from everlearn.methods.fine_tuning import FineTuning
from everlearn.networks.backbone import Backbone
from everlearn.networks.expanded import ExpandedNetwork
from everlearn.networks.lifelong import LifelongNetwork


@dataclass(frozen=True)
class Expansion(FineTuning):
    """New nodes for each new task, all else frozen.

    Attributes:
        nodes: k, that each layer gets.
        layers: how many blocks of the trunk get them, counted from the head.
    """

    nodes: int = 1024
    layers: int = 2
    statistics: str = "task"

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return expanding(backbone, seed, self.nodes, self.layers, self.configuration, whole=False)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        task = super().begin(network, memory, classes)
        grow(network, task, self.nodes)
        return task

    def moves(self, network: LifelongNetwork, task: int, bound: bool) -> dict[str, torch.nn.Parameter]:
        if task == 0:
            return network.used(task)
        return {name: p for name, p in network.used(task).items() if name.startswith(f"tasks.{task}.")}


def expanding(
    backbone: Backbone, seed: int, nodes: int, layers: int, configuration: str, whole: bool
) -> ExpandedNetwork:
    """The network of a method that widens the trunk by so many nodes in each of so many layers.

    Raises:
        ConfigurationError: less than one node, or blocks that do not transfer, which nothing says how to widen.
    """
    if nodes < 1 or configuration != "all":
        raise ConfigurationError(
            "network expansion needs nodes of at least 1 and every block shared, but came with "
            f"nodes={nodes} and the configuration {configuration!r}."
        )
    return ExpandedNetwork(backbone, seed, layers, whole)


def grow(network: LifelongNetwork, task: int, nodes: int) -> None:
    """Add a new task's nodes."""
    if task > 0 and nodes:
        assert isinstance(network, ExpandedNetwork)
        network.expand(task, nodes)
