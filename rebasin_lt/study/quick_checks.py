"""What can be told of a study in a moment, without importing torch, so that a dry run answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rebasin_lt.connectivity.corrections import CORRECTIONS
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.controls import import_control
from rebasin_lt.experiment.matcher import OF_IMAGES, matcher_of
from rebasin_lt.experiment.recipe import TRAININGS, Recipe
from rebasin_lt.judging.losses import check_loss_name, has_error
from rebasin_lt.models.registry import default_input_shape
from rebasin_lt.settings.checked import check_settings
from rebasin_lt.settings.choices import check_known
from rebasin_lt.settings.options import SPLITS, BarrierOptions, ImageOptions, MatchOptions
from rebasin_lt.settings.user_code import is_user_code
from rebasin_lt.study.axes import at_point
from rebasin_lt.study.grid import Study

TRAINER_OURS = ("default_root_dir", "max_epochs", "callbacks", "enable_checkpointing", "plugins")
"""Settings of the Trainer that a study sets itself."""

PRUNING_OURS = ("targets", "epochs_per_round", "fraction", "dense_epochs", "dirpath")
"""The same of pruning."""

_NUMBERS = ("learning_rate", "momentum", "weight_decay", "label_smoothing")
USUAL: Mapping[str, Mapping[str, Any]] = {
    "data": {"name": str, "root": str, **dict.fromkeys(("batch_size", "val_size", "train_size"), int)},
    "network": {"arch": str, "width": float, "num_classes": int, "channels_last": bool, "compile": bool},
    "training": {
        **dict.fromkeys(_NUMBERS, float),
        **{"optimizer": ("sgd", "adamw"), "lr_schedule": ("cosine", "multistep", "constant")},
        **{"warmup_epochs": int, "milestones": list, "schedule": ("restart", "continue", "truncate")},
    },
    "trainer": {
        **{"precision": ("bf16-mixed", "16-mixed", "32-true"), "gradient_clip_val": float, "devices": int},
        **{"num_nodes": int, "benchmark": bool, "deterministic": bool},
    },
}
"""What settings of a recipe usually are: values of a type, integers in a list, or one of some names. Others may be as
right, but it takes the constructors, and so torch, to tell."""

PUBLISHED = {
    **{"digits": (1297, 297), "fashion_mnist": (60_000, 5000), "cifar10": (50_000, 5000)},
    **{"cifar100": (50_000, 5000), "svhn": (73_257, 5000), "imagenet": (1_281_167, 10_000)},
}
"""Training images of published datasets, and how many of them are held out if nothing else is said."""

_LEAST = {"batch_size": 1, "val_size": 0, "train_size": 1}


def check_network_name(study: Study) -> None:
    """Refuse a network that is not known, or code of one's own that is not there. Raises InputError."""
    with named_setting("recipe.network"):
        default_input_shape(str(study.recipe.network.get("arch", "mlp")))


def check_analyses(study: Study) -> None:
    """Refuse losses that are not known, and settings of matchers, controls and barriers that those do not take.

    Raises InputError.
    """
    loss = study.recipe.loss
    check_loss_name(loss, "recipe.loss")
    if study.diversity is not None and not has_error(loss):
        raise InputError(
            f"diversity: ensembles are compared by accuracy, but recipe.loss is {loss}, which tells no right answer "
            "from a wrong one: leave it out, or compare trained networks by the command diversity"
        )
    for name, settings in study.matchers.items():
        own = {key: value for key, value in settings.items() if key not in OF_IMAGES}
        images = {key: settings[key] for key in ("num_images", "batch_size") if key in settings}
        check_settings(f"matchers.{name}", MatchOptions, own, also=OF_IMAGES)
        check_settings(f"matchers.{name}", ImageOptions, images)
        with named_setting(f"matchers.{name}"):
            matcher_of(settings).check_code()
    for base in filter(is_user_code, dict.fromkeys(method.base for method in study.trained.values())):
        import_control(base, "one of methods")
    if study.barrier is not None:
        measured = {key: value for key, value in study.barrier.items() if key != "matchers"}
        check_settings("barrier", BarrierOptions, measured)
        check_loss_name(study.barrier.get("loss", loss), "barrier.loss")
        for name in study.barrier.get("corrections") or ():
            check_known("one of barrier.corrections", name, CORRECTIONS)
        for name in study.barrier.get("splits") or ():
            check_known("one of barrier.splits", name, SPLITS)


@contextmanager
def named_setting(setting: str) -> Iterator[None]:
    """Say of which setting an InputError speaks."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{setting}: {error}") from error


def is_surely_right(study: Study) -> bool:
    """True if the settings of data and trainings are usual ones, which are taken; False if it takes torch to tell.

    `check_analyses` looks at the others.
    """
    recipe = study.recipe
    changed = [recipe, *(at_point(recipe, {axis: value}) for axis, own in study.axes.items() for value in own)]
    return not any([recipe.own_code, *(each.imp or each.sign_in for each in changed)]) and all([
        known_images(recipe) is not None,
        are_usual("trainer", recipe.trainer),
        are_usual("network", recipe.network),
        *(are_usual("training", getattr(each, stage)) for each in changed for stage in TRAININGS),
    ])


def known_images(recipe: Recipe) -> int | None:
    """Training images of a published dataset, less those that are held out; None where that takes a look to tell."""
    data = recipe.data
    if not are_usual("data", data) or data.get("name") not in PUBLISHED:
        return None
    images, held_out = PUBLISHED[data["name"]]
    left = images - data.get("val_size", held_out)
    fit = left > 0 and all(data[name] >= least for name, least in _LEAST.items() if name in data)
    return min(left, data.get("train_size", left)) if fit else None


def are_usual(part: str, settings: Mapping[str, Any]) -> bool:
    """True if all settings of a part of a recipe, a key of `USUAL`, are there, and of the kind that they are there."""
    known = USUAL[part]
    return all(name in known and _is_one(value, known[name]) for name, value in settings.items())


def _is_one(value: object, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return value in kind
    if isinstance(value, list):
        return kind is list and all(type(each) is int for each in value)
    return type(value) is kind or (kind is float and type(value) is int)
