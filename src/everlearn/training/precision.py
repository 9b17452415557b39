"""Which arithmetic a device has."""

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether layers in bfloat16 are computed as such; elsewhere PyTorch imitates it, at several times the cost."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
