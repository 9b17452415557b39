"""Which arithmetic a device has, how it treats the smallest numbers, and that it computes the same each time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

DENORMAL = 1e-39
"""A number below the smallest that float32 holds with all its digits (1.2e-38)."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether layers in bfloat16 are computed as such; elsewhere PyTorch imitates it, at several times the cost."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def layers_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """In here layers compute in this precision, `float32` or `bfloat16`."""
    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """In here a GPU's convolutions are float32's where float32 is asked for, and the same each time.

    Left to itself PyTorch rounds what goes into them to the ten bits of TF32, and takes sums in whatever order is
    fastest: a run that was stopped and goes on would end with other numbers than one that was not.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    if _has_one_precision():
        with cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
        return
    before = cudnn.deterministic, cudnn.conv.fp32_precision
    cudnn.deterministic, cudnn.conv.fp32_precision = True, "ieee"
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.conv.fp32_precision = before


def _has_one_precision() -> bool:
    """Whether PyTorch still tells TF32 by one switch; not after each kind of layer was given its own."""
    backends: Any = torch.backends
    try:
        return isinstance(backends.cudnn.allow_tf32, bool) and backends.fp32_precision == "none"
    except (AttributeError, RuntimeError) as found:  # before PyTorch 2.9 there is nothing but the one switch
        return isinstance(found, AttributeError)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """In here numbers below 1.2e-38 count as zero, in this thread; afterwards as they did before.

    A network that is sure of its training images has gradients of that size everywhere, and processors compute with
    them many times slower. No optimiser here tells them from zero.
    """
    before = flushes()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if not before:
            torch.set_flush_denormal(False)


def flushes() -> bool:
    """Whether this thread counts such numbers as zero."""
    return float(torch.full((), DENORMAL, dtype=torch.float32, device="cpu") * 1.0) == 0.0
