"""VGG11 for 32×32 images, as the paper's code has it: one linear layer after the convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from rebasin_lt.models.sizes import ImageShape, check_halvings, scaled

_POOL = 0  # in place of a channel count
_LAYERS = (64, _POOL, 128, _POOL, 256, 256, _POOL, 512, 512, _POOL, 512, 512, _POOL)
_SHRINK = 2 ** _LAYERS.count(_POOL)


class VGG11Cifar(nn.Module):
    """Eight convolutions with biases, with or without batch normalisation, and one linear layer.

    The paper's VGG11 (arXiv 2505.05143; "nofc" in its code) is the one without; parameters start from PyTorch's
    defaults, as there. Images must be at least 32×32: five poolings halve them. Raises InputError for
    smaller ones.
    """

    def __init__(self, batch_norm: bool, width: float, num_classes: int, input_shape: ImageShape) -> None:
        super().__init__()
        channels, height, width_pixels = input_shape
        check_halvings("vgg11", input_shape, _LAYERS.count(_POOL))
        scale = scaled(width)
        layers: list[nn.Module] = []
        for size in _LAYERS:
            if size == _POOL:
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
                continue
            layers.append(nn.Conv2d(channels, scale(size), kernel_size=3, padding=1))
            channels = scale(size)
            layers += [nn.BatchNorm2d(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * (height // _SHRINK) * (width_pixels // _SHRINK), num_classes)

    def forward(self, images: Tensor) -> Tensor:  # shape: (batch, C, H, W) -> (batch, classes)
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
