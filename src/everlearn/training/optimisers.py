"""Optimisers and learning-rate schedules, as the papers' authors ran them and as PyTorch has them."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from everlearn.training.settings import Training


class TF1RMSProp(torch.optim.Optimizer):
    """RMSProp as TensorFlow 1 has it, which all experiments of Lee et al. use.

        ms    <- 0.9 ms + 0.1 g^2           ms starts at ONE
        theta <- theta - lr g / sqrt(ms + 1e-10)

    PyTorch's own starts ms at zero, decays by 0.99 and adds its 1e-8 outside the root. Starting at one damps the
    first fifty or so steps of every task, where gradients are much smaller than one.

    Args:
        params: what moves.
        lr: learning rate.
        decay: of the mean of squares.
        eps: inside the root.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, decay: float = 0.9, eps: float = 1e-10) -> None:
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
            torch._foreach_addcdiv_(moving, gradients, roots, -group["lr"])


def make_optimiser(training: Training, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for, over these parameters, with nothing remembered yet."""
    rate, decay = training.rate, training.weight_decay
    parameters = list(parameters)
    if training.optimiser == "tf1-rmsprop":
        return TF1RMSProp(parameters, rate)
    if training.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=training.momentum, weight_decay=decay)
    if training.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, rate, momentum=training.momentum, weight_decay=decay)
    betas = training.beta1, training.beta2
    if training.optimiser == "adamw":
        return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay)
    return torch.optim.Adam(parameters, rate, betas, weight_decay=decay)


def make_optimisers(
    training: Training, moves: Mapping[str, nn.Parameter], apart: Mapping[str, Training]
) -> list[torch.optim.Optimizer]:
    """The run's optimiser over what moves, then one for each parameter that has its own settings."""
    first = make_optimiser(training, [p for name, p in moves.items() if name not in apart])
    return [first, *(make_optimiser(own, [moves[name]]) for name, own in apart.items())]


def rate_at(training: Training, epoch: int, epoch_of_phase: int, epochs_of_phase: int) -> float:
    """The learning rate of one epoch.

    Args:
        training: names the schedule.
        epoch: epochs of the whole sequence before this one; never reset at a task's end.
        epoch_of_phase: epochs of this phase before this one.
        epochs_of_phase: how many the phase has.
    """
    if training.schedule == "hyperbolic":
        return training.rate / (1 + training.decay * epoch)
    if training.schedule == "exponential":
        return training.rate * math.exp(-training.decay * epoch)
    if training.schedule == "cosine":
        return training.rate * 0.5 * (1 + math.cos(math.pi * epoch_of_phase / epochs_of_phase))
    if training.schedule == "step":
        return training.rate * (0.1 if 4 * epoch_of_phase >= 3 * epochs_of_phase else 1.0)
    return training.rate


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimiser.param_groups:
        group["lr"] = rate
