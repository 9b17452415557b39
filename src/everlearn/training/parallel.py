"""Data-parallel training of one learner: several processes, started by `torchrun`, take every step together.

Each process holds the whole network and goes through the same batches in the same order. Inside `spread` a call
`network(images, task)` computes the logits of the process's own part of the images; they are then gathered, so that
every process has the logits of the whole batch and computes its whole loss, penalties and all. Backwards, with W
processes,

    d loss / d own logits    times W, and nothing through the others'
    d loss / d parameter     averaged over processes (`average`)

which is the gradient of the whole batch: what came through the logits is a W-th of the sum times W, what every process
computed in full is averaged over equals. Hence it holds for every method and loss, whatever calls it makes; what does
not go through `network(...)` is computed in full by all. Dropout draws differ from those of one process.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from everlearn.errors import ConfigurationError
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.seeds import reseed


def world() -> int:
    """How many processes train together; 1 alone."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def check_network(network: LifelongNetwork) -> None:
    """Raise `ConfigurationError` for layers whose output for an image depends on the others of the batch."""
    for module in (part for block in (*network.templates, network) for part in block.modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            raise ConfigurationError(
                f"the backbone has batch normalisation ({module}), whose statistics several processes would each take "
                "of their own images; train it in one process, or give it nn.SyncBatchNorm."
            )


@contextmanager
def spread(network: LifelongNetwork) -> Iterator[None]:
    """Let each process compute its own part of every call of the network, in here."""
    if world() == 1:
        yield
        return
    hooks = _Hooks(world(), distributed.get_rank())
    handles = [
        network.register_forward_pre_hook(hooks.before),
        network.register_forward_hook(hooks.after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def average(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over all processes, in one message."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(whole)
    whole /= world()
    for gradient, part in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))


class _Hooks:
    """What is done before and after a call of the network: cut the images, gather the logits."""

    def __init__(self, processes: int, rank: int) -> None:
        self._processes, self._rank = processes, rank
        self._sizes: list[int] = []
        self._generators: tuple[Tensor, Tensor | None] | None = None

    def before(self, network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        images = inputs[0]
        self._sizes = [len(part) for part in torch.empty(len(images), 0).tensor_split(self._processes)]
        if min(self._sizes) == 0:
            self._sizes = []  # too few images to divide: each process computes them all
            return None
        if network.training:
            self._draw_apart(images.device)
        return tuple(self._own(value, len(images)) for value in inputs)

    def _own(self, value: Any, count: int) -> Any:
        """Of tensors with a row for each image the process's own rows; whatever else is given stays as it is."""
        if isinstance(value, tuple | list):
            return [self._own(one, count) for one in value]
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == count:
            return value.tensor_split(self._processes)[self._rank]
        return value

    def after(self, network: nn.Module, _: tuple[Any, ...], logits: Tensor) -> Tensor | None:
        if not self._sizes:
            return None
        self._restore(logits.device)
        return _Gather.apply(logits, self._sizes, self._rank)  # type: ignore[no-any-return]

    def _draw_apart(self, device: torch.device) -> None:
        """Other dropout for each process; afterwards all go on from the same draws."""
        seed = int(torch.randint(2**31, (), device=device))  # from the generator that `take_steps` has seeded
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._generators = torch.get_rng_state(), cuda
        reseed(device, seed + self._rank)

    def _restore(self, device: torch.device) -> None:
        if self._generators is None:
            return
        torch.set_rng_state(self._generators[0])
        if self._generators[1] is not None:
            torch.cuda.set_rng_state(self._generators[1], device)
        self._generators = None


class _Gather(torch.autograd.Function):
    """The parts of all processes, one after the other; backwards the own part alone, times their number."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: Sequence[int], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        # Messages of one size only: parts may differ by an image.
        padded = own.new_zeros((max(sizes), *own.shape[1:]), dtype=torch.float32)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]).to(own.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        own: Tensor = gradients[0].split(list(ctx.sizes))[ctx.rank]
        return own * len(ctx.sizes), None, None
