"""ResNets for 32×32 images, as the paper defines them (arXiv 2505.05143; the definition is REPAIR's, 2211.08403)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from rebasin_lt.models.sizes import ImageShape, scaled


class ResNetCifar(nn.Module):
    """Three stages of `blocks` residual blocks with 16, 32 and 64 channels × `width`; 6 · blocks + 2 layers.

    Unlike He et al.'s CIFAR ResNets, whose shortcuts have no parameters, a change of stage has a 3×3 convolution and
    batch normalisation as its shortcut, in a submodule of that name. Convolutions and the linear layer start from
    kaiming_normal. Takes images of any size and number of channels.
    """

    def __init__(self, blocks: int, width: float, num_classes: int, input_shape: ImageShape) -> None:
        super().__init__()
        scale = scaled(width)
        channels = scale(16)
        self.conv1 = _conv3x3(input_shape[0], channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = _stage(blocks, channels, channels, stride=1)
        self.layer2 = _stage(blocks, channels, scale(32), stride=2)
        self.layer3 = _stage(blocks, scale(32), scale(64), stride=2)
        self.linear = nn.Linear(scale(64), num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:  # shape: (batch, C, H, W) -> (batch, classes)
        features = relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels_in, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()  # the identity
        if stride != 1:
            self.shortcut = nn.Sequential(_conv3x3(channels_in, channels, stride), nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(features)))))
        return relu(residual + self.shortcut(features))


def _conv3x3(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, kernel_size=3, stride=stride, padding=1, bias=False)


def _stage(blocks: int, channels_in: int, channels: int, stride: int) -> nn.Sequential:
    first = _Block(channels_in, channels, stride)
    return nn.Sequential(first, *[_Block(channels, channels, stride=1) for _ in range(blocks - 1)])
