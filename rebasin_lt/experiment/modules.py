"""The LightningModule that a stage trains: `Classifier`, or one of the user's own under the same callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.callbacks.init_from import InitFrom
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.classifier import Classifier, MaskedClassifier
from rebasin_lt.lit.recorded import remember
from rebasin_lt.settings.signatures import arguments
from rebasin_lt.settings.user_code import import_named


def module_class(recipe: Recipe) -> type[LightningModule]:
    """`Classifier`, or the class that `recipe.module` names. Raises InputError for what is no LightningModule."""
    if recipe.module is None:
        return Classifier
    kind = import_named("recipe.module", recipe.module)
    if not (isinstance(kind, type) and issubclass(kind, LightningModule)):
        raise InputError(f"recipe.module is {recipe.module!r}, expected a subclass of LightningModule")
    return kind


def network_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of `recipe.network` that the module takes: all, but a width of 1 where it knows no widths."""
    network = dict(recipe.network)
    if network.get("width") == 1 and "width" not in arguments(module_class(recipe)):
        del network["width"]
    return network


def build_module(
    recipe: Recipe,
    settings: Mapping[str, Any],
    mask: Path | None = None,
    init_from: Path | None = None,
    signs: Mapping[str, Any] | None = None,
) -> LightningModule:
    """A module with fresh weights, or with those in `init_from` where its constructor takes that, as ours do.

    `signs` are the settings `signs` and `signs_from` of `MaskGuard`, under a mask.
    """
    kind = module_class(recipe)
    begin: dict[str, Any] = {} if init_from is None or not _takes_weights(kind) else {"init_from": str(init_from)}
    if mask is not None and kind is Classifier:
        return MaskedClassifier(str(mask), **recipe.network, **{**settings, **(signs or {})}, **begin)
    given = {**network_settings(recipe), **settings, **begin}
    module = kind(**given)
    remember(module, given)
    return module


def module_callbacks(
    recipe: Recipe,
    mask: Path | None = None,
    init_from: Path | None = None,
    signs: Mapping[str, Any] | None = None,
) -> list[Callback]:
    """What gives a module of the user's own the weights to begin from, and keeps it under its mask."""
    kind = module_class(recipe)
    callbacks: list[Callback] = []
    if init_from is not None and not _takes_weights(kind):
        callbacks.append(InitFrom(str(init_from)))
    if mask is not None and kind is not Classifier:
        callbacks.append(MaskGuard(str(mask), **(signs or {})))
    return callbacks


def _takes_weights(kind: type[LightningModule]) -> bool:
    return "init_from" in arguments(kind)
