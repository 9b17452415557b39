"""What a method is: how new tasks are learned.

A method holds hyper-parameters alone. What evolves is the network and the method's memory, a dictionary of tensors,
so that both are saved and restored in one way. Learning goes in stages; for each the method says

    enter      what is prepared once, before the stage's first step (the only place that may change the structure)
    objective  which parameters move, and the loss of a batch
    leave      what is settled once a task's last stage is over

`objective` only reads: a run that was killed in the middle of a stage asks for it again and goes on.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork

Memory = dict[str, Tensor]
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Batch:
    """Some examples of one task; `index` are their positions in its training split."""

    images: Float[Tensor, " b c h w"]
    labels: Int64[Tensor, " b"]
    index: Int64[Tensor, " b"]


@dataclass(frozen=True)
class Objective:
    """What one stage does to one task's parameters.

    Attributes:
        moves: the parameters that training moves, by name; all others get no gradient.
        loss: the loss of a batch, a scalar.
    """

    moves: Mapping[str, nn.Parameter]
    loss: Callable[[Batch], Float[Tensor, ""]]


class Method(ABC):
    """How new tasks are learned. Subclasses are frozen dataclasses of hyper-parameters."""

    stages: ClassVar[tuple[str, ...]] = ("train",)
    protocols: ClassVar[tuple[str, ...]] = ("lifelong", "multi-task")
    """The protocols under which it can learn."""

    @abstractmethod
    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        """A network that knows no task yet.

        Args:
            backbone: blocks and head.
            tasks: how many tasks the stream holds; for methods that must know (those of the multi-task protocol).
            seed: of every start.
        """

    @abstractmethod
    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        """Make room for a new task; return its position."""

    @abstractmethod
    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        """Which parameters move, and the loss, while `task` is trained in a stage."""

    def epochs(self, stage: int, epochs: int) -> int:
        """How many epochs a stage trains, of a method that was given `epochs`; by default all of them."""
        return epochs

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int) -> None:
        """Prepare a stage that trains these tasks; by default nothing is to be prepared."""

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> None:
        """Settle what was learned after the last stage of these tasks; by default nothing is to be settled."""
