"""The dataset that a recipe names: what its module is made with, and how its batches are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from rebasin_lt.feeding.calls import Fed
    from rebasin_lt.lit.data.registry import Data

_READING = ("inputs", "targets")
"""Settings in `recipe.data` that say what of a batch is what, as the options of the commands do."""


def module_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `recipe.data` that the data module is made with, its name among them."""
    apart = reading_settings(data)
    return {name: value for name, value in data.items() if name not in apart}


def reading_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` and `targets` of `recipe.data`; without those that the data module takes as arguments of its own."""
    from rebasin_lt.lit.data.registry import data_arguments, data_source

    given = [name for name in _READING if name in data]
    own = data_arguments(data_source(str(data.get("name")))) if given else {}
    return {name: data[name] for name in given if name not in own}


def check_reading(recipe: Recipe) -> None:
    """Raise InputError for what names no parts of a batch."""
    from rebasin_lt.experiment.subjects import named_inputs

    for name, value in reading_settings(recipe.data).items():
        if not isinstance(value, str):
            raise InputError(f"recipe.data.{name} is {value!r}, expected a text, as --{name} of the commands")
    try:
        named_inputs(reading_settings(recipe.data).get("inputs"))
    except InputError as error:
        raise InputError(f"recipe.data: {error}") from error


def build_dataset(recipe: Recipe, **more: Any) -> Data:
    """The data of a recipe, made with `more` settings too. Raises InputError as `build_data`."""
    from rebasin_lt.lit.data.registry import build_data

    return build_data(**{**module_settings(recipe.data), **more})


def fed(recipe: Recipe, data: Data, batches: Iterable[Any], network: nn.Module) -> Fed:
    """Batches of the recipe's data as the network is given them. Raises InputError for names that cannot be."""
    from rebasin_lt.experiment.subjects import named_inputs
    from rebasin_lt.feeding.calls import Fed
    from rebasin_lt.lit.data.other import handed_to

    said = reading_settings(recipe.data)
    return Fed(handed_to(batches, data, network), named_inputs(said.get("inputs")), said.get("targets"))
