"""Networks for ImageNet-sized images: ResNet50 with a width, and torchvision's classifiers by name."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from rebasin_lt.errors import InputError
from rebasin_lt.models.sizes import ImageShape, scaled
from rebasin_lt.settings.choices import near
from rebasin_lt.settings.user_code import TORCHVISION

_BLOCKS = (3, 4, 6, 3)


class ResNet50(nn.Module):
    """torchvision's ResNet50 with every channel count multiplied by `width`: the stem, the planes, the output.

    At width 1 names, parameters and their random initialisation are exactly torchvision's. The published code's
    `resnet50_wide` (arXiv 2505.05143) is another network: it doubles stem and planes and then the base width as well,
    so that the inner width of a bottleneck grows four times (271 M parameters); width 2 here has 98 M.
    """

    def __init__(self, width: float, num_classes: int, input_shape: ImageShape) -> None:
        super().__init__()
        scale = scaled(width)
        channels = scale(64)
        self.conv1 = nn.Conv2d(input_shape[0], channels, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(channels, scale(64), _BLOCKS[0], stride=1)
        self.layer2 = _stage(scale(256), scale(128), _BLOCKS[1], stride=2)
        self.layer3 = _stage(scale(512), scale(256), _BLOCKS[2], stride=2)
        self.layer4 = _stage(scale(1024), scale(512), _BLOCKS[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(scale(2048), num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:  # shape: (batch, C, H, W) -> (batch, classes)
        features = self.maxpool(relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.fc(self.avgpool(features).flatten(1))
        return logits


def torchvision_network(name: str, width: float, num_classes: int, input_shape: ImageShape) -> nn.Module:
    """torchvision's classifier `name`, untrained. Raises InputError for an unknown name, a width, or grey images."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"model is {TORCHVISION}{name}, which torchvision does not have{near(name, known)}")
    if width != 1:
        raise InputError(f"width is {width:g}, but {TORCHVISION}{name} has one width only: leave it at 1")
    if input_shape[0] != 3:
        raise InputError(f"input_shape is {list(input_shape)}, but {TORCHVISION}{name} takes images of 3 channels")
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return network


def _stage(channels_in: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """Bottlenecks whose output has 4 · planes channels; the first one has a projection shortcut."""
    from torchvision.models.resnet import Bottleneck

    channels = planes * Bottleneck.expansion
    shortcut = nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )
    first = Bottleneck(channels_in, planes, stride, shortcut)
    return nn.Sequential(first, *[Bottleneck(channels, planes) for _ in range(blocks - 1)])
