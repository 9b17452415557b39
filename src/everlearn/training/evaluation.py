"""How well a task is known: accuracy and loss of its splits, and which tasks need to be asked again."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from everlearn.methods.losses import task_loss
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.data import TrainingData

BATCH = 250
"""Images at a time; on one thread larger batches leave the processor's cache and are slower."""


@torch.no_grad()
def evaluate(network: LifelongNetwork, task: int, data: TrainingData) -> tuple[float, float]:
    """Accuracy (share of images whose largest logit is their label) and mean loss, without dropout.

    Of a multi-label task: the mean average precision instead of the accuracy.
    """
    network.eval()
    right = torch.zeros((), dtype=torch.int64, device=data.labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    kept: list[Tensor] = []
    for images, labels in data.batches(BATCH):
        logits = network(images, task)
        if labels.ndim == 1:
            right += (logits.argmax(1) == labels).sum()
        else:
            kept.append(logits)
        loss += task_loss(logits, labels, "sum")
    network.train()
    count = len(data.labels)
    accuracy = mean_average_precision(torch.cat(kept), data.labels) if kept else int(right) / count
    return accuracy, float(loss) / count


def mean_average_precision(scores: Float[Tensor, " n classes"], labels: Float[Tensor, " n classes"]) -> float:
    """The average precision of each label, mean over those that some image has (scikit-learn's, a sum over steps).

    The evaluation of VOC 2012 makes precision fall with recall before it sums, which gives slightly more.
    """
    from sklearn.metrics import average_precision_score

    present = labels.sum(0) > 0
    if not present.any() or not torch.isfinite(scores).all():
        return 0.0
    return float(average_precision_score(labels[:, present].cpu().numpy(), scores[:, present].cpu().numpy()))


def changed(network: LifelongNetwork, moved: Iterable[str], tasks: Iterable[int]) -> set[int]:
    """Those of the tasks whose function depends on a parameter that moved."""
    names = frozenset(moved)
    return {task for task in tasks if not names.isdisjoint(network.used(task))}
