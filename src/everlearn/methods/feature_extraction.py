"""Feature extraction: the network stays as it is, a new task gets a classifier on its features.

Papers: Donahue et al. (ICML 2014); as the baseline of Li and Hoiem (ECCV 2016), Secs. 1 and 3.

    the first task:  minimise L(f(x; theta_s, theta_1), y)                 over theta_s, theta_1
    each new one:    features h(x) of the last hidden layer, from theta_s at rest
                     minimise L(g(h(x); theta_n), y)                       over theta_n,  g of two layers

Symbols: theta_s the trunk; theta_n the new task's classifier, with 4,096 hidden units in the paper.

Details that change the numbers:
  * Five times the learning rate of the other methods, "due to its small number of parameters" (Sec. 3).
  * The trunk is at rest: no dropout in it, running statistics unchanged. The classifier's own dropout is one half.
  * Features are computed once and kept (if they take no more than half a gigabyte), unless images are augmented, as
    the paper does for this method too.
  * Old tasks answer as before to the last bit.
"""

from dataclasses import dataclass
from typing import ClassVar

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Memory, Method, Objective, Reduction
from everlearn.methods.fine_tuning import follow_the_trunk, head_objective
from everlearn.methods.static import transfer_objective
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.sharing.hard import Hard


@dataclass(frozen=True)
class FeatureExtraction(Method):
    """New tasks get a classifier on the features of a network that no longer moves.

    Attributes:
        hidden: units of the new classifier's hidden layer; 0: a linear classifier.
        head_rate: factor of the learning rate.
    """

    hidden: int = 4096
    head_rate: float = 5.0

    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def __post_init__(self) -> None:
        if self.hidden < 0 or not 0 < self.head_rate < float("inf"):
            raise ConfigurationError(
                f"hidden needs a whole number of at least 0 and head_rate a number above 0, but they came as "
                f"{self.hidden} and {self.head_rate}."
            )

    @property
    def takes_trained(self) -> bool:
        return True

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return LifelongNetwork(backbone, Hard(), seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        task = len(network.tasks)
        network.add_task(classes, (True,) * network.blocks, hidden=self.hidden if task > 0 else 0)
        follow_the_trunk(network, task)
        return task

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        if task == 0:
            return transfer_objective(network, task, reduction)
        return head_objective(network, task, reduction, self.head_rate)
