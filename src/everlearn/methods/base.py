"""What a method is: how new tasks are learned.

A method holds hyper-parameters alone. What evolves is the network and the method's memory, a dictionary of tensors,
so that both are saved and restored in one way. Learning goes in stages; for each the method says

    enter      what is prepared once, before the stage's first step (the only place that may change the structure)
    objective  which parameters move, and the loss of a batch
    leave      what is settled once a task's last stage is over

`enter` and `leave` may look at the training images of the task in hand, and of no other; a method that needs the images
of earlier tasks says so (`sources`).

`objective` only reads: a run that was killed in the middle of a stage asks for it again and goes on. What evolves with
every batch (a posterior, a count) is written to the memory between the losses that `Objective.steps` gives.

A method may try a task in several ways, each from the same start (`attempts`, `restart`, `judge`), and say what it
has found out about a task (`finding`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import Configuration
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.settings import Training

Memory = dict[str, Tensor]
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Batch:
    """Some examples of one task.

    Attributes:
        images: of the examples.
        labels: of the examples; of a multi-label task a row of 0 and 1 each.
        index: their positions in the task's training split.
        step: how many batches of the epoch came before.
        task: whose examples they are.
        plain: whether the images are as they lie in the split, not augmented.
        kept: what `Objective.still` gives for every image of the split, where it is kept; empty elsewhere.
    """

    images: Float[Tensor, " b c h w"]
    labels: Int64[Tensor, " b"] | Float32[Tensor, " b classes"]
    index: Int64[Tensor, " b"]
    step: int = 0
    task: int = 0
    plain: bool = True
    kept: tuple[Tensor, ...] = ()

    @property
    def still(self) -> tuple[Tensor, ...]:
        """What `Objective.still` gives for these images; empty where that is not kept, or not of these images."""
        return tuple(tensor[self.index] for tensor in self.kept) if self.plain else ()


@runtime_checkable
class Images(Protocol):
    """A task's training split, as a method sees it between stages; augmentation leaves these as they are."""

    @property
    def labels(self) -> Tensor:
        """Of all images."""
        ...

    def take(self, index: Tensor | slice) -> Tensor:
        """The images at these positions, `[b, C, H, W]`."""
        ...

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images and labels in order, so many at a time."""
        ...


Data = Mapping[int, Images]
"""Training splits by the position of their task; a task that came with a trained network may have none."""


Rate = float | Tensor
"""A learning rate: a number, or where a recorded step reads it, a tensor without sides on the device."""


def check_moves(moves: object) -> None:
    """Raise `ConfigurationError` for what is not parameters by name."""
    if not isinstance(moves, Mapping):
        raise ConfigurationError(
            "the moves of an objective need to be parameters by name (network.used(task) gives them), but came as a "
            f"{type(moves).__name__}."
        )


@dataclass(frozen=True)
class Objective:
    """What one stage does to one task's parameters.

    Attributes:
        moves: the parameters that training moves, by name; all others get no gradient.
        loss: the loss of a batch, a scalar.
        steps: what is done with a batch, where that is more than one step down the loss: an iterator of losses. The
            optimiser takes a step after each, before the next is asked for; what is to be remembered of the batch is
            written to the memory after the last.
        apart: those of `moves` that each have an optimiser of their own, and its settings (the architecture weights
            of DARTS). A step moves only what its loss has given a gradient.
        pace: factors of the learning rate, by name, where a parameter's is not 1.
        after: what is done after each step of the optimisers, given the learning rate of the step (a proximal step),
            a number or a tensor without sides; gradients are not recorded.
        before: what is done to the gradients before each step of the optimisers (a projection, a term whose gradient is
            known); nothing of it is recorded for gradients.
        still: what no step of the stage changes of an image, such as what a trunk at rest gives for it: a function of
            images `[b, C, H, W]` that gives tensors of `b` rows, from a network at rest. It is computed once for each
            training image and then found in `Batch.still`; not so for augmented images, nor where it would fill the
            memory.
        answer: the logits of the task in training from what is still of images, and a function that gives the images
            where it needs them too (a head on features at rest does not: then they need not be decoded). With it, what
            is still of images that are evaluated is computed once as well.
        alike: whether `steps` computes the same whatever is in a batch and came before it, and writes what it
            remembers into the memory's tensors as they lie: then it can be recorded on a GPU.
    """

    moves: Mapping[str, nn.Parameter]
    loss: Callable[[Batch], Float[Tensor, ""]]
    steps: Callable[[Batch], Iterator[Float[Tensor, ""]]] | None = None
    apart: Mapping[str, Training] = field(default_factory=dict[str, Training])
    pace: Mapping[str, float] = field(default_factory=dict[str, float])
    after: Callable[[Rate], None] | None = None
    before: Callable[[], None] | None = None
    still: Callable[[Tensor], tuple[Tensor, ...]] | None = None
    answer: Callable[[tuple[Tensor, ...], Callable[[], Tensor]], Float[Tensor, " n classes"]] | None = None
    alike: bool = False

    def __post_init__(self) -> None:
        check_moves(self.moves)

    def losses(self, batch: Batch) -> Iterator[Float[Tensor, ""]]:
        """The losses of a batch, one for each step of the optimisers."""
        return iter((self.loss(batch),)) if self.steps is None else self.steps(batch)


@dataclass(frozen=True)
class Finding:
    """What a method has found out about a task.

    Attributes:
        configuration: the blocks that it lets transfer, as far as it knows.
        weights: what speaks for each configuration: a probability, or an accuracy; empty if nothing was weighed.
        blocks: for each block, the probability that it transfers; empty if nothing was weighed.
        attempt: which attempt was kept, if there were several and that is settled.
        counts: of each block a number, by what was counted: units that were selected, added, split.
    """

    configuration: Configuration
    weights: Mapping[Configuration, float] = field(default_factory=dict[Configuration, float])
    blocks: tuple[float, ...] = ()
    attempt: int | None = None
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


class Method(ABC):
    """How new tasks are learned. Subclasses are frozen dataclasses of hyper-parameters."""

    stages: ClassVar[tuple[str, ...]] = ("train",)
    protocols: ClassVar[tuple[str, ...]] = ("lifelong", "multi-task")
    """The protocols under which it can learn."""
    looks_back: ClassVar[bool] = False
    """Whether it must see, once, the training images of the tasks that such a network knows."""

    @property
    def takes_trained(self) -> bool:
        """Whether it can go on from a network that somebody trained, whose tasks it never learned itself."""
        return False

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

    def epochs(self, stage: int, epochs: int, task: int) -> int:
        """How many epochs a stage of a task trains, of a method that was given `epochs`; by default all of them."""
        return epochs

    def needed(self, network: LifelongNetwork, memory: Memory, task: int, stage: int) -> bool:
        """Whether a stage that has been entered is to be trained at all; by default every stage is.

        The epochs of one that is not pass by without a step, so that a task's place among the epochs of a run is
        known beforehand. To be told from network and memory alone: a run that goes on asks again.
        """
        return True

    def sources(self, task: int, stage: int) -> tuple[int, ...]:
        """The tasks whose images a stage of a task trains on, equally many of each in turn; by default its own."""
        return (task,)

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        """Prepare a stage that trains these tasks; by default nothing is to be prepared."""

    def doubts(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> list[str]:
        """What a person should be warned of once these tasks' last stage is over, a sentence each."""
        return []

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        """Settle what was learned after the last stage of these tasks; also of one that came with a trained network.

        Returns:
            the names of the parameters whose numbers it changed, so that whoever uses them is evaluated again.
        """
        return set()

    def attempts(self, blocks: int, task: int) -> int:
        """How often a task is trained, each time from the same start; by default once."""
        return 1

    def restart(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], attempt: int) -> None:
        """Bring network and memory to the start of an attempt; only asked where there are several."""

    def judge(
        self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], attempt: int, accuracy: float
    ) -> None:
        """Learn that an attempt is over; only told where there are several.

        Args:
            network: as the attempt leaves it.
            memory: the method's.
            tasks: that were trained.
            attempt: which.
            accuracy: the best validation accuracy that any of its evaluations found.
        """

    def present(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> None:
        """Let the network answer for tasks in training with what is known now; called before it is evaluated.

        It may give the network other numbers and a task another structure; a GPU repeats evaluations that it recorded
        where neither has moved.
        """

    def finding(self, network: LifelongNetwork, memory: Memory, task: int) -> Finding | None:
        """What is known of a task in training, or just trained; by default nothing is sought, so nothing found."""
        return None
