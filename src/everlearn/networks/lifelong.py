"""The network of a lifelong learner: one trunk, whose blocks' weights come from a sharing rule, and a head a task.

    weights of block b for task t  =  rule.weights(shared[b], own[t][b])     if configuration[t][b]
                                      the task's own ordinary weights        otherwise

The blocks themselves hold no numbers: they are kept on the meta device and called with the weights that were made
for them, so that any module can be a block and a task's network can be written out as a plain one (`export`).
"""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.calling import Caller
from everlearn.networks.configurations import Configuration
from everlearn.networks.exported import assembled
from everlearn.networks.parts import Alternative, Starts, TaskPart, TaskStructure, check_one_head, keyed, rest_of
from everlearn.networks.sites import REST, Plan, check_blocks, find_sites, name_of, parameter_module, safe, under
from everlearn.sharing.rule import SharingRule, Tensors


class LifelongNetwork(nn.Module):
    """Networks of all tasks over one backbone.

    Args:
        backbone: blocks and head.
        rule: how transferred blocks get their weights.
        seed: of every start; a task's own numbers depend on the seed and its position alone.
        shared_head: one head for all tasks, of as many outputs as the first task has classes (SNN).
        transfer: which blocks some task may transfer; empty: all.

    Raises:
        LayerError: the rule cannot make a layer of a block that may transfer.
    """

    def __init__(
        self, backbone: Backbone, rule: SharingRule, seed: int, shared_head: bool = False, transfer: Configuration = ()
    ) -> None:
        super().__init__()
        self.backbone, self.rule, self.seed = backbone, rule, seed
        self.structures: list[TaskStructure] = []
        self.templates = [copy.deepcopy(block).to("meta") for block in backbone.blocks]
        self._callers = [Caller(template) for template in self.templates]
        self.sites = find_sites(backbone.blocks)
        able = check_blocks(backbone.blocks, self.sites, rule, transfer or (True,) * len(self.sites))
        self._starts = Starts(backbone, rule, self.sites, seed)
        self.shared = nn.ModuleList(parameter_module(self.start_shared(b) if able[b] else {}) for b in range(len(able)))
        self.tasks = nn.ModuleList()
        self.shared_head: nn.Module | None = None
        self.one_head = shared_head
        self._plans: dict[tuple[int, int, bool], Plan] = {}
        # Goes where the network goes: before its first task a network may have no number that does.
        self._here = torch.empty(0)

    # ---------------------------------------------------------------- structure

    def add_task(self, classes: int, configuration: Configuration, open: bool = False, hidden: int = 0) -> int:
        """Make room for a new task; return its position.

        Args:
            classes: how many.
            configuration: which blocks transfer.
            open: hold both alternatives of every block, the rule's and an ordinary layer, until `settle` says
                which stay; the configuration then says what the task answers with meanwhile.
            hidden: units of a hidden layer that the task's head has beyond the backbone's.

        Raises:
            ConfigurationError: the configuration has another length than the trunk, or, where all tasks share one
                head, the task another number of classes than the first.
        """
        return self.rebuild(TaskStructure(classes, tuple(configuration), open, hidden=hidden))

    def rebuild(self, structure: TaskStructure) -> int:
        """Make room for a task of this structure; return its position. Its numbers are those of a new task.

        Raises:
            ConfigurationError: as `add_task`.
        """
        if len(structure.configuration) != len(self.sites):
            raise ConfigurationError(
                f"a configuration of this trunk has {len(self.sites)} entries, but {len(structure.configuration)} came."
            )
        task = len(self.tasks)
        if self.one_head:
            self._head_of_all(structure.classes)
        self.tasks.append(self._new_part(task, structure))
        self.structures.append(structure)
        return task

    def restart(self, task: int, configuration: Configuration) -> None:
        """Give a task new numbers of its own, as it first had, under another configuration."""
        known = self.structures[task]
        self.structures[task] = TaskStructure(known.classes, tuple(configuration), hidden=known.hidden)
        self.tasks[task] = self._new_part(task, self.structures[task])
        self._plans.clear()

    def _new_part(self, task: int, structure: TaskStructure) -> TaskPart:
        head = None if self.one_head else self._starts.head(task, structure.classes, structure.hidden)
        if structure.open:
            blocks = len(self.sites)
            spare = Alternative(*self._starts.alternative(task, (False,) * blocks))
            own = self._starts.alternative(task, (True,) * blocks)
        else:
            spare, own = None, self._starts.alternative(task, structure.configuration)
        part = TaskPart(*own, head, spare)
        for name, shape in structure.extra.items():
            part.extra[name] = nn.Parameter(torch.zeros(shape))
        return part.to(self.device).train(self.training)

    def _head_of_all(self, classes: int) -> None:
        if self.shared_head is None:
            self.shared_head = self._starts.head(None, classes).to(self.device).train(self.training)
        check_one_head([*(known.classes for known in self.structures), classes])

    def start_shared(self, block: int) -> Tensors:
        """New shared parameters of a block, by their keys in `shared[block]`."""
        return self._starts.shared(block)

    def choose(self, task: int, configuration: Configuration) -> None:
        """Let an open task answer with this configuration from now on."""
        assert self.structures[task].open
        if configuration != self.structures[task].configuration:
            self._restructure(task, configuration, open=True)

    def settle(self, task: int, configuration: Configuration) -> None:
        """Keep of an open task what this configuration needs, and drop everything else that it holds."""
        self.part(task).settle(configuration)
        self.part(task).extra = nn.ParameterDict()
        known = self.structures[task]
        self.structures[task] = TaskStructure(known.classes, tuple(configuration), hidden=known.hidden)
        self._plans.clear()

    def transfer_block(
        self, block: int, shared: Mapping[str, Tensors], own: Mapping[int, Mapping[str, Tensors]]
    ) -> None:
        """Replace what a block's layers share, and let tasks that had it for themselves transfer it from now on.

        Args:
            block: which.
            shared: the rule's shared parameters of each layer, by the layer's path.
            own: for each task that is to transfer the block, the rule's own parameters of each layer.
        """
        rest = {key: t for key, t in self.shared[block].named_parameters() if key.startswith(REST)}
        # In the order in which `Starts` makes them: a checkpoint keeps an optimiser's state by position.
        self.shared[block] = parameter_module({**keyed(shared), **rest})
        self._plans.clear()
        for task, layers in own.items():
            before = rest_of(self.part(task).own[block])
            kept = {} if self.rule.shares_the_rest else self._starts.rest(block, before)
            self._replace_own(block, task, {**keyed(layers), **{REST + safe(n): t for n, t in kept.items()}}, True)

    def own_block(self, block: int, task: int) -> None:
        """Let a task that transfers a block have it for itself from now on, with the weights that it has now."""
        made, names = self.weights(block, task), [name for name, _ in self.templates[block].named_parameters()]
        self._replace_own(block, task, {REST + safe(name): made[name].detach().clone() for name in names}, False)

    def _replace_own(self, block: int, task: int, own: Tensors, transfer: bool) -> None:
        self.part(task).own[block] = parameter_module(own)
        before = self.structures[task].configuration
        self._restructure(task, (*before[:block], transfer, *before[block + 1 :]), open=False)

    def _restructure(self, task: int, configuration: Configuration, open: bool) -> None:
        known = self.structures[task]
        self.structures[task] = replace(known, configuration=tuple(configuration), open=open)
        self._plans.clear()

    # ---------------------------------------------------------------- the function

    def forward(self, images: Float[Tensor, " n c h w"], task: int) -> Float[Tensor, " n classes"]:
        """Logits of one task for images."""
        return self.head(task)(self.features(images, task))

    def features(self, images: Float[Tensor, " n c h w"], task: int) -> Float[Tensor, " n ..."]:
        """What the trunk gives one task's head."""
        for block in range(len(self.templates)):
            images = self.run_block(block, self.weights(block, task), images)
        return images

    def run_block(self, block: int, weights: Tensors, images: Tensor) -> Tensor:
        """One block with given weights."""
        return self._callers[block](weights, images)  # type: ignore[no-any-return]

    def weights(self, block: int, task: int, transfer: bool | None = None) -> Tensors:
        """Every parameter and buffer of a block for one task, by the names the block gives them.

        Args:
            block: which.
            task: whose.
            transfer: of an open task, which alternative; None: as the task's configuration says.
        """
        if transfer is None:
            transfer = self.structures[task].configuration[block]
        plan = self._plan(block, task, transfer)
        weights = dict(plan.ready)
        for site, shared, own in plan.made:
            weights |= site.prefixed(self.rule.weights(site.layer, shared, own, task))
        return weights

    def _plan(self, block: int, task: int, transfer: bool) -> Plan:
        if (block, task, transfer) not in self._plans:
            self._plans[block, task, transfer] = self._new_plan(block, task, transfer)
        return self._plans[block, task, transfer]

    def _new_plan(self, block: int, task: int, transfer: bool) -> Plan:
        shared, own, statistics = self._tensors(block, task, transfer)
        if not transfer:
            return Plan([], {name_of(key): tensor for key, tensor in (own | statistics).items()})
        rest = (shared if self.rule.shares_the_rest else own) | statistics
        ready = {name_of(key): tensor for key, tensor in rest.items() if key.startswith(REST)}
        made = [(site, under(site.path, shared), under(site.path, own)) for site in self.sites[block]]
        return Plan(made, ready)

    def _tensors(self, block: int, task: int, transfer: bool) -> tuple[Tensors, Tensors, Tensors]:
        part = self.part(task)
        held = part.spare if part.spare is not None and not transfer else part
        shared, own = dict(self.shared[block].named_parameters()), dict(held.own[block].named_parameters())
        return {**shared}, {**own}, dict(held.statistics[block].named_buffers())

    def head(self, task: int) -> nn.Module:
        """The head that a task uses."""
        head = self.shared_head if self.one_head else self.tasks[task].head
        assert isinstance(head, nn.Module)
        return head

    def penalty(self, task: int) -> Tensor | None:
        """The sum of what the rule adds to the loss over the task's transferred blocks, or None."""
        blocks = [b for b, transfer in enumerate(self.structures[task].configuration) if transfer]
        terms = [term for term in (self.penalty_of(block, task) for block in blocks) if term is not None]
        return sum(terms[1:], terms[0]) if terms else None

    def penalty_of(self, block: int, task: int) -> Tensor | None:
        """What the rule adds to the loss for one block that a task transfers (may transfer, if open), or None."""
        made = self._plan(block, task, transfer=True).made
        with torch.autocast(self.device.type, enabled=False):  # losses stay in float32 where layers do not
            found = [self.rule.penalty(site.layer, shared, own) for site, shared, own in made]
        terms = [term for term in found if term is not None]
        return sum(terms[1:], terms[0]) if terms else None

    def train(self, mode: bool = True) -> "LifelongNetwork":
        super().train(mode)
        for template in self.templates:
            template.train(mode)
        return self

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        self._plans.clear()  # moving to another device or type replaces the tensors that the plans hold
        self._here = fn(self._here)
        return super()._apply(fn, recurse)

    # ---------------------------------------------------------------- what there is

    @property
    def blocks(self) -> int:
        """How many blocks the trunk has."""
        return len(self.sites)

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return self._here.device

    def part(self, task: int) -> TaskPart:
        """What belongs to one task."""
        part = self.tasks[task]
        assert isinstance(part, TaskPart)
        return part

    @property
    def configurations(self) -> list[Configuration]:
        """Of every task, which blocks transfer."""
        return [structure.configuration for structure in self.structures]

    @property
    def classes(self) -> list[int]:
        """Of every task, how many classes it has."""
        return [structure.classes for structure in self.structures]

    def used(self, task: int) -> dict[str, nn.Parameter]:
        """The parameters that one task's function depends on, by name; training a task moves these.

        The function of an open task depends on every alternative.
        """
        structure = self.structures[task]
        groups = [(f"tasks.{task}", self.tasks[task])]
        groups += [
            (f"shared.{b}", self.shared[b]) for b, on in enumerate(structure.configuration) if on or structure.open
        ]
        if self.shared_head is not None:
            groups.append(("shared_head", self.shared_head))
        return {name: p for prefix, module in groups for name, p in module.named_parameters(prefix)}

    def counts(self) -> dict[str, int]:
        """Numbers that training may move, by kind: `shared`, `own`, `head` and their `total`.

        Shared parameters count only where some task uses them: STL has none.
        """
        used = {name for task in range(len(self.tasks)) for name in self.used(task)}
        counts = {"shared": 0, "own": 0, "head": 0}
        for name, parameter in self.named_parameters():
            kind = "head" if "head." in name else name.split(".", 1)[0]
            counts[{"tasks": "own"}.get(kind, kind)] += parameter.numel() if name in used else 0
        return counts | {"total": sum(counts.values())}

    def export(self, task: int) -> nn.Sequential:
        """One task's network as a plain module with the chosen weights, in evaluation mode; it shares no memory."""
        weights = [self.weights(block, task) for block in range(self.blocks)]
        return assembled(self.templates, weights, self.head(task), self.device)
