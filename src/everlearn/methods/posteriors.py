"""Probabilities of configurations: of evidence, of blocks, and those that are worth going on with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from everlearn.networks.configurations import Configuration
from everlearn.networks.snapshots import listed


def normalised(evidence: Tensor) -> Tensor:
    """The prior that some evidence stands for; uniform where there is none yet."""
    total = evidence.sum()
    return torch.where(total > 0, evidence / total, torch.full_like(evidence, 1 / len(evidence)))


def shares(configurations: Sequence[Configuration], weights: Tensor) -> Tensor:
    """The probability that each block transfers, from that of each configuration."""
    return weights @ torch.tensor(configurations, dtype=weights.dtype, device=weights.device)


def above(posterior: Tensor, least: float, among: Sequence[int] | None = None) -> list[int]:
    """The configurations of more than this probability; the most probable one at any rate."""
    probabilities = listed(posterior)
    places = range(len(probabilities)) if among is None else among
    found = [i for i in places if probabilities[i] > least]
    return found or [max(places, key=lambda i: probabilities[i])]
