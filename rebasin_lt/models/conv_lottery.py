"""Conv-2, Conv-4 and Conv-6, the small convolutional networks of the lottery ticket hypothesis."""

from __future__ import annotations

from torch import Tensor, nn

from rebasin_lt.models.sizes import ImageShape, check_halvings, scaled

_CHANNELS, _UNITS = (64, 128, 256), 256


class ConvLottery(nn.Module):
    """Pairs of 3×3 convolutions, each pair with twice the channels of the last and a pooling, then three linear layers.

    Without normalisation, weights from a Glorot normal distribution, as in Frankle and Carbin, *The Lottery Ticket
    Hypothesis* (ICLR 2019), Figure 2: `pairs` is 1, 2 or 3. Not in the paper that this package follows. Raises
    InputError for images that are smaller than the poolings need.
    """

    def __init__(self, pairs: int, width: float, num_classes: int, input_shape: ImageShape) -> None:
        super().__init__()
        channels, height, width_pixels = input_shape
        check_halvings(f"conv{2 * pairs}", input_shape, pairs)
        scale = scaled(width)
        layers: list[nn.Module] = []
        for size in map(scale, _CHANNELS[:pairs]):
            for inputs in (channels, size):
                layers += [nn.Conv2d(inputs, size, kernel_size=3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels = size
        pixels = (height >> pairs) * (width_pixels >> pairs)
        units = scale(_UNITS)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * pixels, units),
            nn.ReLU(),
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Linear(units, num_classes),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:  # shape: (batch, C, H, W) -> (batch, classes)
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
