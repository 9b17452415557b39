"""Brute force: for every task, every transfer configuration is trained, and the best one kept.

Paper: Lee, Behpour and Eaton (ICML 2021), App. C: "training every transfer configuration and choosing the best
configuration for each task".

    for each task t:
        for each configuration c in {0, 1}^d, each from the state after task t - 1:
            new own parameters and a new head
            minimise  L(f(x; rule(shared, own_t), head_t), y) + penalty     over shared, own_t, head_t
        keep what the configuration of the best validation accuracy has led to

Symbols: d the number of blocks; theta_s the shared parameters; L the cross-entropy.

Details that change the numbers (from the authors' code; the paper is silent):
  * A configuration is judged by the best validation accuracy that any of its evaluations found, but what is kept is
    the network at the end of its training.
  * Every configuration is trained for the full number of epochs, from the same learning rate, with the same batches.
    Equal accuracies go to the configuration that comes first, which transfers more.
  * The first task is not searched: it transfers everything. While the second is, the first takes each of its
    configurations on: blocks that do not transfer become the first task's own, as they are. It keeps the configuration
    that is chosen for the second.
  * Under hard sharing the authors train the first task alone; so a block that the second task does not share is, for
    later tasks, as it was before the first. Under the other rules it keeps what the first task made of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from everlearn.methods.base import Data, Finding, Memory, Method, Objective, Reduction
from everlearn.methods.static import transfer_objective
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import Configuration, every_configuration
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.snapshots import listed, put_back, snapshot
from everlearn.sharing.hard import Hard
from everlearn.sharing.rule import SharingRule

_START, _BEST, _SCORES, _KEPT = "start/", "best/", "scores", "kept"


@dataclass(frozen=True)
class BruteForce(Method):
    """Train every configuration of a task from the same start; keep the one that validates best.

    Attributes:
        rule: how transferred blocks get their weights.
        groups: blocks that transfer together or not at all: "1-3/4-6/7-9"; empty: every block by itself.
    """

    rule: SharingRule
    groups: str = ""

    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        every_configuration(len(backbone.blocks), self.groups)  # complain before training
        return LifelongNetwork(backbone, self.rule, seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        memory.clear()
        return network.add_task(classes, (True,) * network.blocks)

    def attempts(self, blocks: int, task: int) -> int:
        return 1 if task == 0 else len(every_configuration(blocks, self.groups))

    def restart(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], attempt: int) -> None:
        task, configurations = tasks[0], every_configuration(network.blocks, self.groups)
        if attempt == 0:
            memory |= {_START + name: t for name, t in snapshot(network, self._parts(task)[:-1]).items()}
            memory[_SCORES] = torch.full((len(configurations),), -1.0)
        if task == 1:
            network.restart(0, (True,) * network.blocks)
        put_back(network, _below(_START, memory))
        network.restart(task, configurations[attempt])
        if task == 1:
            self._let_the_first_follow(network, configurations[attempt])

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        return transfer_objective(network, task, reduction)

    def judge(
        self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], attempt: int, accuracy: float
    ) -> None:
        if accuracy > memory[_SCORES].max():
            memory |= {_BEST + name: t for name, t in snapshot(network, self._parts(tasks[0])).items()}
            for name in memory.keys() - {_BEST + n for n in network.state_dict()}:
                if name.startswith(_BEST):  # of a configuration that was better until now
                    del memory[name]
        memory[_SCORES][attempt] = accuracy

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        task = tasks[0]
        if _SCORES not in memory:  # the first task, or one that was never tried
            return set()
        best = int(memory[_SCORES].argmax())
        configuration = every_configuration(network.blocks, self.groups)[best]
        for each in (0, 1) if task == 1 else (task,):
            network.restart(each, configuration)
        put_back(network, _below(_BEST, memory))
        for name in list(memory):
            if name.startswith((_START, _BEST)):
                del memory[name]
        memory[_KEPT] = torch.tensor(best)
        return set(network.state_dict())

    def finding(self, network: LifelongNetwork, memory: Memory, task: int) -> Finding | None:
        if _KEPT not in memory:
            return None
        configurations = every_configuration(network.blocks, self.groups)
        weights = dict(zip(configurations, listed(memory[_SCORES]), strict=True))
        return Finding(network.configurations[task], weights, attempt=int(memory[_KEPT]))

    def _parts(self, task: int) -> tuple[str, ...]:
        """What an attempt changes; the task's own part last."""
        return ("shared", "tasks.0", "tasks.1") if task == 1 else ("shared", f"tasks.{task}")

    def _let_the_first_follow(self, network: LifelongNetwork, configuration: Configuration) -> None:
        for block, transfer in enumerate(configuration):
            if not transfer:
                network.own_block(block, 0)
                if isinstance(self.rule, Hard):
                    for key, tensor in network.start_shared(block).items():
                        put_back(network, {f"shared.{block}.{key}": tensor})


def _below(prefix: str, memory: Memory) -> Memory:
    return {name[len(prefix) :]: tensor for name, tensor in memory.items() if name.startswith(prefix)}
