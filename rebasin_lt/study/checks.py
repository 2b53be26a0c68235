"""What a stage would refuse hours later, refused before the first: settings, data and devices that are not there."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry
from torch import nn

from rebasin_lt.analyses.barrier import check_barrier
from rebasin_lt.batches import network_of
from rebasin_lt.connectivity.evaluation import check_called, check_judged
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.dataset import build_dataset, check_reading, fed, module_settings, reading_settings
from rebasin_lt.experiment.loggers import check_loggers
from rebasin_lt.experiment.modules import build_module, module_class, network_settings
from rebasin_lt.experiment.recipe import TRAININGS, Recipe
from rebasin_lt.experiment.stages import imp_settings
from rebasin_lt.feeding.failure import failing
from rebasin_lt.judging.judge import judge_of
from rebasin_lt.judging.losses import CROSS_ENTROPY
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.sign_in import SignIn
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.other import OtherData
from rebasin_lt.lit.data.registry import Data, build_data, data_source
from rebasin_lt.lit.trainer import check_strategy
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.checked import check_settings
from rebasin_lt.settings.choices import check_known
from rebasin_lt.settings.signatures import arguments
from rebasin_lt.settings.user_code import import_named
from rebasin_lt.study.axes import at_point
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.barrier import barrier_of
from rebasin_lt.study.kinds.given import check_sources
from rebasin_lt.study.kinds.sparse import check_signs_there
from rebasin_lt.study.plan import plan
from rebasin_lt.study.quick_checks import PRUNING_OURS, TRAINER_OURS, check_analyses, named_setting
from rebasin_lt.study.stage import points_of


def check_names_and_types(study: Study) -> None:
    """Refuse settings that no stage takes. Needs no data and looks at no device. Raises InputError."""
    recipe = study.recipe
    check_data(recipe)
    check_settings("recipe.trainer", Trainer, {**recipe.trainer, "logger": False}, taken=TRAINER_OURS)
    check_loggers(recipe.trainer.get("logger"))
    check_strategy(recipe.trainer.get("strategy"), "recipe.trainer.strategy")
    _check_places(recipe.trainer)
    for changed in [recipe, *(at_point(recipe, {axis: value}) for axis, own in study.axes.items() for value in own)]:
        _check_module(changed, study.widths)
        check_settings("recipe.imp", IterativeMagnitudePruning, changed.imp, taken=PRUNING_OURS)
        with named_setting("recipe.imp"):
            _check_imp(changed)
        check_settings("recipe.sign_in", SignIn, changed.sign_in)
        with named_setting("recipe.sign_in"):
            SignIn(**changed.sign_in)
    check_analyses(study)
    judge_of(recipe.loss, "recipe.loss")
    judge_of((study.barrier or {}).get("loss", recipe.loss), "barrier.loss")


def _check_module(recipe: Recipe, widths: Sequence[float]) -> None:
    """The settings of the network and of each training, by what the module's constructor takes."""
    kind = module_class(recipe)
    network = network_settings(replace(recipe, network={**recipe.network, "width": max(widths, key=lambda w: w != 1)}))
    if kind.test_step is LightningModule.test_step:
        raise InputError(
            f"recipe.module is {recipe.module!r}, which has no test_step: a study tests every network; log test/top1 "
            "in percent there, or test/loss"
        )
    check_settings("recipe.network", kind, network, taken=["init_from", "mask"])
    for stage in TRAININGS:
        given = [*recipe.network, "width", "init_from", "mask"]
        check_settings(f"recipe.{stage}", kind, getattr(recipe, stage), taken=given)
        if loss := getattr(recipe, stage).get("loss"):
            import_named(f"recipe.{stage}.loss", str(loss))


def check_data(recipe: Recipe) -> Data:
    """The data of a recipe, not read yet. Raises InputError for settings that it does not take.

    Also for a class of the user's own that cannot be made again from what its checkpoints say.
    """
    settings = module_settings(recipe.data)
    name = str(settings.pop("name", None))
    kind = data_source(name)
    check_reading(recipe)
    if isinstance(kind, type):
        check_settings("recipe.data", kind, settings, taken=["seed"])
    if isinstance(kind, type) and issubclass(kind, ImageData) and "seed" not in arguments(kind):
        raise InputError(f"recipe.data.name is {name!r}, which takes no argument seed: a study sets it, hand it on")
    data = build_data(name, **settings)
    if data.settings() is None:
        raise InputError(
            f"recipe.data is {recipe.data}, but a checkpoint could not say how to make {name} again: expected a class "
            "with an __init__ of its own, given numbers, texts and lists of them"
        )
    return data


def check_study(study: Study, here: bool = True, done: Container[str] = (), folder: Path | str | None = None) -> None:
    """Refuse networks and data that do not fit or are not there, and, where stages run `here`, devices that are not.

    What stages that are `done` were given need not be there any more; what they left in `folder` must be of use to
    those that are left. Raises InputError.
    """
    check_names_and_types(study)
    if here:
        _check_devices(study.recipe.trainer)
    data = build_dataset(study.recipe)
    if isinstance(data, ImageData):
        data.setup("fit")
        data.setup("test")
    _check_images(study, data)
    for point in points_of(study):
        for stage in TRAININGS:
            network = _module(point.recipe, stage)
        if isinstance(data, ImageData):
            _check_fit(network, study.recipe, data)
        if (mask := point.recipe.imp.get("mask")) is not None:
            with named_setting("recipe.imp.mask"):
                Mask.load(mask).check_fits(dict(network_of(network).named_parameters()))
    if isinstance(data, OtherData) or study.recipe.loss != CROSS_ENTROPY or reading_settings(study.recipe.data):
        _check_batches(study, data, network_of(network))
    check_sources(study, done)
    if folder is not None:
        check_signs_there(plan(study), Path(folder), done)
    if study.barrier is not None:
        with named_setting("barrier"):
            check_barrier(barrier_of(study), network_of(network))


def _check_imp(recipe: Recipe) -> None:
    settings = imp_settings(recipe, Path("dense"))
    IterativeMagnitudePruning(list(recipe.targets), recipe.epochs_per_round, recipe.fraction, **settings)
    rewind = settings.get("rewind_from")
    if rewind and not recipe.pruned_from and not Path(rewind).is_file():
        raise InputError(f"rewind_from is {rewind!r}, expected a moment such as 1ep, or a rewind checkpoint")


def _check_places(settings: Mapping[str, Any]) -> None:
    """Names that Lightning knows: it takes any text for them."""
    accelerators = ["auto", "gpu", *AcceleratorRegistry.available_accelerators()]
    strategies = ["auto", *StrategyRegistry.available_strategies()]
    for name, known in (("accelerator", accelerators), ("strategy", strategies)):
        check_known(f"recipe.trainer.{name}", settings.get(name, "auto"), sorted(known))


def _check_devices(settings: Mapping[str, Any]) -> None:
    name, devices = settings.get("accelerator", "auto"), settings.get("devices", 1)
    if name in {"gpu", "cuda"} and not torch.cuda.is_available():
        raise InputError(f"recipe.trainer.accelerator is {name}, but there is no GPU here: leave it out, or use auto")
    count = len(devices) if isinstance(devices, list) else devices
    for key, value in (("devices", count), ("num_nodes", settings.get("num_nodes", 1))):
        if isinstance(value, int) and value > 1:
            raise InputError(
                f"recipe.trainer.{key} is {settings[key]}, but a stage has one device here: leave it out, or use "
                "--launcher slurm"
            )


def _module(recipe: Recipe, stage: str) -> LightningModule:
    with failing(lambda: f"recipe.module is {recipe.module!r}, which cannot be made"):
        return build_module(recipe, getattr(recipe, stage))


def _check_fit(module: LightningModule, recipe: Recipe, data: ImageData) -> None:
    classes = module.hparams.get("num_classes", recipe.network.get("num_classes", data.num_classes))
    if classes != data.num_classes:
        raise InputError(
            f"recipe.network.num_classes is {classes}, but data {data.name} has {data.num_classes} classes"
        )
    if isinstance(module, Classifier):
        with named_setting("recipe.network"):
            module.check_takes(data)


def _check_batches(study: Study, data: Data, network: nn.Module) -> None:
    """The network is called with the first training batch, and judged on the first test batch where it will be."""
    recipe = study.recipe
    losses = [recipe.loss] if study.diversity is not None or study.given else []
    losses += [barrier_of(study).loss] if study.barrier is not None else []
    with named_setting("recipe.data"):
        check_called(network, fed(recipe, data, data.sweep("train"), network))
        for loss in dict.fromkeys(losses):
            check_judged(network, fed(recipe, data, data.sweep("test"), network), loss=loss)


def _check_images(study: Study, data: Data) -> None:
    if isinstance(data, OtherData):
        data.sweep("train")
        if not data.has("test"):
            raise InputError(
                f"recipe.data is {data.name}, which has no test_dataloader: a study tests every network; return "
                "val_dataloader() there if that is what to test on"
            )
    for name, settings in study.matchers.items():
        with named_setting(f"matchers.{name}"):
            data.sweep("train", num_images=settings.get("num_images"), batch_size=settings.get("batch_size"))
    if study.barrier is not None:
        with named_setting("barrier"):
            data.sweep("train", num_images=study.barrier.get("num_images"), batch_size=study.barrier.get("batch_size"))
            data.sweep("test", num_images=study.barrier.get("num_test_images"))
