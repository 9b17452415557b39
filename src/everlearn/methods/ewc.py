"""Elastic weight consolidation: shared weights are held the more firmly, the more old tasks depend on them.

Papers: J. Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, Eq. 3; the online
form: J. Schwarz et al., "Progress & Compress", ICML 2018, Sec. 3; as the baseline DNN-EWC of Yoon et al. (ICLR 2018).

    after each task k:   F_k = mean_n (d log p(y_n | x_n) / d theta_s)^2         at theta_k, what training ended with
    each new task:       minimise L + lambda / 2 sum_i P_i

        separate         P = sum_k F_k (theta_s - theta_k)^2                     a spring for every task
        online           P = F* (theta_s - theta_{t-1})^2,  F* <- gamma F* + F_k one spring, fixed anew after each task

Symbols: F the diagonal of the Fisher information; theta_s the shared weights; theta_k theirs after task k; lambda the
strength; gamma the share of older tasks' information that is kept.

Details that change the numbers:
  * F is of single examples: the square of a batch's mean gradient is about 1 / batch of it, and lambda would depend
    on the batch size. It is computed at rest: no dropout, running statistics as they are.
  * `labels=true` (the usual "empirical" Fisher): the data's labels. `sampled`: drawn from the network's answer, as the
    definition has it. `expected`: its exact mean over classes.
  * Every training image counts (`images=0`), or so many, drawn at random.
  * The springs of several tasks pull as one: sum_k F_k (theta - theta_k)^2 is A (theta - B)^2 and a constant, with
    A = sum F_k, B = sum F_k theta_k / A. Kept are A and B, so memory and time do not grow.
  * The term is added once a batch, whatever the reduction of the loss. lambda is for the mean loss.
  * Heads are each task's own and are not held.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Data, Images, Memory
from everlearn.methods.fine_tuning import BATCH, FineTuning
from everlearn.methods.fisher import Labels, diagonal_fisher
from everlearn.methods.sampling import some_of
from everlearn.methods.springs import Springs
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.seeds import derive, generator


@dataclass(frozen=True)
class Ewc(FineTuning):
    """Fine-tuning with a spring on every shared weight, as stiff as old tasks need it.

    Attributes:
        lambda_ewc: strength.
        springs: `separate` for every task, or one, `online`.
        gamma: share of older tasks' information that `online` keeps.
        labels: of the Fisher information: `true`, `sampled` or `expected`.
        images: how many training images of a task it is taken over; 0: all.
        warm_up: epochs that the new head is trained alone first, as a share; none in the papers.
    """

    warm_up: float = 0.0
    lambda_ewc: float = 100.0
    springs: str = "separate"
    gamma: float = 1.0
    labels: str = "true"
    images: int = 0

    looks_back: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.lambda_ewc < float("inf") or not 0 <= self.gamma <= 1 or self.images < 0:
            raise ConfigurationError(
                "lambda_ewc and images need numbers of at least 0 and gamma one from 0 to 1, but they came as "
                f"{self.lambda_ewc}, {self.images} and {self.gamma}."
            )
        if self.springs not in ("separate", "online"):
            raise ConfigurationError(f"springs are separate or online, but came as {self.springs!r}.")
        if self.labels not in ("true", "sampled", "expected"):
            raise ConfigurationError(f"labels are true, sampled or expected, but came as {self.labels!r}.")

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        moved = super().leave(network, memory, tasks, data)
        for task in tasks:
            if self.lambda_ewc > 0 and task in data:
                self._consolidate(network, memory, task, data[task])
        return moved

    def _consolidate(self, network: LifelongNetwork, memory: Memory, task: int, images: Images) -> None:
        """Add what the task needs to A and B."""
        held = {name: p for name, p in network.used(task).items() if name.startswith("shared.")}
        seed = derive(network.seed, "fisher", task)
        kind = cast(Labels, self.labels)
        some = some_of(images, self.images, BATCH, generator(seed, "images"))
        found = diagonal_fisher(network, task, some, list(held), kind, seed)
        for name, fisher in found.items():
            here = held[name].detach().clone()
            stiffness, anchor = memory.get(f"stiffness {name}"), memory.get(f"anchor {name}")
            if stiffness is None or anchor is None:
                memory[f"stiffness {name}"], memory[f"anchor {name}"] = fisher, here
            elif self.springs == "online":
                memory[f"stiffness {name}"], memory[f"anchor {name}"] = self.gamma * stiffness + fisher, here
            else:
                both = stiffness + fisher
                middle = torch.where(both > 0, (stiffness * anchor + fisher * here) / both.clamp_min(1e-38), here)
                memory[f"stiffness {name}"], memory[f"anchor {name}"] = both, middle

    def holds(self, network: LifelongNetwork, memory: Memory, task: int) -> Springs | None:
        held = {n: p for n, p in network.used(task).items() if f"stiffness {n}" in memory}
        if self.lambda_ewc == 0 or not held:
            return None
        anchors, stiffness = ([memory[f"{what} {name}"] for name in held] for what in ("anchor", "stiffness"))
        return Springs(list(held.values()), anchors, self.lambda_ewc, stiffness)
