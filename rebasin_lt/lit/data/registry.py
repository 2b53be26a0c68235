"""Datasets by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.cifar import CIFAR10, CIFAR100
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.lit.data.fashion_mnist import FashionMNIST
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.lit.data.imagenet import ImageNet
from rebasin_lt.lit.data.svhn import SVHN

DATASETS: dict[str, type[ImageData]] = {
    kind.name: kind for kind in (Digits, FashionMNIST, CIFAR10, CIFAR100, SVHN, ImageFolder, ImageNet)
}


def build_data(name: str, **settings: Any) -> ImageData:
    """The dataset called `name`, with its constructor's arguments; `build_data(**data.settings())` makes `data` again.

    Raises InputError for a name or an argument that is not known.
    """
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        raise InputError(
            f"data is {name!r}, which is not known"
            + (f" (did you mean {close[0]}?)" if close else "")
            + f": expected {', '.join(DATASETS)}"
        )
    known = inspect.signature(DATASETS[name]).parameters
    for argument in settings:
        if argument not in known:
            raise InputError(f"data {name} has no argument {argument!r}: expected {', '.join(known)}")
    return DATASETS[name](**settings)
