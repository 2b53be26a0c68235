"""Datasets as a user would write them, outside of the package."""

from __future__ import annotations

from dataclasses import dataclass

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


class Free(Stripes):
    """Whatever a constructor may look like."""

    def __init__(self, rows: list[int], shift=0, *, kind: object = 1j, flip: bool = True, **kwargs) -> None:
        kwargs.setdefault("batch_size", 3)
        super().__init__(val_size=50, **kwargs)
        self.shown = (rows, shift, kind, flip)


class Positional(Stripes):
    def __init__(self, rows: int = 1, /, *more: int) -> None:
        super().__init__()


class Named(Stripes):
    def __init__(self, name: str = "cifar10") -> None:
        super().__init__()
        self.name = name


class Renamed(Digits):
    name = "digits"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.name = "digits"


@dataclass(eq=False)
class Fields(Stripes):
    rows: int = 1

    def __post_init__(self) -> None:
        super().__init__(seed=self.rows)


class Swallowing(Stripes):
    def __init__(self, seed: int = 0, **moods: int) -> None:
        super().__init__(seed=seed)
        if moods.keys() - {"mood"}:
            raise TypeError("unexpected")


class Contrast:
    """No dataset, but the first base class of one."""

    def __init__(self, contrast: float = 1, **kwargs) -> None:
        super().__init__(**kwargs)


class Mixed(Contrast, Stripes):
    pass


class Outer:
    class Inner(Stripes):
        pass


class Empty(ImageData):
    num_classes, input_shape, mean, std = 2, (1, 2, 2), (0.5,), (0.5,)


class NotData:
    pass


NOT_DATA = 3
