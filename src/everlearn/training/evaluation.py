"""How well a task is known: accuracy and loss of its splits, and which tasks need to be asked again."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.data import Resident

BATCH = 250
"""Images at a time; on one thread larger batches leave the processor's cache and are slower."""


@torch.no_grad()
def evaluate(network: LifelongNetwork, task: int, data: Resident) -> tuple[float, float]:
    """Accuracy (share of images whose largest logit is their label) and mean cross-entropy, without dropout."""
    network.eval()
    right = torch.zeros((), dtype=torch.int64, device=data.labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    for images, labels in data.batches(BATCH):
        logits = network(images, task)
        right += (logits.argmax(1) == labels).sum()
        loss += F.cross_entropy(logits, labels, reduction="sum")
    network.train()
    return int(right) / len(data.labels), float(loss) / len(data.labels)


def changed(network: LifelongNetwork, moved: Iterable[str], tasks: Iterable[int]) -> set[int]:
    """Those of the tasks whose function depends on a parameter that moved."""
    names = frozenset(moved)
    return {task for task in tasks if not names.isdisjoint(network.used(task))}
