"""TensorFlow's SAME padding for pooling, which PyTorch does not have.

SAME gives ceil(n / stride) outputs and pads what is missing, the smaller half before and the larger half after.
Where nothing is missing before, that is PyTorch's `ceil_mode`; where something is (43 pixels by 3, say), windows
would sit one pixel off, so the border is padded explicitly with minus infinity.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SameMaxPool2d(nn.Module):
    """Max-pooling with window = stride and SAME padding: `[N, C, H, W]` to `[N, C, ceil(H/s), ceil(W/s)]`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Float[Tensor, " n c h w"]) -> Float[Tensor, " n c rows columns"]:
        before = [_missing(pixels, self.size) // 2 for pixels in images.shape[-2:]]
        if any(before):
            after = [_missing(pixels, self.size) - b for pixels, b in zip(images.shape[-2:], before, strict=True)]
            images = F.pad(images, (before[1], after[1], before[0], after[0]), value=float("-inf"))
        return F.max_pool2d(images, self.size, ceil_mode=True)

    def extra_repr(self) -> str:
        return f"size={self.size}"


def same_size(pixels: int, stride: int) -> int:
    """Pixels that SAME pooling leaves of one side."""
    return -(-pixels // stride)


def _missing(pixels: int, size: int) -> int:
    return same_size(pixels, size) * size - pixels
