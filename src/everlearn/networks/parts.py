"""What the blocks of a lifelong network start from, and what belongs to one task."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import Configuration
from everlearn.networks.sites import (
    NOTHING,
    REST,
    Site,
    buffer_module,
    key_of,
    name_of,
    parameter_module,
    safe,
)
from everlearn.seeds import generator
from everlearn.sharing.rule import SharingRule, Tensors


def check_one_head(classes: Sequence[int]) -> None:
    """Raise `ConfigurationError` where tasks of so many classes cannot share one head."""
    for task, count in enumerate(classes):
        if count != classes[0]:
            raise ConfigurationError(
                f"one head for all tasks needs tasks of equally many classes, but task {task + 1} has {count} and the "
                f"first {classes[0]}."
            )


@dataclass(frozen=True)
class TaskStructure:
    """What must be known of a task, apart from its numbers, to build its part of a network again.

    Attributes:
        classes: how many.
        configuration: which blocks transfer; of an open task, the one that it answers with now.
        open: whether both alternatives of every block are held.
        extra: shapes of the parameters that a method added, by name.
        hidden: units of a hidden layer that its head has beyond the backbone's; 0: none.
        widths: in a network whose layers grow, how many units of each block the task sees; empty elsewhere.
        cut: in such a network, of the task in training, the units of the inputs and of each block that it trains.
    """

    classes: int
    configuration: Configuration
    open: bool = False
    extra: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    hidden: int = 0
    widths: tuple[int, ...] = ()
    cut: tuple[tuple[int, ...], ...] = ()


class Alternative(nn.Module):
    """One way to make every block of a task: its own parameters and its statistics, block by block."""

    def __init__(self, own: Sequence[Tensors], statistics: Sequence[Tensors]) -> None:
        super().__init__()
        self.own = nn.ModuleList(parameter_module(tensors) for tensors in own)
        self.statistics = nn.ModuleList(buffer_module(tensors) for tensors in statistics)


class TaskPart(Alternative):
    """What belongs to one task: own parameters and statistics of each block, and its head.

    Attributes:
        spare: while it is open which blocks transfer: the ordinary layers, `own` then being the rule's. None once
            that is settled.
        extra: what a method adds while it learns the task, by name.
    """

    def __init__(
        self,
        own: Sequence[Tensors],
        statistics: Sequence[Tensors],
        head: nn.Module | None,
        spare: Alternative | None = None,
    ) -> None:
        super().__init__(own, statistics)
        self.head = head
        self.spare = spare
        self.extra = nn.ParameterDict()

    def settle(self, configuration: Configuration) -> None:
        """Keep of each block what the configuration says, and drop the other alternative."""
        assert self.spare is not None
        for block, transfer in enumerate(configuration):
            if not transfer:
                self.own[block] = self.spare.own[block]
                self.statistics[block] = self.spare.statistics[block]
        self.spare = None


@dataclass(frozen=True)
class Starts:
    """What every parameter of a network starts from: pure functions of the seed and the place.

    Attributes:
        backbone: whose ordinary layers.
        rule: whose shared and own parameters.
        sites: of each block.
        seed: of every draw.
    """

    backbone: Backbone
    rule: SharingRule
    sites: Sequence[Sequence[Site]]
    seed: int

    def shared(self, block: int) -> Tensors:
        """Shared parameters of a block, by key."""
        random = generator(self.seed, "shared", block)
        ordinary = self.backbone.ordinary(block, random)
        tensors: Tensors = {}
        for site in self.sites[block]:
            made = self.rule.shared(site.layer, site.pick(ordinary), random)
            tensors |= {key_of(site.path, name): tensor for name, tensor in made.items()}
        if self.rule.shares_the_rest:
            tensors |= {REST + safe(name): t for name, t in self.rest(block, ordinary).items()}
        return tensors

    def own(self, block: int, task: int, transfer: bool) -> tuple[Tensors, Tensors]:
        """A task's own parameters of a block, and its statistics, by key: the rule's, or an ordinary layer's."""
        random = generator(self.seed, "own", task, block)
        ordinary = self.backbone.ordinary(block, random)
        names = {name for name, _ in self.backbone.blocks[block].named_buffers()}
        statistics = {REST + safe(name): tensor for name, tensor in ordinary.items() if name in names}
        if not transfer:
            return {REST + safe(name): t for name, t in ordinary.items() if name not in names}, statistics
        tensors: Tensors = {}
        for site in self.sites[block]:
            made = self.rule.own(site.layer, site.pick(ordinary), random)
            tensors |= {key_of(site.path, name): tensor for name, tensor in made.items()}
        if not self.rule.shares_the_rest:
            tensors |= {REST + safe(name): t for name, t in self.rest(block, ordinary).items()}
        return tensors, statistics

    def alternative(self, task: int, configuration: Configuration) -> tuple[list[Tensors], list[Tensors]]:
        """Own parameters and statistics of all blocks of a task under a configuration."""
        pairs = [self.own(block, task, transfer) for block, transfer in enumerate(configuration)]
        return [own for own, _ in pairs], [statistics for _, statistics in pairs]

    def head(self, task: int | None, classes: int, hidden: int = 0) -> nn.Module:
        """A task's head, which is the one it came with if it came trained; for None, the head of all tasks."""
        if task is not None and task < len(self.backbone.trained):
            return copy.deepcopy(self.backbone.trained[task].head)
        words = ("head",) if task is None else ("head", task)
        return self.backbone.new_head(classes, generator(self.seed, *words), hidden)

    def rest(self, block: int, ordinary: Mapping[str, Tensor]) -> Tensors:
        """A block's parameters that are of no Conv2d or Linear layer, out of all by name."""
        made = {name for site in self.sites[block] for name in site.prefixed({"weight": NOTHING, "bias": NOTHING})}
        names = [name for name, _ in self.backbone.blocks[block].named_parameters()]
        return {name: ordinary[name] for name in names if name not in made}


def keyed(layers: Mapping[str, Tensors]) -> Tensors:
    """The parameters of a block's layers by key, copied, from those of each layer by its path."""
    return {key_of(path, name): t.detach().clone() for path, ts in layers.items() for name, t in ts.items()}


def rest_of(module: nn.Module) -> Tensors:
    """What a module of parameters holds of no layer, by the block's names."""
    return {name_of(key): t for key, t in module.named_parameters() if key.startswith(REST)}
