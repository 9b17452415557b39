"""Optimisers and learning-rate schedules, as the papers' authors ran them and as PyTorch has them."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from everlearn.methods.base import Objective
from everlearn.training.settings import Training

Groups = list[dict[str, Any]]
"""Parameters that have their settings in common, as torch's optimisers take them."""


class TF1RMSProp(torch.optim.Optimizer):
    """RMSProp as TensorFlow 1 has it, which all experiments of Lee et al. use.

        ms    <- 0.9 ms + 0.1 g^2           ms starts at ONE
        theta <- theta - lr g / sqrt(ms + 1e-10)

    PyTorch's own starts ms at zero, decays by 0.99 and adds its 1e-8 outside the root. Starting at one damps the
    first fifty or so steps of every task, where gradients are much smaller than one.

    Args:
        params: what moves.
        lr: learning rate; of a group whose steps are recorded a tensor of no dimensions, on the parameters' device.
        decay: of the mean of squares.
        eps: inside the root.
    """

    def __init__(self, params: Iterable[Tensor] | Groups, lr: float, decay: float = 0.9, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving:
                continue
            for p in moving:
                if not self.state[p]:
                    self.state[p]["mean_square"] = torch.ones_like(p)
            squares = [self.state[p]["mean_square"] for p in moving]
            gradients = [p.grad for p in moving]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            if isinstance(group["lr"], Tensor):
                moves = torch._foreach_div(gradients, roots)
                torch._foreach_mul_(moves, group["lr"])
                torch._foreach_sub_(moving, moves)
            else:
                torch._foreach_addcdiv_(moving, gradients, roots, -group["lr"])


def make_optimiser(training: Training, parameters: Groups) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for, over these groups of parameters, with nothing remembered yet."""
    rate, decay = training.rate, training.weight_decay
    if training.optimiser == "tf1-rmsprop":
        if not training.graphs:
            return TF1RMSProp(parameters, rate)
        # A recorded step reads its rate from the device, each group its own.
        device = parameters[0]["params"][0].device
        return TF1RMSProp([{**group, "lr": torch.tensor(rate, device=device)} for group in parameters], rate)
    if training.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=training.momentum, weight_decay=decay)
    if training.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, rate, momentum=training.momentum, weight_decay=decay)
    betas = training.beta1, training.beta2
    if training.optimiser == "adamw":
        return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay)
    return torch.optim.Adam(parameters, rate, betas, weight_decay=decay)


def make_optimisers(training: Training, objective: Objective) -> list[torch.optim.Optimizer]:
    """The run's optimiser over what moves, then one for each parameter that has its own settings."""
    moves, apart = objective.moves, objective.apart
    paces: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in moves.items():
        if name not in apart:
            paces.setdefault(objective.pace.get(name, 1.0), []).append(parameter)
    first = make_optimiser(training, [{"params": params, "pace": pace} for pace, params in paces.items() if params])
    own = (make_optimiser(settings, [{"params": [moves[name]], "pace": 1.0}]) for name, settings in apart.items())
    return [first, *own]


def rate_at(training: Training, epoch: int, epoch_of_stage: int, epochs_of_stage: int, dropped: bool = False) -> float:
    """The learning rate of one epoch.

    Args:
        training: names the schedule.
        epoch: epochs of the whole sequence before this one; never reset at a task's end.
        epoch_of_stage: epochs of this stage before this one.
        epochs_of_stage: how many the stage has.
        dropped: whether the stage's accuracy has reached its plateau.
    """
    if training.schedule == "hyperbolic":
        return training.rate / (1 + training.decay * epoch)
    if training.schedule == "exponential":
        return training.rate * math.exp(-training.decay * epoch)
    if training.schedule == "cosine":
        return training.rate * 0.5 * (1 + math.cos(math.pi * epoch_of_stage / epochs_of_stage))
    if training.schedule == "step":
        dropped = epoch_of_stage >= training.drop_at * epochs_of_stage
    return training.rate * (0.1 if dropped else 1.0)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use this learning rate, by each group's pace, from the next step on."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["pace"])  # where a recorded step reads it
        else:
            group["lr"] = rate * group["pace"]
