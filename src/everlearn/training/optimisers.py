"""Optimisers and learning-rate schedules, as the papers' authors ran them and as PyTorch has them."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from everlearn.methods.base import Objective
from everlearn.training.settings import Training

RECORDING = {"cuda"}
"""Kinds of devices whose steps can be recorded."""

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
            self._move(group)

    def _move(self, group: dict[str, Any]) -> None:
        moving = [p for p in group["params"] if p.grad is not None]
        if not moving:
            return
        squares = self._squares(moving)
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

    def _squares(self, moving: Iterable[Tensor]) -> list[Tensor]:
        for p in moving:
            if not self.state[p]:
                self.state[p]["mean_square"] = torch.ones_like(p)
        return [self.state[p]["mean_square"] for p in moving]


class SideBySide:
    """Parameters and what an optimiser remembers of them, each in one piece of memory.

    Kernels over lists of tensors give a GPU little to do at once where one tensor holds most of the numbers.

    Args:
        parameters: their numbers are brought into the one piece, where they then lie.
    """

    ALIGNED = 64
    """Numbers: each parameter begins at a multiple, as libraries want it."""

    @torch.no_grad()
    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        sizes = [-(-p.numel() // self.ALIGNED) * self.ALIGNED for p in parameters]
        self.values, self.squares = parameters[0].new_zeros(sum(sizes)), parameters[0].new_ones(sum(sizes))
        self._gaps = [p.new_zeros(size - p.numel()) for p, size in zip(parameters, sizes, strict=True)]
        self.each = [
            part[: p.numel()].view(p.shape) for p, part in zip(parameters, self.squares.split(sizes), strict=True)
        ]
        self._places: list[int] = []
        for parameter, part in zip(parameters, self.values.split(sizes), strict=True):
            parameter.data = part[: parameter.numel()].view(parameter.shape).copy_(parameter)
            self._places.append(parameter.data_ptr())

    def holds(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether the parameters lie here; not where somebody gave one other numbers (`parameter.data = ...`)."""
        return [parameter.data_ptr() for parameter in parameters] == self._places

    def gradients(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Of all parameters, as they lie here."""
        parts = zip((p.grad.reshape(-1) for p in parameters if p.grad is not None), self._gaps, strict=True)
        return torch.cat([one for pair in parts for one in pair])


class RecordableRMSProp(TF1RMSProp):
    """The same on a GPU, where a recorded step reads its rate from the device: eight kernels over all that moves.

    Parameters are laid side by side in memory at once, for a recorded step finds them where they were when it was
    recorded. A parameter that is another such optimiser's as well is laid anew in each step, and cannot be recorded.
    """

    def __init__(self, params: Groups, lr: float) -> None:
        super().__init__(params, lr)
        self._laid = [SideBySide(group["params"]) for group in self.param_groups]
        self._remember()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what another remembered; it is copied to where a step finds it."""
        super().load_state_dict(state_dict)
        self._remember()

    @torch.no_grad()
    def _remember(self) -> None:
        for group, laid in zip(self.param_groups, self._laid, strict=True):
            for parameter, place in zip(group["params"], laid.each, strict=True):
                known = self.state[parameter].get("mean_square")
                self.state[parameter]["mean_square"] = place if known is None else place.copy_(known)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for place, group in enumerate(self.param_groups):
            if any(p.grad is None for p in group["params"]):
                self._move(group)
                continue
            if not self._laid[place].holds(group["params"]):
                self._laid[place] = SideBySide(group["params"])
                self._remember()
            laid = self._laid[place]
            gradients = laid.gradients(group["params"])
            laid.squares.mul_(group["decay"]).addcmul_(gradients, gradients, value=1 - group["decay"])
            roots = laid.squares.add(group["eps"]).sqrt_()
            laid.values.sub_(gradients.div_(roots).mul_(group["lr"]))


def release(optimisers: Iterable[torch.optim.Optimizer]) -> None:
    """Let each parameter have memory of its own again: one that is kept would keep all that lies beside it."""
    for optimiser in optimisers:
        for group in optimiser.param_groups if isinstance(optimiser, RecordableRMSProp) else ():
            for parameter in group["params"]:
                parameter.data = parameter.data.clone()


def records(device: torch.device) -> bool:
    """Whether a device can record steps."""
    return device.type in RECORDING


def may_record(training: Training, device: torch.device) -> bool:
    """Whether the optimiser's steps can be recorded."""
    return training.graphs and training.optimiser == "tf1-rmsprop" and records(device)


def make_optimiser(training: Training, parameters: Groups) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for, over these groups of parameters, with nothing remembered yet."""
    rate, decay = training.rate, training.weight_decay
    if training.optimiser == "tf1-rmsprop":
        device = parameters[0]["params"][0].device
        if not may_record(training, device):
            return TF1RMSProp(parameters, rate)
        # A recorded step reads its rate from the device, each group its own.
        groups = [{**group, "lr": torch.tensor(rate, device=device)} for group in parameters]
        several = training.protocol == "multi-task"  # where one parameter is of several tasks' optimisers
        return TF1RMSProp(groups, rate) if several else RecordableRMSProp(groups, rate)
    if training.optimiser == "sgd":
        # Not torch's fused one: it fails where a parameter has its first gradient later than others, as heads do.
        return torch.optim.SGD(parameters, rate, momentum=training.momentum, weight_decay=decay)
    if training.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, rate, momentum=training.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if training.optimiser == "adamw" else torch.optim.Adam
    # On a CPU torch would take one parameter and one operation at a time; on a GPU it does not by itself.
    fused = True if parameters[0]["params"][0].device.type == "cpu" else None
    adam = kind(parameters, rate, (training.beta1, training.beta2), weight_decay=decay, fused=fused)
    if fused:
        adam.register_step_pre_hook(_lay_alike)
    return adam


def _lay_alike(optimiser: torch.optim.Optimizer, *_: object) -> None:
    """Lay each gradient, and what is remembered of it, in memory as the parameter lies.

    torch's fused optimisers of a CPU read all three from beginning to end side by side, whatever their strides: a
    number would meet the gradient of another, and nobody would be told.
    """
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
            remembered = optimiser.state.get(parameter, {})
            for name, tensor in remembered.items():
                if tensor.ndim and tensor.stride() != parameter.stride():
                    remembered[name] = torch.empty_like(parameter).copy_(tensor)


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
    if training.schedule == "constant":
        return training.rate
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
