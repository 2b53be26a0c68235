"""timm's classifiers by name, where timm is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.models.sizes import ImageShape
from rebasin_lt.settings.choices import near
from rebasin_lt.settings.user_code import TIMM


def timm_network(name: str, width: float, num_classes: int, input_shape: ImageShape | None) -> nn.Module:
    """timm's classifier `name`, untrained, for images of `input_shape` if it is given, or else of its usual size.

    The channels are handed on, which timm's networks all take; the size is not, which only some of them need and know.
    Raises InputError where timm is not installed, for a name that it does not have, and for a width.
    """
    library = _timm(name)
    if width != 1:
        raise InputError(f"width is {width:g}, but {TIMM}{name} has one width only: leave it at 1")
    channels: dict[str, Any] = {} if input_shape is None else {"in_chans": input_shape[0]}
    network: nn.Module = library.create_model(name, pretrained=False, num_classes=num_classes, **channels)
    return network


def timm_input_shape(name: str) -> ImageShape:
    """Channels, height and width of the images that timm's classifier `name` is meant for. Raises as `timm_network`."""
    settings = _timm(name).get_pretrained_cfg(name)
    shape = getattr(settings, "input_size", None) or (3, 224, 224)
    return shape[0], shape[1], shape[2]


def _timm(name: str) -> Any:
    """timm, which has a network of that name. Raises InputError."""
    try:
        library = import_module("timm")
    except ModuleNotFoundError as error:
        raise InputError(f"model is {TIMM}{name}, but timm is not installed: pip install timm") from error
    if not library.is_model(name):
        raise InputError(f"model is {TIMM}{name}, which timm does not have{near(name, library.list_models())}")
    return library
