"""The steps of an epoch: what is done with each batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from everlearn.methods.base import Batch, Objective, Rate
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.seeds import reseed
from everlearn.training.augmentation import Augmentation
from everlearn.training.beside import Beside
from everlearn.training.optimisers import records
from everlearn.training.parallel import average, spread, world
from everlearn.training.precision import layers_in
from everlearn.training.settings import Training

Step = Callable[[Batch], int]
"""All that is done with a batch; gives the number of steps down a loss."""


def step_of(
    objective: Objective,
    optimisers: Sequence[torch.optim.Optimizer],
    training: Training,
    device: torch.device,
    rate: Rate,
    beside: Beside | None = None,
) -> Step:
    """What is done with each batch.

    Args:
        objective: the losses, and which parameters.
        optimisers: of those.
        training: its precision counts here.
        device: of the network.
        rate: learning rate, for what the objective does after each step.
        beside: makes backward passes on a GPU use several streams.
    """
    together = world() > 1

    def step(batch: Batch) -> int:
        steps = 0
        for loss in _losses(objective, batch, training, device):
            loss.backward()
            if beside is not None:
                beside.meet()
            if together:
                average(objective.moves.values())
            if objective.before is not None:
                with torch.no_grad():
                    objective.before()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            if objective.after is not None:
                with torch.no_grad():
                    objective.after(rate)
            steps += 1
        return steps

    def step_beside(batch: Batch) -> int:
        assert beside is not None
        with beside:
            return step(batch)

    return step if beside is None else step_beside


def take_steps(
    network: LifelongNetwork,
    step: Step,
    batches: Iterable[Batch],
    changes: Mapping[int, Augmentation | None],
    seed: int,
) -> int:
    """Take the steps of each batch; the global generators are left as they were found.

    Args:
        network: that is trained.
        step: what is done with a batch.
        batches: of one epoch.
        changes: the augmentation of each task's images.
        seed: of the epoch's dropout and augmentation. Each batch has its own; but where steps can be recorded only the
            first has, and what the others draw follows upon it, as it does within a recording of several.

    Returns:
        How many steps down a loss there were.
    """
    device, steps = network.device, 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), spread(network):
        for place, batch in enumerate(batches):
            if place == 0 or not records(device):
                reseed(device, seed + batch.step)
            change = changes[batch.task]
            if change is not None:
                batch = replace(batch, images=change(batch.images), plain=False)
            steps += step(batch)
    return steps


def finish(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked for; elsewhere it is done when it has been asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _losses(objective: Objective, batch: Batch, training: Training, device: torch.device) -> Iterator[Tensor]:
    """The losses of a batch, each computed in the precision that was asked for when it is asked for."""
    if training.precision == "float32":
        yield from objective.losses(batch)
        return

    with layers_in(training.precision, device):
        losses = objective.losses(batch)
    while True:
        with layers_in(training.precision, device):
            loss = next(losses, None)
        if loss is None:
            return
        yield loss.float()
