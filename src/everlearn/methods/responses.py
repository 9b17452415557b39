"""How far present answers are from recorded ones: the response-preserving losses of Li and Hoiem 2016.

Eqs. 2 and 3, and the alternatives of Sec. 4.2, Table 2(c); their details are in `everlearn.methods.lwf`.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def _softened(logits: Tensor, temperature: float, several: bool) -> tuple[Tensor, Tensor]:
    """Modified probabilities and their logarithms, `[..., distribution]`; of several labels, a pair for each."""
    # A loss is in float32 at least, where layers are in bfloat16.
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    log = torch.stack([F.logsigmoid(scaled), F.logsigmoid(-scaled)], -1) if several else scaled.log_softmax(-1)
    return log.exp(), log


def _cross_entropy(wanted: Tensor, present: Tensor, temperature: float, several: bool) -> Tensor:
    return -_softened(wanted, temperature, several)[0] * _softened(present, temperature, several)[1]


def _plain_cross_entropy(wanted: Tensor, present: Tensor, temperature: float, several: bool) -> Tensor:
    return _cross_entropy(wanted, present, 1.0, several)


def _difference(wanted: Tensor, present: Tensor, temperature: float, several: bool) -> Tensor:
    difference = _softened(wanted, temperature, several)[0] - _softened(present, temperature, several)[0]
    return difference[..., 0] if several else difference  # the other half of a pair says the same


def _l1(wanted: Tensor, present: Tensor, temperature: float, several: bool) -> Tensor:
    return _difference(wanted, present, temperature, several).abs()


def _l2(wanted: Tensor, present: Tensor, temperature: float, several: bool) -> Tensor:
    return _difference(wanted, present, temperature, several).square()


RESPONSE_LOSSES: dict[str, Callable[[Tensor, Tensor, float, bool], Tensor]] = {
    "distillation": _cross_entropy,
    "cross-entropy": _plain_cross_entropy,
    "l1": _l1,
    "l2": _l2,
}


def old_loss(
    kind: str, temperature: float, wanted: Sequence[Tensor], present: Sequence[Tensor], several: Sequence[bool]
) -> Tensor:
    """L_old of each image, summed over old tasks and labels, `[b]`.

    Args:
        kind: of `RESPONSE_LOSSES`.
        temperature: T.
        wanted: recorded logits of each old task, `[b, classes]`.
        present: its logits now.
        several: whether the task is multi-label.
    """
    total = present[0].new_zeros(len(present[0]))
    # Tasks of one shape are one computation: twenty heads cost little more than one.
    shapes = [(logits.shape[1], flag) for logits, flag in zip(present, several, strict=True)]
    for shape in dict.fromkeys(shapes):
        places = [place for place, other in enumerate(shapes) if other == shape]
        recorded, now = (torch.stack([logits[place] for place in places], 1) for logits in (wanted, present))
        total = total + RESPONSE_LOSSES[kind](recorded, now, temperature, shape[1]).flatten(1).sum(1)
    return total
