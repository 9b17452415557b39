"""The diagonal of the Fisher information: how much each parameter matters to the answers of one task.

J. Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, Sec. 2 ("the diagonal of the
Fisher information matrix F"):

    F_i = 1/N  sum_n  E_y [ (d log p(y | x_n) / d theta_i)^2 ]

Symbols: x_n the n-th of N images; y its labels; theta_i one parameter.

Details that change the numbers:
  * The square is of each image's gradient. The square of a batch's mean gradient, which some implementations take, is
    another quantity, and smaller by about the size of the batch.
  * Where y comes from: `true`, the labels of the data (the empirical Fisher, which vanishes as the labels are learned);
    `sampled`, one draw from the network's own prediction; `expected`, the mean over that prediction, exactly, for as
    many passes backward as there are classes. The paper does not say; the Fisher information is the last.
  * A multi-label task's labels are independent given the image, so that the mean over all of their combinations is
    the sum over the labels of the mean over true and false.
  * The network is in evaluation mode: no dropout, and running statistics are used and left as they are.
"""

from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from everlearn.errors import DataError, UnknownNameError
from everlearn.methods.losses import task_loss
from everlearn.networks.alternatives import resting
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.per_example import SquaredGradients
from everlearn.seeds import generator

Labels = Literal["true", "sampled", "expected"]


def diagonal_fisher(
    network: LifelongNetwork,
    task: int,
    images: Iterable[tuple[Tensor, Tensor]],
    names: Collection[str],
    labels: Labels = "true",
    seed: int = 0,
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of one task, over images.

    The network is left as it was: modes, statistics, gradients and what requires them, the global random numbers.

    Args:
        network: whose.
        task: position of the task.
        images: batches, `[b, C, H, W]`, with their labels, `[b]` or, of a multi-label task, `[b, classes]`. How they
            are cut into batches changes nothing but rounding, and how much memory is needed.
        names: the parameters, by the network's names; those that the task does not use get 0.
        labels: where the labels come from; see above.
        seed: of the labels drawn for `sampled`.

    Returns:
        F by name, of the shape and type of the parameter.

    Raises:
        DataError: there is no image.
        UnknownNameError: the network has no parameter of a name.
    """
    known = dict(network.named_parameters())
    for name in names:
        if name not in known:
            raise UnknownNameError("parameter", name, known)
    parameters = {name: known[name] for name in names}
    random, count = generator(seed, "fisher", task), 0
    sums = SquaredGradients(network, task, parameters)
    with _left_alone(network, parameters):
        for x, y in _singly(images) if _looks_across(network, task) else images:
            if len(x):
                sums.add(x, lambda logits, y=y: _scores(logits, y, labels, random))
            count += len(x)
    if not count:
        raise DataError(f"the Fisher information of task {task + 1} needs images, but no image came.")
    return {name: (total / count).to(parameters[name].dtype) for name, total in sums.sums.items()}


def _scores(logits: Tensor, labels: Tensor, kind: Labels, random: torch.Generator) -> list[Tensor]:
    """Gradients of -log p(y | x) at the logits, `[b, classes]`, whose squares, pulled back, add up to the mean over y.

    Pulling back is linear: with the root of a probability as a factor, the square gets the probability.
    """
    if kind == "expected":
        return _every_score(logits, multi_label=labels.ndim == 2)
    if kind == "sampled":
        labels = _draw(logits, random, multi_label=labels.ndim == 2)
    with torch.enable_grad():
        logits = logits.requires_grad_()
        return list(torch.autograd.grad(task_loss(logits, labels, "sum"), logits))


def _every_score(logits: Tensor, multi_label: bool) -> list[Tensor]:
    classes = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    if multi_label:
        # Of one label of probability q: q (1 - q)^2 + (1 - q) q^2 = q (1 - q).
        roots = (torch.sigmoid(logits) * torch.sigmoid(-logits)).sqrt()
        return [roots * one for one in classes]
    p = logits.softmax(1)
    return [p[:, c : c + 1].sqrt() * (p - one) for c, one in enumerate(classes)]


def _draw(logits: Tensor, random: torch.Generator, multi_label: bool) -> Tensor:
    """Labels from a prediction; the same on every device, and however the images are cut into batches."""
    count, classes = logits.shape
    drawn = torch.rand(count, classes if multi_label else 1, generator=random, dtype=torch.float64).to(logits.device)
    if multi_label:
        return (drawn < torch.sigmoid(logits.double())).to(logits.dtype)
    below = logits.double().softmax(1).cumsum(1) <= drawn
    return below.sum(1).clamp(max=classes - 1)  # the sum of all probabilities may fall short of 1


def _looks_across(network: LifelongNetwork, task: int) -> bool:
    """Whether an answer depends on the other images of its batch, even in evaluation mode."""
    modules = [module for part in (*network.templates, network.head(task)) for module in part.modules()]
    return any(isinstance(m, _BatchNorm) and m.running_mean is None for m in modules)


def _singly(images: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    for x, y in images:
        yield from ((x[n : n + 1], y[n : n + 1]) for n in range(len(x)))


@contextmanager
def _left_alone(network: LifelongNetwork, parameters: Collection[str]) -> Generator[None, None, None]:
    """Meanwhile the network is in evaluation mode, and these of its parameters, and no other, require a gradient."""
    templates = [module for template in network.templates for module in template.modules()]
    flags = [(name, p, p.requires_grad) for name, p in network.named_parameters()]
    devices = [network.device] if network.device.type == "cuda" else []
    alone = resting([*network.modules(), *templates])
    with alone, torch.enable_grad(), torch.random.fork_rng(devices):  # pyright: ignore[reportUnknownMemberType]
        try:
            for name, parameter, _ in flags:
                parameter.requires_grad_(name in parameters)
            yield
        finally:
            for _, parameter, flag in flags:
                parameter.requires_grad_(flag)
