"""Which units a new task needs: a sparse linear model on the topmost units, and what leads to those it uses.

Yoon et al. 2018, Sec. 3, Eq. 3 and Algorithm 2.

    minimise over W, b      mean over images of L(W h(x) + b, y)  +  mu |W|_1          h(x): the topmost units
    a topmost unit is selected if any of its weights is not zero;
    then downwards: a unit is, if it has a connection that is not zero to a selected unit above it
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from everlearn.methods.proximal import connections
from everlearn.networks.growing import GrowingNetwork, Units
from everlearn.networks.units import which

STEPS = 500
"""Steps of the sparse linear model; hardly any problem takes as many."""

TOLERANCE = 1e-4
"""It is solved once a step changes the weights by less than this share of them."""


def sparse_linear(features: Tensor, labels: Tensor, classes: int, mu: float) -> tuple[Tensor, Tensor]:
    """The linear model of Eq. 3, by accelerated proximal gradient steps (FISTA, with restarts); exact zeros.

    Args:
        features: `[n, units]`.
        labels: `[n]`, or of a multi-label task `[n, classes]`.
        classes: how many.
        mu: strength of the l1 norm; the biases bear none.

    Returns:
        weight `[classes, units]` and bias `[classes]`.
    """
    several = labels.ndim == 2
    truth = labels if several else F.one_hot(labels, classes).to(features.dtype)
    inputs = torch.cat([features, features.new_ones(len(features), 1)], 1)
    # The loss bends no more than a quarter (sigmoid) or a half (softmax) of the inputs' largest second moment, which is
    # no more than the root of the sum of all their squares.
    moments = inputs.T @ inputs / len(inputs)
    step = 1 / ((0.25 if several else 0.5) * float(moments.square().sum().sqrt()) + 1e-12)
    weight = inputs.new_zeros(classes, inputs.shape[1])
    ahead, momentum = weight, 1.0
    for _ in range(STEPS):
        logits = ahead @ inputs.T
        guess = logits.sigmoid() if several else logits.softmax(0)
        moved = ahead - step * ((guess - truth.T) @ inputs) / len(inputs)
        moved[:, :-1] = F.softshrink(moved[:, :-1], step * mu)
        change = moved - weight
        if ((ahead - moved) * change).sum() > 0:
            momentum = 1.0  # overshot: start anew from here
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, weight = moved + (momentum - 1) / following * change, moved
        momentum = following
        if float(change.square().sum()) <= TOLERANCE**2 * float(weight.square().sum()):
            break
    return weight[:, :-1], weight[:, -1]


def used_units(weight: Tensor, each: int, first: bool = False) -> tuple[int, ...]:
    """The topmost units that a linear model uses; at least the one with the largest weight.

    Args:
        weight: `[classes, units * each]`.
        each: how many features one unit is.
        first: look at the first class alone.
    """
    rows = weight[:1] if first else weight
    sizes = rows.abs().reshape(len(rows), -1, each).sum((0, 2))
    return which(sizes) or which(sizes == sizes.max())[:1]


def leading_to(network: GrowingNetwork, top: tuple[int, ...], every_input: bool) -> Units:
    """All units that lead to topmost ones, found breadth-first from the top (Algorithm 2).

    Args:
        network: whose trunk.
        top: units of its last layer.
        every_input: take all inputs, whether or not they are connected.
    """
    found: list[tuple[int, ...]] = [top]
    for block in range(network.blocks - 1, -1, -1):
        strong = connections(network.trunk(block).weight.detach())[list(found[0])] > 0
        reached = strong.sum(0).reshape(-1, network.each[block]).sum(1)
        if block == 0 and every_input:
            reached = torch.ones_like(reached)
        # A layer without any unit cannot be trained: where nothing leads up, the first unit stays.
        found.insert(0, which(reached) or (0,))
    return tuple(found)
