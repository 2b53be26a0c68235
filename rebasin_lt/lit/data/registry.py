"""Datasets by name."""

from __future__ import annotations

from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.cifar import CIFAR10, CIFAR100
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.lit.data.fashion_mnist import FashionMNIST
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.lit.data.imagenet import ImageNet
from rebasin_lt.lit.data.svhn import SVHN
from rebasin_lt.settings.choices import near
from rebasin_lt.settings.signatures import arguments
from rebasin_lt.settings.user_code import import_named, is_user_code

DATASETS: dict[str, type[ImageData]] = {
    kind.name: kind for kind in (Digits, FashionMNIST, CIFAR10, CIFAR100, SVHN, ImageFolder, ImageNet)
}


def build_data(name: str, **settings: Any) -> ImageData:
    """The dataset called `name`, with its constructor's arguments; `build_data(**data.settings())` makes `data` again.

    `name` is that of a dataset here, or `package.module:Class`, a subclass of `ImageData` of your own. Raises
    InputError for a name or an argument that is not known.
    """
    kind = data_class(name)
    known = arguments(kind)
    for argument in settings:
        if argument not in known:
            raise InputError(f"data {name} has no argument {argument!r}: expected {', '.join(known)}")
    for argument, parameter in known.items():
        if parameter.default is parameter.empty and argument not in settings:
            raise InputError(f"data {name} needs its argument {argument!r}: set it")
    try:
        return kind(**settings)
    except TypeError as error:
        raise InputError(f"data {name} cannot be made with {settings}: {error}") from error


def data_class(name: str) -> type[ImageData]:
    """The class that `name` stands for. Raises InputError for a name that is not known."""
    if name in DATASETS:
        return DATASETS[name]
    if not is_user_code(name):
        module, dot, attribute = name.rpartition(".")
        likely = [f"{module}:{attribute}"] if dot else DATASETS
        expected = f"expected {', '.join(DATASETS)} or package.module:Class"
        raise InputError(f"data is {name!r}, which is not known{near(name, likely)}: {expected}")
    kind = import_named("data", name)
    if not (isinstance(kind, type) and issubclass(kind, ImageData)):
        raise InputError(f"data is {name!r}, expected a subclass of rebasin_lt.lit.data.ImageData")
    return kind
