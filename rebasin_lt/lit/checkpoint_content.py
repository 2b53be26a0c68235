"""The content of a checkpoint beside its weights, checked to have a form that can be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.pruning.mask import Mask

METADATA = "rebasin_lt"
MASK = "rebasin_lt_mask"
MADE_WITH = "made_with"
"""In the metadata: the LightningModule of the user's own that a checkpoint is of, and its arguments."""
CHECKPOINT_VERSION = 1

_ARCHITECTURE = ("arch", "width", "num_classes", "input_shape")
_KINDS: dict[str, tuple[type, ...]] = {
    "format_version": (int,),
    "arch": (str,),
    "width": (int, float),
    "num_classes": (int,),
    "input_shape": (list, tuple, NoneType),
    "image_shape": (list, tuple, NoneType),
    "data": (dict, NoneType),
    "made_with": (dict, NoneType),
    "epoch": (int,),
    "global_step": (int,),
    "moment": (str,),
    "steps_per_epoch": (int,),
    "mask_sha256": (str,),
    "training_state_tensors": (int,),
}


def check_content(content: Mapping[str, Any], path: Path | str) -> None:
    """Check a checkpoint's state dict, metadata and mask. Raises BrokenFileError naming what is not as we write it."""
    state = content["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise BrokenFileError(f"{path} has a state dict of type {type(state).__name__}, expected tensors by name")
    metadata = content.get(METADATA, {})
    if not isinstance(metadata, dict):
        raise BrokenFileError(f"{path} has metadata of type {type(metadata).__name__}, expected values by name")
    _check_metadata(metadata, path)
    if MASK in content:
        _check_mask(content[MASK], metadata.get("mask_sha256"), path)


def is_ours(content: Mapping[str, Any]) -> bool:
    """True if a checkpoint is of one of our modules, which keep their network as `net`."""
    return "arch" in content.get(METADATA, {})


def network_names(state: Mapping[str, Tensor], ours: bool) -> dict[str, Tensor]:
    """The state under the network's own names, as masks use them: of our modules without the `net.` in front."""
    return {name.removeprefix("net.") if ours else name: tensor for name, tensor in state.items()}


def _check_metadata(metadata: Mapping[str, Any], path: Path | str) -> None:
    for name, kinds in _KINDS.items():
        value = metadata.get(name)
        if name in metadata and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise BrokenFileError(f"{path} has {name} of type {type(value).__name__}, expected {kinds[0].__name__}")
    version = metadata.get("format_version", CHECKPOINT_VERSION)
    if version > CHECKPOINT_VERSION:
        raise BrokenFileError(
            f"{path} has format version {version}, this release reads {CHECKPOINT_VERSION}: update it"
        )
    missing = [name for name in _ARCHITECTURE if "arch" in metadata and name not in metadata]
    if missing:
        raise BrokenFileError(f"{path} says its arch but not its {missing[0]}: it is damaged")
    for name in ("input_shape", "image_shape"):
        shape = metadata.get(name)
        if shape is not None and not (len(shape) == 3 and all(isinstance(size, int) for size in shape)):
            raise BrokenFileError(f"{path} has {name} {shape!r:.100}, expected channels, height and width")


def _check_mask(tensors: Any, digest: str | None, path: Path | str) -> None:
    check_tensors(tensors, "mask", path)
    if any(tensor.dtype != torch.bool for tensor in tensors.values()):
        raise BrokenFileError(f"{path} has a mask that is not of dtype torch.bool")
    if digest is not None and Mask(tensors).hash != digest:
        raise BrokenFileError(f"{path} is damaged: its mask does not match the hash written with it")


def is_extra_state(name: object) -> bool:
    """True if an entry of a state dict is what a module's `get_extra_state` gave, which may be anything."""
    return isinstance(name, str) and name.rpartition(".")[2] == "_extra_state"


def check_tensors(tensors: Any, what: str, path: Path | str) -> None:
    """Raise BrokenFileError, naming the first culprit, for what is no mapping of names to tensors.

    Extra state may be anything.
    """
    if not isinstance(tensors, Mapping):
        raise BrokenFileError(f"{path} has a {what} of type {type(tensors).__name__}, expected tensors by name")
    for name, tensor in tensors.items():
        if not is_extra_state(name) and not (isinstance(name, str) and isinstance(tensor, Tensor)):
            raise BrokenFileError(
                f"{path} holds {name!r:.100} of type {type(tensor).__name__}, expected tensors by name"
            )
