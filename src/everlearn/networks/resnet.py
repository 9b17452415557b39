"""A ResNet-18 for small images, cut into blocks: proof that a trunk need not be plain.

He et al. 2016, with the 3 x 3 stem that is usual for 32 x 32 images. The stem is one block and each residual block
another: nine in all. Where shapes change, the shortcut takes every second pixel and pads the channels with zeros
(their option A): it has no weights, so that every sharing rule can make every layer there is. Batch normalisation
keeps its running statistics for each task apart, whatever is shared.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from everlearn.networks.backbone import Backbone


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.extra = outputs - inputs

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(images)))
        shortcut = F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return F.relu(shortcut + self.norm2(self.conv2(hidden)))


def resnet18(channels: int = 3, width: int = 64, dropout: float = 0.0) -> Backbone:
    """ResNet-18 as nine blocks.

    Args:
        channels: of the images.
        width: channels of the first stage; doubled at each of the three next.
        dropout: share of the pooled features that is dropped in training.
    """
    blocks: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    ]
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        blocks += [ResidualBlock(inputs, outputs, 1 if stage == 0 else 2), ResidualBlock(outputs, outputs, 1)]
        inputs = outputs

    def head(classes: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(inputs, classes))

    return Backbone("resnet18", tuple(blocks), head, start="module")
