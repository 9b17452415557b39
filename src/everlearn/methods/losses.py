"""The loss of a task: of logits and labels, for tasks of one class an image and of several.

Li and Hoiem 2016, Eq. 1, and the sentence after it: the multinomial logistic loss; for a multi-label task, where every
label is true or false, the sum of the labels' losses.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def task_loss(logits: Tensor, labels: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor:
    """The loss of a batch.

    Args:
        logits: `[b, classes]`.
        labels: `[b]`, positions of classes; or `[b, classes]`, 0 and 1, of a multi-label task.
        reduction: over the examples; `none`: one loss each, `[b]`.
    """
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, reduction=reduction)
    each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)
    return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()
