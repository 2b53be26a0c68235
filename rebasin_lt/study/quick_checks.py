"""What can be told of a study in a moment, without importing torch, so that a dry run answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import rebasin_lt
from rebasin_lt.connectivity.corrections import CORRECTIONS
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.controls import import_control
from rebasin_lt.experiment.matcher import OF_IMAGES, matcher_of
from rebasin_lt.experiment.recipe import TRAININGS, Recipe
from rebasin_lt.models.registry import default_input_shape
from rebasin_lt.settings.checked import check_settings
from rebasin_lt.settings.choices import check_known
from rebasin_lt.settings.options import SPLITS, BarrierOptions, ImageOptions, MatchOptions
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
    with named_setting("recipe.network"):
        default_input_shape(str(study.recipe.network.get("arch", "mlp")))


def check_analyses(study: Study) -> None:
    """Refuse settings of matchers, controls and barriers that those do not take. Raises InputError."""
    for name, settings in study.matchers.items():
        own = {key: value for key, value in settings.items() if key not in OF_IMAGES}
        images = {key: settings[key] for key in ("num_images", "batch_size") if key in settings}
        check_settings(f"matchers.{name}", MatchOptions, own, also=OF_IMAGES)
        check_settings(f"matchers.{name}", ImageOptions, images)
        with named_setting(f"matchers.{name}"):
            matcher_of(settings).check_code()
    for name in filter(is_user_code, map(str, study.methods)):
        import_control(name, "one of methods")
    if study.barrier is not None:
        measured = {key: value for key, value in study.barrier.items() if key != "matchers"}
        check_settings("barrier", BarrierOptions, measured)
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
    """True if the settings of data and trainings are names and types that are taken; False if it takes torch to tell.

    `check_analyses` looks at the others.
    """
    recipe = study.recipe
    changed = [recipe, *(at_point(recipe, {axis: value}) for axis, own in study.axes.items() for value in own)]
    return not any([recipe.own_code, recipe.own_data, *(each.imp for each in changed)]) and all([
        known_images(recipe) is not None,
        not _LOOKED_UP & set(recipe.trainer),
        surely_takes("lightning.pytorch.trainer.trainer", "Trainer", recipe.trainer, TRAINER_OURS),
        *map(_is_trained, changed),
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
