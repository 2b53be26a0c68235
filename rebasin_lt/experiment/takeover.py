"""Networks and masks that exist, taken over into a folder as if a stage had trained or pruned them there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.dataset import build_dataset
from rebasin_lt.experiment.file_names import FINAL, rewind_name
from rebasin_lt.experiment.modules import build_module
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.stages import trained_file
from rebasin_lt.lit.callbacks.resume_point import LAST
from rebasin_lt.lit.checkpoint import CHECKPOINT_VERSION, MASK, METADATA, load_weights_, read_checkpoint
from rebasin_lt.lit.checkpoint_content import MADE_WITH
from rebasin_lt.lit.checkpoint_file import write_checkpoint
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.network_module import NetworkModule
from rebasin_lt.lit.recorded import recorded
from rebasin_lt.pruning.mask import Mask

SAME_SPARSITY = 0.005  # how far a given mask may be from the sparsity of the others


def network_files(where: str, run: Path, moments: Sequence[str]) -> dict[str, Path]:
    """The files of a run, or of the run beside a checkpoint, by the names that a dense stage gives them.

    Raises InputError, naming the setting `where`, for one that is not there.
    """
    trained = run if run.is_file() else trained_file(run)
    if trained is None:
        raise InputError(f"{where} is {run}, which holds neither {FINAL} nor {LAST}: give a finished dense run")
    files = {FINAL: trained, **{rewind_name(moment): trained.parent / rewind_name(moment) for moment in moments}}
    for name, path in files.items():
        if not path.is_file():
            raise InputError(
                f"{where} is {run}, which has no {name}: set recipe.rewinds, and moments of matchers and signs, to "
                "those it kept"
            )
    return files


def network_content(where: str, path: Path, recipe: Recipe, moment: str | None = None) -> dict[str, Any]:
    """A checkpoint of the recipe's network with the weights in `path`. Raises InputError where they do not fit."""
    module = build_module(recipe, recipe.dense)
    try:
        content, known = read_checkpoint(path), load_weights_(module, path)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    data = build_dataset(recipe)
    said = {
        **{"format_version": CHECKPOINT_VERSION, "data": data.settings()},
        "image_shape": list(data.input_shape) if isinstance(data, ImageData) else None,
        **(module.architecture() if isinstance(module, NetworkModule) else {MADE_WITH: recorded(module)}),
        **({"moment": moment} if moment else {}),
    }
    masks = {MASK: content[MASK]} if MASK in content else {}
    progress = {name: content.get(name, 0) for name in ("epoch", "global_step")}
    return {
        **{"pytorch-lightning_version": lightning.__version__, **progress, **masks},
        **{"state_dict": module.state_dict(), METADATA: {**said, **known}},
    }


def take_network(where: str, folder: Path, files: dict[str, Path], recipe: Recipe) -> None:
    """Write the network, as trained and at its moments, into `folder`."""
    for name, path in files.items():
        moment = None if name == FINAL else Path(name).stem
        write_checkpoint(folder / name, network_content(where, path, recipe, moment))


def open_mask(where: str, path: Path, recipe: Recipe, target: float) -> Mask:
    """The mask in a file. Raises InputError where it does not fit the recipe's network or the target sparsity."""
    try:
        mask = Mask.load(path)
        mask.check_fits(dict(network_of(build_module(recipe, recipe.sparse)).named_parameters()))
    except InputError as error:
        raise InputError(f"{where} is {path}: {error}") from error
    if abs(mask.sparsity - target) > SAME_SPARSITY:
        raise InputError(
            f"{where} is {path}, which has sparsity {mask.sparsity:.4f}, and recipe.targets holds {target:g}, to which "
            "the others are pruned: set it to the mask's"
        )
    return mask
