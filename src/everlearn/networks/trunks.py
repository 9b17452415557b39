"""One trunk for several tasks: run as far as they share it once, with all their heads on top.

For rules that give every task the same weights in a block that it transfers (`hard`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from everlearn.networks.alternatives import copied_statistics
from everlearn.networks.lifelong import LifelongNetwork


def features_of(
    network: LifelongNetwork, images: Tensor, tasks: Sequence[int], held: bool = False
) -> dict[int, Tensor]:
    """What the trunk gives the heads of some tasks; tasks that share the whole trunk get the same tensor.

    Args:
        network: of the tasks.
        images: `[n, C, H, W]`.
        tasks: the first leads: where tasks share a block, it is run with the first one's statistics, and it comes
            first wherever random numbers are drawn, so that they are those that it would draw alone.
        held: whether running statistics stay as they are in blocks that the first task does not use.
    """
    return _onwards(network, images, tuple(tasks), 0, tasks[0] if held else None)


def _onwards(
    network: LifelongNetwork, hidden: Tensor, members: tuple[int, ...], block: int, alone: int | None
) -> dict[int, Tensor]:
    """The features of tasks that are together so far; the leading one's to the end before any other's."""
    if block == network.blocks:
        return dict.fromkeys(members, hidden)
    found: dict[int, Tensor] = {}
    for group in _parting(network, members, block):
        weights = network.weights(block, group[0])
        if alone is not None and group[0] != alone:
            weights = copied_statistics(network, block, weights)
        found |= _onwards(network, network.run_block(block, weights, hidden), group, block + 1, alone)
    return found


def _parting(network: LifelongNetwork, members: tuple[int, ...], block: int) -> list[tuple[int, ...]]:
    """The members that stay together in a block, and each that has it for itself; the leading one's group first."""
    together = tuple(task for task in members if network.structures[task].configuration[block])
    alone = [(task,) for task in members if not network.structures[task].configuration[block]]
    return sorted([*([together] if together else []), *alone], key=lambda group: members.index(group[0]))


@contextmanager
def at_rest(network: LifelongNetwork) -> Iterator[None]:
    """No gradient, no dropout, and running statistics that stay as they are, for as long as it lasts."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def logits_of_tasks(
    network: LifelongNetwork, features: Mapping[int, Tensor], tasks: Sequence[int], held: bool = False
) -> list[Tensor]:
    """Every task's logits, `[n, classes]` each, from what the trunk gives.

    Linear heads on the same features are one product: of twenty heads, the cost is that of one wide one. They then
    drop the same features. `held`: the running statistics of the heads stay as they are.
    """
    found: dict[int, Tensor] = {}
    for key, group in groupby(tasks, key=lambda task: (id(features[task]), _dropout_before_linear(network.head(task)))):
        members, dropout = list(group), key[1]
        if dropout is None or len(members) == 1:
            found |= {task: _answer(network.head(task), features[task], held) for task in members}
            continue
        layers = [_last(network.head(task)) for task in members]
        inputs = F.dropout(features[members[0]].flatten(1), dropout, network.training)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        parts = F.linear(inputs, weight, bias).split([layer.out_features for layer in layers], dim=1)
        found |= dict(zip(members, parts, strict=True))
    return [found[task] for task in tasks]


def _answer(head: nn.Module, features: Tensor, held: bool) -> Tensor:
    copies = {name: tensor.clone() for name, tensor in head.named_buffers()} if held else {}
    return functional_call(head, copies, (features,)) if copies else head(features)  # type: ignore[no-any-return]


def _dropout_before_linear(head: nn.Module) -> float | None:
    """The dropout of a head that flattens, perhaps drops, and then is linear with a bias; None of any other."""
    layers = list(head) if isinstance(head, nn.Sequential) else [head]
    share = 0.0
    for layer in layers[:-1]:
        if isinstance(layer, nn.Dropout) and not share:
            share = float(layer.p)
        elif not isinstance(layer, nn.Flatten):
            return None
    last = layers[-1]
    return share if isinstance(last, nn.Linear) and isinstance(last.bias, Tensor) else None


def _last(head: nn.Module) -> nn.Linear:
    last = list(head)[-1] if isinstance(head, nn.Sequential) else head
    assert isinstance(last, nn.Linear)
    return last


def copy_statistics(network: LifelongNetwork, source: int, targets: Sequence[int]) -> bool:
    """Give tasks the running statistics that one task has in the blocks that they share with it.

    Returns:
        whether there were any.
    """
    leading, found = network.part(source), False
    shared = network.structures[source].configuration
    for task in targets:
        for block, transfer in enumerate(network.structures[task].configuration):
            if task == source or not (transfer and shared[block]):
                continue
            mine = dict(network.part(task).statistics[block].named_buffers())
            for name, tensor in leading.statistics[block].named_buffers():
                found = True
                mine[name].copy_(tensor)
    return found


def copy_own(network: LifelongNetwork, source: int, target: int) -> None:
    """Start the blocks that a task has for itself from what another one has there, its own or shared."""
    for block, transfer in enumerate(network.structures[target].configuration):
        if not transfer:
            theirs = network.weights(block, source)
            for name, tensor in network.weights(block, target).items():
                tensor.detach().copy_(theirs[name])
