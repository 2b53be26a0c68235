"""Datasets as a user would write them, outside of the package."""

from __future__ import annotations

import torch

from rebasin_lt.lit.data import Digits, ImageData, ResidentImages


class Stripes(ImageData):
    """Black images with one white row; the row is the class."""

    num_classes = 4
    input_shape = (1, 4, 6)
    mean, std = (0.25,), (0.5,)
    default_val_size = 2

    def open_part(self, part):
        labels = torch.arange(102 if part == "train" else 8) % 4
        pixels = torch.zeros(len(labels), *self.input_shape, dtype=torch.uint8)
        pixels[torch.arange(len(labels)), 0, labels] = 255
        return ResidentImages(pixels, labels, self.normalisation())


class Faint(Digits):
    """Digits with less contrast."""

    def __init__(self, contrast: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.contrast = contrast


class Unkept(Stripes):
    def __init__(self, rows: int = 4) -> None:
        super().__init__()


class Drawn(Stripes):
    def __init__(self, weights: torch.Tensor | None = None) -> None:
        super().__init__()
        self.weights = torch.ones(4) if weights is None else weights


class Needy(Stripes):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows


class Empty(ImageData):
    num_classes, input_shape, mean, std = 2, (1, 2, 2), (0.5,), (0.5,)


NOT_DATA = 3
