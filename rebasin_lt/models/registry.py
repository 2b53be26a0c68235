"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.models.sizes import ImageShape, check_sizes
from rebasin_lt.settings.choices import check_known, imported
from rebasin_lt.settings.user_code import TIMM, TORCHVISION, import_function, is_user_code

if TYPE_CHECKING:  # whoever only asks for names need not wait for torch
    from torch import nn


class _Entry(NamedTuple):
    network: str  # the class, as `imported` takes it
    kind: tuple[int, ...]  # arguments of it that come before width, num_classes and input_shape
    input_shape: ImageShape


_DIGITS, _CIFAR, _IMAGENET = (1, 8, 8), (3, 32, 32), (3, 224, 224)
_NETWORKS = {
    "mlp": _Entry("models.mlp:MLP", (), _DIGITS),
    **{f"conv{2 * pairs}": _Entry("models.conv_lottery:ConvLottery", (pairs,), _CIFAR) for pairs in (1, 2, 3)},
    **{f"resnet{6 * n + 2}": _Entry("models.resnet_cifar:ResNetCifar", (n,), _CIFAR) for n in (3, 5, 7, 9, 18)},
    "vgg11": _Entry("models.vgg_cifar:VGG11Cifar", (False,), _CIFAR),
    "vgg11_bn": _Entry("models.vgg_cifar:VGG11Cifar", (True,), _CIFAR),
    "resnet50": _Entry("models.imagenet:ResNet50", (), _IMAGENET),
}


def build_network(
    name: str, *, width: float = 1, num_classes: int = 10, input_shape: ImageShape | None = None
) -> nn.Module:
    """A new network with random weights, which depend on torch's seed alone.

        >>> network = rb.build_network("resnet20", width=0.5, num_classes=100)
        >>> network(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 100])

    Args:
        name: `mlp`, `conv2`, `conv4`, `conv6`, `resnet20`, `resnet32`, `resnet44`, `resnet56`, `resnet110`, `vgg11`,
            `vgg11_bn`, `resnet50`; `torchvision:NAME` or `timm:NAME`, any classifier of theirs; or
            `package.module:factory`, a function or class of your own, called with those of `width`, `num_classes` and
            `input_shape` that are arguments of it; one that ends in `**kwargs` gets `num_classes`, and a width but 1
        width: factor on every hidden channel count; a fraction if that keeps them whole
        num_classes: outputs
        input_shape: channels, height and width of an image; `default_input_shape(name)` if not given

    Raises InputError for a name that is not known and for sizes that the network cannot have.
    """
    shape = default_input_shape(name) if input_shape is None else input_shape
    check_sizes(num_classes, shape)
    if name in _NETWORKS:
        network: nn.Module = imported(_NETWORKS[name].network)(*_NETWORKS[name].kind, width, num_classes, shape)
        return network
    if name.startswith(TORCHVISION):
        from rebasin_lt.models.imagenet import torchvision_network

        return torchvision_network(name.removeprefix(TORCHVISION), width, num_classes, shape)
    if name.startswith(TIMM):
        from rebasin_lt.models.timm import timm_network

        return timm_network(name.removeprefix(TIMM), width, num_classes, input_shape)
    return _call_factory(name, width, num_classes, input_shape)


def default_input_shape(name: str) -> ImageShape:
    """Channels, height and width of the images that a network is meant for.

    Of your own `package.module:factory` it is the default of its argument `input_shape`, or else (3, 32, 32). Raises
    InputError for a name that is not known.
    """
    if name in _NETWORKS:
        return _NETWORKS[name].input_shape
    if name.startswith(TORCHVISION):
        return (3, 299, 299) if name == f"{TORCHVISION}inception_v3" else _IMAGENET
    if name.startswith(TIMM):
        from rebasin_lt.models.timm import timm_input_shape

        return timm_input_shape(name.removeprefix(TIMM))
    parameter = inspect.signature(_factory(name)).parameters.get("input_shape")
    if parameter is None or not isinstance(parameter.default, tuple | list):
        return _CIFAR
    channels, height, width = parameter.default
    return channels, height, width


def _factory(name: str) -> Callable[..., object]:
    """The factory that `package.module:factory` names. Raises InputError for a name of any kind that is not known."""
    if not is_user_code(name):
        check_known("model", name, _NETWORKS, "torchvision:NAME, timm:NAME or package.module:factory")
    return import_function("model", name, "a function or class")


def _call_factory(name: str, width: float, num_classes: int, input_shape: ImageShape | None) -> nn.Module:
    from torch import nn

    from rebasin_lt.feeding.failure import failing

    factory = _factory(name)
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if width != 1 and not (takes_any or "width" in parameters):
        raise InputError(f"width is {width:g}, but {name} takes no argument `width`: leave it at 1")
    offered = {"width": width, "num_classes": num_classes, "input_shape": input_shape}
    unasked = {"num_classes"} | ({"width"} if width != 1 else set())  # for what may know them, behind **kwargs
    given = {
        key: value
        for key, value in offered.items()
        if value is not None and (key in parameters or (takes_any and key in unasked))
    }
    with failing(lambda: f"model is {name!r}, which cannot be made with {', '.join(given) or 'no arguments'}"):
        network = factory(**given)
    if not isinstance(network, nn.Module):
        raise InputError(f"model is {name!r}, which made a {type(network).__name__}, expected a torch.nn.Module")
    return network
