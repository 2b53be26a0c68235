"""Settings of stages as axes of a study's grid: `{sparse.learning_rate: [0.05, 0.1]}`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import TRAININGS, Recipe
from rebasin_lt.settings.choices import near

_TRAINING_OF = {
    **{"dense": "dense", "dense_epochs": "dense"},
    **{"prune": "prune", "imp": "prune", "epochs_per_round": "prune", "fraction": "prune"},
    **{"sparse": "sparse", "sparse_epochs": "sparse", "sign_in": "sparse"},
}
"""The kind of training that a setting of a recipe is of: what is made before it does not depend on it."""

_GROUPS = (*TRAININGS, "imp", "sign_in")


def check_axes(axes: Mapping[str, Any]) -> None:
    """Raise InputError for an axis that is no setting of a stage, and for values that cannot name a folder."""
    for axis, values in axes.items():
        root, _, setting = str(axis).partition(".")
        if root not in _TRAINING_OF or (root in _GROUPS) != bool(setting) or "." in setting or "/" in setting:
            lengths = [name for name in _TRAINING_OF if name not in _GROUPS]
            groups = [f"{name}.SETTING" for name in _GROUPS]
            hint = "" if root in _TRAINING_OF else near(root, _TRAINING_OF)
            raise InputError(
                f"axes holds {axis!r}{hint}, expected a setting of a stage: {', '.join([*groups, *lengths])}"
            )
        if not isinstance(values, list | tuple):
            raise InputError(f"axes.{axis} is {values!r}, expected a list of values")
        for value in values:
            if not isinstance(value, str | int | float | None) or not re.fullmatch(r"[\w.:+-]+", _text(value)):
                raise InputError(f"axes.{axis} holds {value!r}, which names folders: expected numbers or plain words")
            if not setting and (isinstance(value, str | bool) or (value is None and root != "sparse_epochs")):
                raise InputError(f"axes.{axis} holds {value!r}, expected numbers")


def check_axis_values(name: str, values: Sequence[Any]) -> None:
    """Raise InputError for an axis without values, and for a value that names the same folder as another."""
    if not values:
        raise InputError(f"{name} is empty, expected at least one value")
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]  # as folders are named
    for text in texts:
        if texts.count(text) > 1:
            raise InputError(f"{name} is {list(values)}, which holds {text} twice")


def check_lists(name: str, settings: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise InputError, naming it, for one of `keys` of settings that holds no list of names or numbers."""
    for key in keys:
        if key in settings and not (isinstance(settings[key], list | tuple) and settings[key]):
            raise InputError(f"{name}.{key} is {settings[key]!r}, expected a list of some, or leave it out for all")
        for each in settings.get(key, ()):
            if not isinstance(each, str | int | float):
                raise InputError(f"{name}.{key} holds {each!r}, expected names or numbers")


def check_among(name: str, values: Sequence[Any], known: Sequence[Any]) -> None:
    """Raise InputError for a value that is none of those on the grid's axis."""
    for value in values:
        if value not in known:
            raise InputError(f"{name} holds {value}, expected some of the grid's: {', '.join(map(str, known))}")


def grid_points(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of values, by the axes' names; one that is empty where there are no axes."""
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def at_point(recipe: Recipe, point: Mapping[str, Any]) -> Recipe:
    """The recipe with these values of the axes."""
    for axis, value in point.items():
        root, _, setting = axis.partition(".")
        changed: Any = {**getattr(recipe, root), setting: value} if setting else value
        recipe = replace(recipe, **{root: changed})
    return recipe


def axes_until(point: Mapping[str, Any], training: str) -> dict[str, Any]:
    """The values that what is made up to a kind of training depends on: its own, and those of what came before."""
    known = TRAININGS[: TRAININGS.index(training) + 1]
    return {axis: value for axis, value in point.items() if _TRAINING_OF[axis.partition(".")[0]] in known}


def axes_text(point: Mapping[str, Any]) -> list[str]:
    """`sparse.learning_rate=0.05` for each value, as folders and reports name it."""
    return [f"{axis}={_text(value)}" for axis, value in point.items()]


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
