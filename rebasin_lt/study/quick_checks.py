"""What can be told of a study in a moment, without importing torch, so that a dry run answers at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import rebasin_lt
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.matcher import OF_IMAGES, matcher_of
from rebasin_lt.experiment.recipe import TRAININGS, Recipe
from rebasin_lt.models.registry import default_input_shape
from rebasin_lt.settings.source import source_attribute, surely_takes
from rebasin_lt.settings.user_code import is_user_code
from rebasin_lt.study.axes import at_point
from rebasin_lt.study.grid import Study

TRAINER_OURS = (
    *("default_root_dir", "max_epochs", "callbacks", "enable_checkpointing", "plugins", "use_distributed_sampler"),
)
"""Settings of the Trainer that a study sets itself."""

PRUNING_OURS = ("targets", "epochs_per_round", "fraction", "dense_epochs", "dirpath")
"""The same of pruning."""

_CLASSIFIER = ("rebasin_lt.lit.classifier", "Classifier")
_LOOKED_UP = {"accelerator", "strategy", "logger"}  # by names that only Lightning knows
_COUNTS = {"batch_size": 1, "val_size": 0, "train_size": 1}


def check_network_name(study: Study) -> None:
    """Refuse a network that is not known, or code of one's own that is not there. Raises InputError."""
    try:
        default_input_shape(str(study.recipe.network.get("arch", "mlp")))
    except InputError as error:
        raise InputError(f"recipe.network: {error}") from error


def is_surely_right(study: Study) -> bool:
    """True if `check_names_and_types` would find nothing to refuse; False where it takes torch to tell."""
    recipe = study.recipe
    changed = [recipe, *(at_point(recipe, {axis: value}) for axis, own in study.axes.items() for value in own)]
    return not any([recipe.own_code, recipe.own_data, recipe.module, *map(is_user_code, study.methods)]) and all([
        known_images(recipe) is not None,
        not _LOOKED_UP & set(recipe.trainer),
        surely_takes("lightning.pytorch.trainer.trainer", "Trainer", recipe.trainer, TRAINER_OURS),
        *map(_is_trained, changed),
        *(_is_matched(name, dict(settings)) for name, settings in study.matchers.items()),
        _is_measured(study),
    ])


def known_images(recipe: Recipe) -> int | None:
    """Training images of a published dataset, less those that are held out; None where that takes a look to tell."""
    settings = {name: value for name, value in recipe.data.items() if name != "name"}
    where = _dataset(str(recipe.data.get("name")))
    if where is None or not surely_takes(*where, settings, ["seed"]) or not settings.keys() <= {*_COUNTS, "root"}:
        return None
    published = source_attribute(*where, "published_size")
    held_out = settings.get("val_size", source_attribute(*where, "default_val_size"))
    if not isinstance(published, int) or not isinstance(held_out, int):
        return None
    left = published - held_out
    counts = [settings.get(name) is None or settings[name] >= least for name, least in _COUNTS.items()]
    return min(left, settings.get("train_size") or left) if all(counts) and left > 0 else None


@cache
def _dataset(name: str) -> tuple[str, str] | None:
    """Module and class of a dataset of this package, by its name."""
    folder = Path(rebasin_lt.__file__).parent / "lit" / "data"
    for path in sorted(folder.glob("*.py")):
        module = f"rebasin_lt.lit.data.{path.stem}"
        for line in path.read_text(encoding="utf-8").splitlines():
            kind = line.removeprefix("class ").partition("(")[0].partition(":")[0]
            if line.startswith("class ") and source_attribute(module, kind, "name") == name:
                return module, kind
    return None


def _is_trained(recipe: Recipe) -> bool:
    network = {name: value for name, value in recipe.network.items() if name != "width"}
    taken = [*recipe.network, "width", "init_from", "loss"]
    pruning = "rebasin_lt.lit.callbacks.iterative_magnitude_pruning"
    return (
        surely_takes(*_CLASSIFIER, network, ["init_from", "loss"])
        and all(surely_takes(*_CLASSIFIER, getattr(recipe, stage), taken) for stage in TRAININGS)
        and surely_takes(pruning, "IterativeMagnitudePruning", recipe.imp, PRUNING_OURS)
    )


def _is_matched(name: str, settings: dict[str, Any]) -> bool:
    own = {key: value for key, value in settings.items() if key not in OF_IMAGES}
    images: dict[str, Any] = {key: settings[key] for key in ("num_images", "batch_size") if key in settings}
    if is_user_code(str(own.get("method", ""))) or not surely_takes("rebasin_lt.experiment.matcher", "Matcher", own):
        return False
    try:
        matcher_of(settings)
    except InputError:  # said better by who knows of which setting it speaks
        return False
    return surely_takes("rebasin_lt.settings.options", "ImageOptions", images)


def _is_measured(study: Study) -> bool:
    measured = {key: value for key, value in (study.barrier or {}).items() if key != "matchers"}
    return surely_takes("rebasin_lt.settings.options", "BarrierOptions", measured)
