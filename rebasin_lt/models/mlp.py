"""The multilayer perceptron of the demonstration."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from rebasin_lt.models.sizes import ImageShape, scaled

_DEPTH, _UNITS = 3, 64


class MLP(nn.Module):
    """Three hidden layers of 64 × `width` units with ReLU, without normalisation; takes images of any shape."""

    def __init__(self, width: float, num_classes: int, input_shape: ImageShape) -> None:
        super().__init__()
        units = scaled(width)(_UNITS)
        sizes = [math.prod(input_shape), *[units] * _DEPTH]
        layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(units, num_classes)

    def forward(self, images: Tensor) -> Tensor:  # shape: (batch, C, H, W) -> (batch, classes)
        logits: Tensor = self.head(self.layers(images.flatten(1)))
        return logits
