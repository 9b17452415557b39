"""Split and duplication: a unit that drifted too far goes back to what it was, and a copy takes its new meaning.

Yoon et al. 2018, Sec. 3 and Algorithm 4.

    rho_i = |w_i^t - w_i^{t-1}|_2 over the weights into unit i that were there before the task
    a unit i with rho_i > sigma:    i keeps w_i^{t-1};  i', a new unit, starts from w_i^t

The paper leaves open which edges a copy gets ("properly introducing new edges from and to duplicate"). Here:

    into i'      those that i had; where they came from a unit that is split itself, from its copy
    from i'      what moved with the task (new units, copies, the task's head) takes from i' what it took from i, and
                 nothing from i any more: `handed`. Old units that are not split take from i as before.
    `copied`     whatever took from i takes the same from i' as well (the authors' code)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from everlearn.networks.growing import GrowingNetwork, Layer
from everlearn.networks.units import expanded


def drifts(network: GrowingNetwork, task: int) -> list[Tensor]:
    """rho of every unit of the part that is cut out, but of new ones; for each layer `[units]`."""
    found: list[Tensor] = []
    for block, layer in enumerate(network.cut(task)):
        old = network.old(task, block).weight
        moved = layer.weight.detach()[: old.shape[0], : old.shape[1]] - old
        found.append(moved.flatten(1).square().sum(1).sqrt())
    return found


def split_units(
    network: GrowingNetwork, task: int, chosen: Sequence[Sequence[int]], old_copies: bool, copied: bool
) -> None:
    """Split units of the part that is cut out; copies come after all that its layers have.

    Args:
        network: with the part of `task` cut out.
        task: in training.
        chosen: for each layer the positions in the part of the units to split.
        old_copies: whether copies start from W^{t-1}, like what they are copies of, and every other unit goes back to
            it as well (the authors' code).
        copied: whether what took from a unit takes from it and its copy, rather than from the copy.
    """
    layers: list[Layer] = []
    below: Sequence[int] = ()
    for block, mine in enumerate(chosen):
        layers.append(_split_layer(network, task, block, mine, below, old_copies, copied))
        below = mine
    head = network.head_layer(task)
    weight = _with_edges(head.weight.detach(), below, network.each[-1], range(len(head.weight)), copied)
    network.set_cut(task, layers)
    network.set_head(task, weight, head.bias)


def _split_layer(
    network: GrowingNetwork,
    task: int,
    block: int,
    mine: Sequence[int],
    below: Sequence[int],
    old_copies: bool,
    copied: bool,
) -> Layer:
    layer, old = network.cut(task)[block], network.old(task, block)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    units, inputs = old.weight.shape[:2]
    if old_copies:
        weight[:units, :inputs], bias[:units] = old.weight, old.bias
    copies, copies_bias = weight[list(mine)], bias[list(mine)]
    back = list(mine)
    weight[back], bias[back] = 0, old.bias[back]
    weight[back, :inputs] = old.weight[back]
    weight, bias = torch.cat([weight, copies]), torch.cat([bias, copies_bias])
    moved = range(len(weight)) if copied else range(units, len(weight))
    return Layer(_with_edges(weight, below, network.each[block], moved, copied), bias)


def _with_edges(weight: Tensor, below: Sequence[int], each: int, rows: Sequence[int], copied: bool) -> Tensor:
    """Columns for the copies of units below, at the end: filled in some rows, which are cut off from the originals.

    Args:
        weight: `[units, inputs, ...]`.
        below: the units below that were split.
        each: how many inputs each is.
        rows: those that take from the copies.
        copied: whether these take from the originals as well.
    """
    columns = expanded(below, each).to(weight.device)
    added = weight.new_zeros(len(weight), len(columns), *weight.shape[2:])
    some = torch.tensor(list(rows), dtype=torch.int64, device=weight.device)
    added[some] = weight[some][:, columns]
    kept = weight.clone()
    if not copied:
        kept[some[:, None], columns] = 0
    return torch.cat([kept, added], 1)
