"""The network of a lifelong learner: one trunk, whose blocks' weights come from a sharing rule, and a head a task.

    weights of block b for task t  =  rule.weights(shared[b], own[t][b])     if configuration[t][b]
                                      the task's own ordinary weights        otherwise

The blocks themselves hold no numbers: they are kept on the meta device and called with the weights that were made
for them, so that any module can be a block and a task's network can be written out as a plain one (`export`).
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from everlearn.errors import ConfigurationError
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import Configuration
from everlearn.networks.sites import (
    NOTHING,
    REST,
    Plan,
    buffer_module,
    find_sites,
    key_of,
    name_of,
    parameter_module,
    safe,
    under,
)
from everlearn.seeds import generator
from everlearn.sharing.rule import SharingRule, Tensors


class TaskPart(nn.Module):
    """What belongs to one task: own parameters and statistics of each block, and its head."""

    def __init__(self, own: list[Tensors], statistics: list[Tensors], head: nn.Module | None) -> None:
        super().__init__()
        self.own = nn.ModuleList(parameter_module(tensors) for tensors in own)
        self.statistics = nn.ModuleList(buffer_module(tensors) for tensors in statistics)
        self.head = head


class LifelongNetwork(nn.Module):
    """Networks of all tasks over one backbone.

    Args:
        backbone: blocks and head.
        rule: how transferred blocks get their weights.
        seed: of every start; a task's own numbers depend on the seed and its position alone.
        shared_head: one head for all tasks, of as many outputs as the first task has classes (SNN).

    Raises:
        LayerError: the rule cannot make a layer of the backbone.
    """

    def __init__(self, backbone: Backbone, rule: SharingRule, seed: int, shared_head: bool = False) -> None:
        super().__init__()
        self.backbone, self.rule, self.seed = backbone, rule, seed
        self.configurations: list[Configuration] = []
        self.classes: list[int] = []
        self._templates = [copy.deepcopy(block).to("meta") for block in backbone.blocks]
        self.sites = find_sites(backbone.blocks)
        for sites in self.sites:
            for site in sites:
                rule.check(site.layer)
        self.shared = nn.ModuleList(parameter_module(self.start_shared(b)) for b in range(len(self.sites)))
        self.tasks = nn.ModuleList()
        self.shared_head: nn.Module | None = None
        self._one_head = shared_head
        self._plans: dict[tuple[int, int], Plan] = {}

    # ---------------------------------------------------------------- structure

    def add_task(self, classes: int, configuration: Configuration) -> int:
        """Make room for a new task; return its position.

        Raises:
            ConfigurationError: the configuration has another length than the trunk, or, where all tasks share one
                head, the task another number of classes than the first.
        """
        if len(configuration) != len(self.sites):
            raise ConfigurationError(
                f"a configuration of this trunk has {len(self.sites)} entries, but {len(configuration)} came."
            )
        task = len(self.tasks)
        head = None
        if not self._one_head:
            head = self.backbone.new_head(classes, generator(self.seed, "head", task))
        elif self.shared_head is None:
            head_of_all = self.backbone.new_head(classes, generator(self.seed, "head"))
            self.shared_head = head_of_all.to(self.device).train(self.training)
        elif classes != self.classes[0]:
            raise ConfigurationError(
                f"one head for all tasks needs tasks of equally many classes, but task {task + 1} has {classes} "
                f"and the first {self.classes[0]}."
            )
        own, statistics = zip(
            *(self._start_own(b, task, configuration[b]) for b in range(len(configuration))), strict=True
        )
        self.tasks.append(TaskPart(list(own), list(statistics), head).to(self.device).train(self.training))
        self.configurations.append(tuple(configuration))
        self.classes.append(classes)
        return task

    def start_shared(self, block: int) -> Tensors:
        """New shared parameters of a block, by their keys in `shared[block]`."""
        random = generator(self.seed, "shared", block)
        ordinary = self.backbone.ordinary(block, random)
        tensors: Tensors = {}
        for site in self.sites[block]:
            made = self.rule.shared(site.layer, site.pick(ordinary), random)
            tensors |= {key_of(site.path, name): tensor for name, tensor in made.items()}
        if self.rule.shares_the_rest:
            tensors |= {REST + safe(name): t for name, t in self._rest(block, ordinary).items()}
        return tensors

    def _start_own(self, block: int, task: int, transfer: bool) -> tuple[Tensors, Tensors]:
        random = generator(self.seed, "own", task, block)
        ordinary = self.backbone.ordinary(block, random)
        names = {name for name, _ in self._templates[block].named_buffers()}
        statistics = {REST + safe(name): tensor for name, tensor in ordinary.items() if name in names}
        if not transfer:
            return {REST + safe(name): t for name, t in ordinary.items() if name not in names}, statistics
        tensors: Tensors = {}
        for site in self.sites[block]:
            made = self.rule.own(site.layer, site.pick(ordinary), random)
            tensors |= {key_of(site.path, name): tensor for name, tensor in made.items()}
        if not self.rule.shares_the_rest:
            tensors |= {REST + safe(name): t for name, t in self._rest(block, ordinary).items()}
        return tensors, statistics

    def _rest(self, block: int, ordinary: Tensors) -> Tensors:
        """A block's parameters that are of no Conv2d or Linear layer."""
        made = {name for site in self.sites[block] for name in site.prefixed({"weight": NOTHING, "bias": NOTHING})}
        return {name: ordinary[name] for name, _ in self._templates[block].named_parameters() if name not in made}

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
        self.shared[block] = parameter_module({**rest, **_keyed(shared)})
        for task, layers in own.items():
            part = self.tasks[task]
            assert isinstance(part, TaskPart)
            before = {key: t for key, t in part.own[block].named_parameters() if key.startswith(REST)}
            kept = {} if self.rule.shares_the_rest else self._rest(block, {name_of(k): t for k, t in before.items()})
            part.own[block] = parameter_module({**{REST + safe(n): t for n, t in kept.items()}, **_keyed(layers)})
            configuration = self.configurations[task]
            self.configurations[task] = (*configuration[:block], True, *configuration[block + 1 :])
        self._plans.clear()

    # ---------------------------------------------------------------- the function

    def forward(self, images: Float[Tensor, " n c h w"], task: int) -> Float[Tensor, " n classes"]:
        """Logits of one task for images."""
        return self.head(task)(self.features(images, task))

    def features(self, images: Float[Tensor, " n c h w"], task: int) -> Float[Tensor, " n ..."]:
        """What the trunk gives one task's head."""
        for block in range(len(self._templates)):
            images = self.run_block(block, self.weights(block, task), images)
        return images

    def run_block(self, block: int, weights: Tensors, images: Tensor) -> Tensor:
        """One block with given weights."""
        return functional_call(self._templates[block], weights, (images,))  # type: ignore[no-any-return]

    def weights(self, block: int, task: int) -> Tensors:
        """Every parameter and buffer of a block for one task, by the names the block gives them."""
        plan = self._plans.get((block, task))
        if plan is None:
            plan = self._plans[block, task] = self._plan(block, task)
        weights = dict(plan.ready)
        for site, shared, own in plan.made:
            weights |= site.prefixed(self.rule.weights(site.layer, shared, own, task))
        return weights

    def _plan(self, block: int, task: int) -> "Plan":
        shared, own, statistics = self._tensors(block, task)
        if not self.configurations[task][block]:
            return Plan([], {name_of(key): tensor for key, tensor in (own | statistics).items()})
        rest = (shared if self.rule.shares_the_rest else own) | statistics
        ready = {name_of(key): tensor for key, tensor in rest.items() if key.startswith(REST)}
        made = [(site, under(site.path, shared), under(site.path, own)) for site in self.sites[block]]
        return Plan(made, ready)

    def _tensors(self, block: int, task: int) -> tuple[Tensors, Tensors, Tensors]:
        part = self.tasks[task]
        assert isinstance(part, TaskPart)
        groups = (self.shared[block].named_parameters(), part.own[block].named_parameters())
        shared, own = (dict(group) for group in groups)
        return {**shared}, {**own}, dict(part.statistics[block].named_buffers())

    def head(self, task: int) -> nn.Module:
        """The head that a task uses."""
        head = self.shared_head if self._one_head else self.tasks[task].head
        assert isinstance(head, nn.Module)
        return head

    def penalty(self, task: int) -> Tensor | None:
        """The sum of what the rule adds to the loss over the task's transferred blocks, or None."""
        total: Tensor | None = None
        for block, transfer in enumerate(self.configurations[task]):
            if not transfer:
                continue
            shared, own, _ = self._tensors(block, task)
            for site in self.sites[block]:
                term = self.rule.penalty(site.layer, under(site.path, shared), under(site.path, own))
                if term is not None:
                    total = term if total is None else total + term
        return total

    def train(self, mode: bool = True) -> "LifelongNetwork":
        super().train(mode)
        for template in self._templates:
            template.train(mode)
        return self

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        self._plans.clear()  # moving to another device or type replaces the tensors that the plans hold
        return super()._apply(fn, recurse)

    # ---------------------------------------------------------------- what there is

    @property
    def blocks(self) -> int:
        """How many blocks the trunk has."""
        return len(self.sites)

    @property
    def device(self) -> torch.device:
        """Where the numbers lie."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def used(self, task: int) -> dict[str, nn.Parameter]:
        """The parameters that one task's function depends on, by name; training a task moves these."""
        groups = [(f"tasks.{task}", self.tasks[task])]
        groups += [(f"shared.{b}", self.shared[b]) for b, on in enumerate(self.configurations[task]) if on]
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
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for b, template in enumerate(self._templates):
            block = copy.deepcopy(template).to_empty(device=self.device)
            block.load_state_dict({name: t.detach().clone() for name, t in self.weights(b, task).items()}, assign=True)
            parts[f"block{b + 1}"] = block
        parts["head"] = copy.deepcopy(self.head(task))
        plain = nn.Sequential(parts)
        for parameter in plain.parameters():
            parameter.requires_grad_(True)
        return plain.eval()


def _keyed(layers: Mapping[str, Tensors]) -> Tensors:
    return {key_of(path, name): t.detach().clone() for path, ts in layers.items() for name, t in ts.items()}
