"""The trunk of an open task under many configurations at once.

Two ways that give the same features:

    loop    each configuration by itself: d blocks for each of 2^d configurations
    tree    configurations that agree on their first blocks share what these give: sum over blocks of 2^l blocks, and
            each alternative of a block is run once, on all its inputs in one batch

What a block does may depend on the rest of its batch (batch normalisation in training); such a block is run for each
prefix by itself. The running statistics of each alternative follow one prefix: that nearest to the `leading`
configuration's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from everlearn.networks.configurations import Configuration
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.sharing.rule import Tensors

Trunk = Callable[[LifelongNetwork, Tensor, int, Sequence[Configuration], Configuration | None], Tensor]


def loop_features(
    network: LifelongNetwork,
    images: Tensor,
    task: int,
    configurations: Sequence[Configuration],
    leading: Configuration | None,
) -> Tensor:
    """Features of every configuration, one after the other.

    Args:
        network: that holds the task open.
        images: `[B, C, H, W]`.
        task: position of the task.
        configurations: C of them.
        leading: whose prefixes running statistics follow as nearly as they can; None: no statistics move.

    Returns:
        `[C * B, ...]`: those of the first configuration, then those of the second, and on.
    """
    followed = _followed(configurations, leading)
    rows: list[Tensor] = []
    for configuration in configurations:
        hidden = images
        for block, transfer in enumerate(configuration):
            follow = configuration[: block + 1] in followed
            followed.discard(configuration[: block + 1])
            weights = network.weights(block, task, transfer)
            hidden = network.run_block(block, weights if follow else copied_statistics(network, block, weights), hidden)
        rows.append(hidden)
    return torch.cat(rows)


def tree_features(
    network: LifelongNetwork,
    images: Tensor,
    task: int,
    configurations: Sequence[Configuration],
    leading: Configuration | None,
) -> Tensor:
    """The same as `loop_features`, each block run once for each prefix of the configurations.

    Arguments and result are the same; rows may differ in their last bits, because batches are larger.
    """
    followed = _followed(configurations, leading)
    prefixes: list[Configuration] = [()]
    hidden = images
    for block in range(network.blocks):
        children = list(dict.fromkeys(c[: block + 1] for c in configurations))
        place = {prefix: i for i, prefix in enumerate(prefixes)}
        rows: list[Tensor] = []
        prefixes = []
        for transfer in (True, False):
            mine = [child for child in children if child[-1] == transfer]
            if not mine:
                continue
            inputs = _rows(hidden, [place[child[:-1]] for child in mine], len(place))
            rows += _run(network, block, task, inputs, mine, followed)
            prefixes += mine
        hidden = rows[0] if len(rows) == 1 else torch.cat(rows)
    return _rows(hidden, [prefixes.index(c) for c in configurations], len(prefixes))


def _run(
    network: LifelongNetwork,
    block: int,
    task: int,
    inputs: Tensor,
    children: Sequence[Configuration],
    followed: set[Configuration],
) -> list[Tensor]:
    """One alternative of a block on the stacked inputs of all prefixes that go on with it."""
    weights = network.weights(block, task, children[0][-1])
    if not _looks_across(network.templates[block]):
        return [network.run_block(block, weights, inputs)]
    rows: list[Tensor] = []
    for child, part in zip(children, inputs.chunk(len(children)), strict=True):
        held = weights if child in followed else copied_statistics(network, block, weights)
        rows.append(network.run_block(block, held, part))
    return rows


def _followed(configurations: Sequence[Configuration], leading: Configuration | None) -> set[Configuration]:
    """For each alternative of each block, the prefix that ends with it and else differs least from the leading one."""
    if leading is None:
        return set()
    found: set[Configuration] = set()
    for block in range(len(leading)):
        for transfer in (True, False):
            ends = [c[: block + 1] for c in configurations if c[block] == transfer]
            if ends:
                found.add(min(ends, key=lambda end: sum(a != b for a, b in zip(end[:-1], leading, strict=False))))
    return found


def _rows(stacked: Tensor, places: Sequence[int], parts: int) -> Tensor:
    """These of the equal parts that are stacked along the first side, in this order; in order and whole, no copy."""
    if list(places) == list(range(parts)):
        return stacked
    size = len(stacked) // parts
    if all(b - a == 1 for a, b in pairwise(places)):
        return stacked[places[0] * size : (places[-1] + 1) * size]
    return torch.cat([stacked[place * size : (place + 1) * size] for place in places])


def _looks_across(block: nn.Module) -> bool:
    """Whether a block, as it stands, lets one image's result depend on others of the batch."""
    return any(isinstance(m, _BatchNorm) and m.training for m in block.modules())


def copied_statistics(network: LifelongNetwork, block: int, weights: Tensors) -> Tensors:
    """The weights of a block with copies of its statistics, so that running it moves none."""
    names = [name for name, _ in network.templates[block].named_buffers()]
    return {**weights, **{name: weights[name].clone() for name in names}} if names else weights


def logits_of(
    network: LifelongNetwork,
    features: Tensor,
    task: int,
    configurations: Sequence[Configuration],
    leading: Configuration | None,
) -> Tensor:
    """What the task's one head makes of the features of every configuration: `[C * B, ...]` to `[C, B, classes]`."""
    head, count = network.head(task), len(configurations)
    if not _looks_across(head):
        return head(features).unflatten(0, (count, -1))
    rows: list[Tensor] = []
    for configuration, part in zip(configurations, features.chunk(count), strict=True):
        copies = {} if configuration == leading else {name: t.clone() for name, t in head.named_buffers()}
        rows.append(functional_call(head, copies, (part,)))
    return torch.stack(rows)


def has_statistics(modules: Iterable[nn.Module]) -> bool:
    """Whether something in the modules keeps running statistics of what it sees."""
    return any(isinstance(m, _BatchNorm) for module in modules for m in module.modules())


def dropouts(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """What drops something at random in training, anywhere in the modules."""
    return [m for module in modules for m in module.modules() if isinstance(m, _DropoutNd) and m.p > 0]


@contextmanager
def resting(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Those of the modules that are in training are not, meanwhile."""
    still = [module for module in modules if module.training]
    for module in still:
        module.training = False
    try:
        yield
    finally:
        for module in still:
            module.training = True
