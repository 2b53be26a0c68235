"""Datasets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from lightning import LightningDataModule

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.failure import failing
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.cifar import CIFAR10, CIFAR100
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.lit.data.fashion_mnist import FashionMNIST
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.lit.data.imagenet import ImageNet
from rebasin_lt.lit.data.other import LoadersOf, OtherData
from rebasin_lt.lit.data.svhn import SVHN
from rebasin_lt.lit.recorded import class_name, remember
from rebasin_lt.settings.choices import near
from rebasin_lt.settings.signatures import arguments
from rebasin_lt.settings.user_code import import_named, is_user_code

DATASETS: dict[str, type[ImageData]] = {
    kind.name: kind for kind in (Digits, FashionMNIST, CIFAR10, CIFAR100, SVHN, ImageFolder, ImageNet)
}


Data = ImageData | OtherData
"""A dataset of labelled images, or data of any kind."""


def build_data(name: str, **settings: Any) -> Data:
    """The data called `name`, with its constructor's arguments; `build_data(**data.settings())` makes `data` again.

    `name` is that of a dataset here, or `package.module:Class`, any LightningDataModule of your own, or
    `package.module:function` of one that returns such, or loaders as `LoadersOf` takes them. A `seed` is for those that
    take one. Raises InputError for a name or an argument that is not known.
    """
    source = data_source(name)
    known = data_arguments(source)
    if "seed" not in known and not _is_of_images(source):
        settings.pop("seed", None)
    for argument in settings:
        if argument not in known:
            raise InputError(f"data {name} has no argument {argument!r}: expected {', '.join(known) or 'none'}")
    for argument, parameter in known.items():
        if parameter.default is parameter.empty and argument not in settings:
            raise InputError(f"data {name} needs its argument {argument!r}: set it")
    with failing(lambda: f"data {name} cannot be made with {settings}"):
        made = source(**settings)
    if isinstance(made, ImageData):
        return made
    if not isinstance(made, LightningDataModule):
        made = LoadersOf(name, made)
    remember(made, settings, class_name(source))
    return OtherData(made)


def data_module(data: Data) -> LightningDataModule:
    """What a Trainer is given."""
    return data.module if isinstance(data, OtherData) else data


def data_source(name: str) -> Callable[..., Any]:
    """The class or function that `name` stands for. Raises InputError for a name that is not known."""
    own = {spelling: kind for known, kind in DATASETS.items() for spelling in (known, kind.__name__)}
    if name in own:
        return own[name]
    if not is_user_code(name):
        module, dot, attribute = name.rpartition(".")
        likely = [f"{module}:{attribute}"] if dot else DATASETS
        expected = f"expected {', '.join(DATASETS)} or package.module:Class"
        raise InputError(f"data is {name!r}, which is not known{near(name, likely)}: {expected}")
    source = import_named("data", name)
    is_module = isinstance(source, type) and issubclass(source, LightningDataModule)
    if not (is_module or isinstance(source, FunctionType)):
        raise InputError(
            f"data is {name!r}, which is a {source.__name__ if isinstance(source, type) else type(source).__name__}, "
            "expected a LightningDataModule, or a function that returns loaders"
        )
    return source  # type: ignore[return-value]


def source_name(source: Callable[..., Any]) -> str:
    """What checkpoints call a dataset's class, or the function that makes it."""
    return str(source.name) if _is_of_images(source) else class_name(source)  # type: ignore[attr-defined]


def data_arguments(source: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a dataset's class, or of the function that makes it."""
    if isinstance(source, type):
        return arguments(source)
    own = inspect.signature(source).parameters
    return {name: each for name, each in own.items() if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}}


def is_of_images(name: str) -> bool:
    """True if the data of this name are an `ImageData`. Raises InputError for a name that is not known."""
    return _is_of_images(data_source(name))


def _is_of_images(source: Callable[..., Any]) -> bool:
    return isinstance(source, type) and issubclass(source, ImageData)
