"""Joint training: all tasks' images and labels, those of earlier tasks too; what forgetting is measured against.

Papers: Caruana (Machine Learning 1997); as the upper bound of Li and Hoiem (ECCV 2016), Sec. 3.

    each new task:  warm-up of its head, as fine-tuning
                    minimise sum_t L(f(x_t; theta_s, theta_t), y_t)      over theta_s and all heads

Details that change the numbers:
  * An epoch takes as many images of every task as the smallest has, drawn anew each epoch, and batches of the tasks
    take turns: an epoch has as many steps as there are tasks times those of the smallest.
  * A batch's loss is that of its own task's head alone.
  * Each task keeps the running statistics of its own images.
  * Tasks that come one by one are joined one by one; the paper trains once, when all are there.
"""

from dataclasses import dataclass

import torch

from everlearn.methods.fine_tuning import ALL, FineTuning
from everlearn.networks.lifelong import LifelongNetwork


@dataclass(frozen=True)
class JointTraining(FineTuning):
    """All tasks together, the old ones' images kept."""

    statistics: str = "task"

    def sources(self, task: int, stage: int) -> tuple[int, ...]:
        return tuple(range(task + 1)) if stage == ALL else (task,)

    def moves(self, network: LifelongNetwork, task: int, bound: bool) -> dict[str, torch.nn.Parameter]:
        return {name: p for other in range(task + 1) for name, p in network.used(other).items()}
