"""Checks of what every network is sized by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rebasin_lt.errors import InputError, check_least

if TYPE_CHECKING:  # whoever only asks for names need not wait for torch
    from torch import nn

ImageShape = tuple[int, int, int]
"""Channels, height, width."""


def scaled(width: float) -> Callable[[int], int]:
    """The function that multiplies a channel count by `width`; it raises InputError where that is no whole number."""
    if not width > 0:
        raise InputError(f"width is {width:g}, expected a factor above 0")

    def scale(channels: int) -> int:
        exact = channels * width
        if exact < 1 or abs(exact - round(exact)) > 1e-6:
            raise InputError(
                f"width is {width:g}, which makes {exact:g} of {channels} channels: expected a factor that keeps "
                "every channel count whole, such as 0.5, 1 or 2"
            )
        return round(exact)

    return scale


def check_halvings(name: str, input_shape: ImageShape, count: int) -> None:
    """Raise InputError for images that a network cannot halve so many times."""
    least = 2**count
    if min(input_shape[1:]) < least:
        raise InputError(
            f"input_shape is {list(input_shape)}, but {name} halves images {count} times: expected at least "
            f"{least}×{least} pixels; mlp and resnet20 take smaller ones"
        )


def check_sizes(num_classes: int, input_shape: ImageShape) -> None:
    """Raise InputError unless there is a class and the shape is (channels, height, width), all at least 1."""
    check_least("num_classes", num_classes, 1)
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise InputError(f"input_shape is {list(input_shape)}, expected channels, height and width, each at least 1")


def image_shape(shape: Sequence[int]) -> ImageShape:
    """The shape as channels, height and width. Raises InputError where it has another length."""
    if len(shape) != 3:
        raise InputError(f"input_shape is {list(shape)}, expected channels, height and width")
    return shape[0], shape[1], shape[2]


def check_reads(network: nn.Module, arch: str, shape: Sequence[int]) -> None:
    """Raise InputError if the network cannot read an image of `shape`."""
    import torch

    from rebasin_lt.models.evaluation_mode import evaluation_mode

    try:
        with torch.no_grad(), evaluation_mode(network):
            network(next(network.parameters()).new_zeros(1, *shape))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"network {arch} does not take the data's images of shape {tuple(shape)}: {reason}") from error
