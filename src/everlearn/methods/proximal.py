"""Proximal steps: what makes weights exactly zero, one by one, a filter's kernel at a time, or a unit at a time.

Yoon et al. 2018, Eqs. 2 and 5. The proximal operator of a norm, with a threshold:

    |w|_1                   w <- sign(w) max(|w| - threshold, 0)
    sum over g of |w_g|_2   w_g <- w_g max(1 - threshold / |w_g|_2, 0)

Everything here changes its argument in place.
"""

from torch import Tensor

from everlearn.methods.base import Rate

TINY = 1e-30
"""Below any norm that counts: a group of zeros stays zero instead of becoming undefined."""


def shrink_connections(weight: Tensor, threshold: Rate) -> None:
    """The l1 norm over connections: single weights of a linear layer, whole kernels of a convolution.

    Args:
        weight: `[units, inputs]`; or `[filters, filters below, kh, kw]`, where a connection is a kernel, so that
            filters are cut off from filters below (the (2,1)-norm of Sec. 3).
        threshold: at least 0.
    """
    sizes = connections(weight)
    factor = (1 - threshold / sizes.clamp_min(TINY)).clamp_min_(0)
    weight.mul_(factor if weight.ndim == 2 else factor[:, :, None, None])


def shrink_units(weight: Tensor, bias: Tensor, threshold: Rate) -> None:
    """The group norm over units: the incoming weights of each, and its bias with them.

    A unit whose group is zero gives zero, so that it can be taken away without a trace.

    Args:
        weight: `[units, ...]`.
        bias: `[units]`.
        threshold: at least 0.
    """
    sizes = (weight.flatten(1).square().sum(1) + bias.square()).sqrt()
    factor = (1 - threshold / sizes.clamp_min(TINY)).clamp_min_(0)
    weight.mul_(factor.view(-1, *[1] * (weight.ndim - 1)))
    bias.mul_(factor)


def connections(weight: Tensor) -> Tensor:
    """How strong each connection is, `[units, inputs]`: a weight's size, a kernel's l2 norm."""
    return weight.abs() if weight.ndim == 2 else weight.flatten(2).square().sum(2).sqrt()
