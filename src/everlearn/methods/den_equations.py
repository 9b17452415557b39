"""The minimisations of DEN: Yoon et al. 2018, Eqs. 2, 4, 5 and 6, and all tasks together.

Each is an `Objective`: what moves, the loss whose gradient is followed, and the proximal steps of the norms that make
weights exactly zero. `scale` gives a proximal step's threshold per unit of strength from the rate of the step.
"""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from everlearn.methods.base import Batch, Objective, Rate, Reduction
from everlearn.methods.expanding import new_weights
from everlearn.methods.losses import task_loss
from everlearn.methods.proximal import shrink_connections, shrink_units
from everlearn.networks.growing import GrowingNetwork

Scale = Callable[[Rate], Rate]


def first_task(network: GrowingNetwork, mu: float, scale: Scale, reduction: Reduction) -> Objective:
    """Eq. 2: the whole network of the first task, with sparse connections."""
    moves = network.used(0)
    weights = [p for name, p in moves.items() if name.endswith("weight")]
    return Objective(moves, _plain(network, 0, reduction), after=_shrinking(weights, mu, scale))


def retraining(network: GrowingNetwork, task: int, l2: float, reduction: Reduction) -> Objective:
    """Eq. 4: the part that is cut out, with small weights."""
    plain, held = _plain(network, task, reduction), _weights(network, task)

    def loss(batch: Batch) -> Tensor:
        return plain(batch) + _times(batch, reduction) * l2 / 2 * sum_of_squares(held)

    return Objective(moving(network, task), loss)


def retraining_near(
    network: GrowingNetwork, task: int, l2: float, strength: float, mu: float, scale: Scale, reduction: Reduction
) -> Objective:
    """Eq. 4 as the authors' code has it: near W^{t-1}, with small weights and sparse connections."""
    near, held = drifting(network, task, strength, reduction), _weights(network, task)

    def loss(batch: Batch) -> Tensor:
        return near.loss(batch) + _times(batch, reduction) * l2 / 2 * sum_of_squares(held)

    return Objective(near.moves, loss, after=_shrinking(held, mu, scale))


def expanding(
    network: GrowingNetwork, task: int, mu: float, gamma: float, scale: Scale, reduction: Reduction
) -> Objective:
    """Eq. 5: what is new, with sparse connections and no more units than needed; and the task's head."""
    new = new_weights(network, task)
    prefix = f"tasks.{task}."
    head = {name: p for name, p in moving(network, task).items() if name.startswith(f"{prefix}head.")}
    shrink = _shrinking([p for name, p in new.items() if "bias" not in name], mu, scale)

    def after(rate: Rate) -> None:
        shrink(rate)
        for block in range(network.blocks):
            shrink_units(new[f"rows{block}"], new[f"row_bias{block}"], gamma * scale(rate))

    moves = {f"{prefix}extra.{name}": p for name, p in new.items()} | head
    return Objective(moves, _plain(network, task, reduction), after=after)


def drifting(network: GrowingNetwork, task: int, strength: float, reduction: Reduction) -> Objective:
    """Eq. 6: the part that is cut out, with what is new in it, near W^{t-1}."""
    plain = _plain(network, task, reduction)
    pairs = [(now.weight, network.old(task, block).weight) for block, now in enumerate(network.cut(task))]

    def loss(batch: Batch) -> Tensor:
        moved = [now[: old.shape[0], : old.shape[1]] - old for now, old in pairs]
        return plain(batch) + _times(batch, reduction) * strength * sum_of_squares(moved)

    return Objective(moving(network, task), loss)


def all_tasks(network: GrowingNetwork, task: int, l2: float, reduction: Reduction) -> Objective:
    """All tasks so far in the structure that was found, with small weights (DEN-Finetune, Sec. 4.1)."""
    moves = {name: p for other in range(task + 1) for name, p in network.used(other).items()}
    held = [p for name, p in moves.items() if name.endswith("weight")]

    def loss(batch: Batch) -> Tensor:
        plain = task_loss(network(batch.images, batch.task), batch.labels, reduction)
        return plain + _times(batch, reduction) * l2 / 2 * sum_of_squares(held)

    return Objective(moves, loss)


def moving(network: GrowingNetwork, task: int) -> dict[str, nn.Parameter]:
    """The part that is cut out, and the task's head."""
    return {name: p for name, p in network.used(task).items() if name.startswith(f"tasks.{task}.")}


def sum_of_squares(tensors: Iterable[Tensor]) -> Tensor:
    """Of all numbers."""
    parts = [tensor.square().sum() for tensor in tensors]
    return sum(parts[1:], parts[0])


def _times(batch: Batch, reduction: Reduction) -> int:
    """How often a norm counts: the equations are of the mean loss, so beside a sum it counts for each example."""
    return len(batch.labels) if reduction == "sum" else 1


def _weights(network: GrowingNetwork, task: int) -> list[Tensor]:
    return [*(layer.weight for layer in network.cut(task)), network.head_layer(task).weight]


def _plain(network: GrowingNetwork, task: int, reduction: Reduction) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        return task_loss(network(batch.images, task), batch.labels, reduction)

    return loss


def _shrinking(weights: Iterable[Tensor], mu: float, scale: Scale) -> Callable[[Rate], None]:
    kept = list(weights)

    def after(rate: Rate) -> None:
        for weight in kept:
            shrink_connections(weight, mu * scale(rate))

    return after
