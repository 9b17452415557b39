"""Copies of some of a network's numbers, kept as tensors by name, and put back."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from everlearn.networks.lifelong import LifelongNetwork


def snapshot(network: LifelongNetwork, parts: Iterable[str]) -> dict[str, Tensor]:
    """Copies of everything below these parts of a network ("shared", "tasks.3"), by the network's names."""
    heads = tuple(f"{part}." for part in parts)
    return {name: t.detach().clone() for name, t in network.state_dict().items() if name.startswith(heads)}


def put_back(network: LifelongNetwork, numbers: Mapping[str, Tensor]) -> None:
    """Give a network the numbers of a snapshot; it must have the structure that it had then."""
    present = network.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in numbers.items():
            present[name].copy_(tensor)


def listed(tensor: Tensor) -> list[float]:
    """A vector's numbers."""
    return [float(number) for number in tensor.tolist()]
