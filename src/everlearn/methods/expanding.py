"""Dynamic expansion: new units in every layer of the part that is trained, and what becomes of those not needed.

Yoon et al. 2018, Sec. 3 and Algorithm 3.

    a layer of S, and the new units after it:   [ W    C ]      W  between units of S, as it is
                                                [    R   ]      C  from new units below to units of S; starts at zero
                                                                R  into the new units, from S and the new units below
    the task's head:                            its weights from new units start at zero as well

With `random` what starts at zero starts like a new layer instead (the authors' code). Units that are not in S have no
weights to or from the new ones, and no other task sees what is new.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from everlearn.networks.growing import GrowingNetwork, Layer
from everlearn.networks.units import expanded, layers_of, narrowed, which
from everlearn.seeds import generator
from everlearn.sharing.rule import Tensors


def add_units(network: GrowingNetwork, task: int, k: int, random: bool = False) -> None:
    """Add units to every layer that is cut out; the network answers as before, for their outputs count nothing yet.

    New units see all inputs, so that the part takes all of them from here on.

    Args:
        network: with the part of `task` cut out.
        task: in training.
        k: units a layer.
        random: start what takes from new units at random, so that they count at once.
    """
    _take_every_input(network, task)
    layers, new = network.cut(task), dict[str, Tensor]()
    for block, layer in enumerate(layers):
        below = k * network.each[block] if block else 0
        shape = layer.weight.shape
        rows, bias = _fresh(network, task, block, k, shape[1] + below)
        new |= {f"rows{block}": rows, f"row_bias{block}": bias}
        if block and random:
            new[f"columns{block}"] = _fresh(network, task, block, shape[0], below, "edges")[0]
        elif block:
            new[f"columns{block}"] = layer.weight.new_zeros(shape[0], below, *shape[2:])
    network.set_cut(task, layers, new)
    head, columns = network.head_layer(task), k * network.each[-1]
    weight = narrowed(head.weight.detach(), head.weight.shape[1] + columns)
    if random:
        weight[:, -columns:] = _fresh_head(network, task, columns).to(weight.device)
    network.set_head(task, weight, head.bias)


def new_weights(network: GrowingNetwork, task: int) -> Mapping[str, nn.Parameter]:
    """What was added and is held apart: `rows{block}`, `row_bias{block}`, `columns{block}`; empty if nothing is."""
    return {name: p for name, p in network.part(task).extra.items() if name.startswith(("row", "columns"))}


def keep_needed(network: GrowingNetwork, task: int) -> list[int]:
    """Remove new units that nothing leads into, join the others to the layers; return how many stay in each."""
    new, layers = new_weights(network, task), network.cut(task)
    kept = [
        (new[f"rows{b}"].detach().flatten(1).abs().amax(1) > 0) | (new[f"row_bias{b}"].detach() != 0)
        for b in range(network.blocks)
    ]
    joined: list[Layer] = []
    for block, layer in enumerate(layers):
        weight, bias = layer.weight.detach(), layer.bias.detach()
        rows, row_bias = new[f"rows{block}"].detach()[kept[block]], new[f"row_bias{block}"].detach()[kept[block]]
        if block:
            weight = torch.cat([weight, new[f"columns{block}"].detach()], 1)
        joined.append(Layer(torch.cat([weight, rows]), torch.cat([bias, row_bias])))
        if block:
            stay = _columns(kept[block - 1], len(layers[block - 1].bias), network.each[block])
            joined[-1] = replace(joined[-1], weight=joined[-1].weight[:, stay])
    network.set_cut(task, joined)
    head = network.head_layer(task)
    stay = _columns(kept[-1], len(layers[-1].bias), network.each[-1])
    network.set_head(task, head.weight.detach()[:, stay], head.bias)
    return [int(one.sum()) for one in kept]


def _columns(kept: Tensor, before: int, each: int) -> Tensor:
    """The inputs that stay: of units that were there before, and of new ones that are kept."""
    units = [*range(before), *(before + place for place in which(kept))]
    return expanded(units, each).to(kept.device)


def _take_every_input(network: GrowingNetwork, task: int) -> None:
    """Let the first layer that is cut out take all inputs; weights from those it did not take are as they were."""
    structure, (first, *others) = network.structures[task], network.cut(task)
    inputs = network.sites[0][0].layer.inputs
    if len(structure.cut[0]) == inputs:
        return
    network.structures[task] = replace(structure, cut=(tuple(range(inputs)), *structure.cut[1:]))
    weight = network.old(task, 0).weight.clone()
    weight[:, list(structure.cut[0])] = first.weight.detach()
    network.set_cut(task, [Layer(weight, first.bias), *others])


def _fresh_head(network: GrowingNetwork, task: int, columns: int) -> Tensor:
    """Weights of a new head, of as many heads side by side as it takes, `[classes, columns]`."""
    drawn: list[Tensor] = []
    while sum(one.shape[1] for one in drawn) < columns:
        head = network.backbone.new_head(network.classes[task], generator(network.seed, "edges", task, len(drawn)))
        drawn.append(layers_of(head)[0].weight.detach())
    return torch.cat(drawn, 1)[:, :columns]


def _fresh(
    network: GrowingNetwork, task: int, block: int, units: int, inputs: int, what: str = "new units"
) -> tuple[Tensor, Tensor]:
    """Weights of new units as the backbone's layers start, of as many layers side by side as it takes."""
    site, drawn = network.sites[block][0], list[Tensors]()
    across, down = -(-inputs // site.layer.inputs), -(-units // site.layer.outputs)
    for place in range(across * down):
        random = generator(network.seed, what, task, block, place)
        drawn.append(site.pick(network.backbone.ordinary(block, random)))
    bands = [torch.cat([one["weight"] for one in drawn[row * across : (row + 1) * across]], 1) for row in range(down)]
    bias = torch.cat([one["bias"] for one in drawn[::across]])
    return torch.cat(bands)[:units, :inputs].to(network.device), bias[:units].to(network.device)
