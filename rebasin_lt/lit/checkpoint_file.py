"""Checkpoint files: how each of them is read and written, and what is looked at before one replaces another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError, DivergedError, MaskLeakError
from rebasin_lt.lit.checkpoint_content import MASK, check_content
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import write_tensors
from rebasin_lt.storage.plain_content import plain_content
from rebasin_lt.storage.tensor_file import read_tensors


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """The content of a checkpoint file, tensors on the CPU; a bare state dict comes as {"state_dict": …}.

    Raises InputError if there is no such file; BrokenFileError if it is damaged, would have to be unpickled, or
    has a format newer than this release.
    """
    content = read_tensors(path)
    if not isinstance(content, dict):
        raise BrokenFileError(f"{path} holds a {type(content).__name__}, expected a checkpoint or a state dict")
    content = _with_state_dict(content)
    check_content(content, path)
    return content


def write_checkpoint(path: Path | str, content: Mapping[str, Any], masks: Iterable[Mask] = ()) -> None:
    """Write a checkpoint, atomically, after a look at what it holds; a file that is there stays if it is refused.

    `masks` are those in force, beside the one in `content`; a network's weights and their averages are looked at.
    Raises InputError for what would have to be unpickled, DivergedError for weights that are not finite,
    MaskLeakError for pruned weights that are not zero, BrokenFileError for anything else that `read_checkpoint`
    would refuse.
    """
    plain = plain_content(content)
    content = _with_state_dict(plain)
    check_content(content, path)
    masks = [*masks, *([Mask(content[MASK])] if MASK in content else [])]
    for state in weight_states(content):
        check_weights(state, masks, path)
    write_tensors(path, plain)


def check_finite(state: Mapping[str, Any], path: Path | str) -> None:
    """Raise BrokenFileError, naming the first, for tensors that were read from `path` and are not finite."""
    name = first_not_finite(state)
    if name is not None:
        raise BrokenFileError(f"checkpoint {path} has {name} with values that are not finite: did it diverge?")


def check_weights(state: Mapping[str, Tensor], masks: Iterable[Mask], path: Path | str) -> None:
    """Raise DivergedError or MaskLeakError, naming the tensor, unless `state` is finite and zero under all `masks`.

    Names are those of the masks, or of our modules, which put `net.` before them; weights that are saved alone do not
    say whose they are. A device is waited for once or twice, whatever the number of tensors.
    """
    diverged = first_not_finite(state)
    if diverged is not None:
        raise DivergedError(
            f"{path} is not written: {diverged} holds NaN or infinity, the run diverged; lower its learning rate (a "
            "buffer that is meant to hold infinity stays out of checkpoints with persistent=False)"
        )
    for mask in masks:
        saved = {name: state.get(name, state.get(f"net.{name}")) for name in mask}
        weights = {name: weight for name, weight in saved.items() if weight is not None}
        pruned = [weight.masked_fill(mask[name].to(weight.device), 0) for name, weight in weights.items()]
        leaks = _together([tensor.count_nonzero() for tensor in pruned])
        for name, leak in zip(weights, leaks, strict=True):
            if leak:
                raise MaskLeakError(
                    f"{path} is not written: {leak} of {int((~mask[name]).sum())} pruned weights of {name} are not "
                    "zero; something beside the optimiser changed them, or averages them over other masks: leave it out"
                )


def weight_states(content: Mapping[str, Any]) -> Iterator[Mapping[str, Tensor]]:
    """The network's weights in a checkpoint, and those that averaging callbacks of Lightning put beside them."""
    yield content["state_dict"]
    callbacks = content.get("callbacks", {})
    beside = [content.get("current_model_state")]
    if isinstance(callbacks, Mapping):
        beside += [state.get("average_model_state") for state in callbacks.values() if isinstance(state, Mapping)]
    yield from (state for state in beside if isinstance(state, Mapping))


def first_not_finite(state: Mapping[str, Any]) -> str | None:
    """The name of the first tensor with NaN or infinity; None if there is none.

    One of zeros and infinities is no sign of divergence: what attention adds to its scores looks so. Nor is a single
    number that is infinite: a bound, or the best value so far before there is one.
    """
    named = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor) and _can_diverge(tensor)}
    finite = [tensor.isfinite().all() for tensor in named.values()]
    if all(_together(finite)):
        return None
    suspects = (name for name, fine in zip(named, _together(finite), strict=True) if not fine)
    return next((name for name in suspects if not _is_meant(named[name])), None)


def _with_state_dict(content: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as it is; what has no state dict is taken for one."""
    return content if "state_dict" in content else {"state_dict": content}


def _can_diverge(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _is_meant(tensor: Tensor) -> bool:
    finite = tensor.isfinite()
    zeros_beside = bool(finite.any()) and not bool(tensor[finite].any())
    return (tensor.dim() == 0 or zeros_beside) and not bool(tensor.isnan().any())


def _together(scalars: list[Tensor]) -> list[Any]:
    """The values of 0-dimensional tensors of one dtype, read from each device at once."""
    devices = dict.fromkeys(scalar.device for scalar in scalars)
    read = {device: iter(torch.stack([s for s in scalars if s.device == device]).tolist()) for device in devices}
    return [next(read[scalar.device]) for scalar in scalars]
