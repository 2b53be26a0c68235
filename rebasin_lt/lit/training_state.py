"""The parts of a checkpoint that make a resume exact: optimisers, schedules, loops, callbacks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.checkpoint_content import METADATA
from rebasin_lt.lit.checkpoint_file import check_finite, weight_states
from rebasin_lt.storage.tensor_file import tensors_in

PARTS = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict}
"""What Lightning writes beside the weights, and in what it writes them."""

POSITION = ("epoch_progress", "epoch_loop.batch_progress")
"""Entries of the loop that say how far training has come."""

SIZE = "training_state_tensors"
"""In a checkpoint's metadata: how many tensors its optimisers' states hold."""

_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "base_lrs", "_last_lr")
_HOW_IT_COMPUTES = {"foreach", "fused", "capturable", "differentiable"}  # devices differ in them


def size_of(content: Mapping[str, Any]) -> int:
    """The number of tensors in the states of a checkpoint's optimisers."""
    return sum(1 for _ in tensors_in(content.get("optimizer_states", [])))


def check_training_state(content: Mapping[str, Any], path: Path | str) -> None:
    """Raise BrokenFileError, naming the part, unless everything is there, whole and finite that a resume needs."""
    for part, kind in PARTS.items():
        if not isinstance(content.get(part), kind):
            raise _broken(path, f"it has no {part}")
    fit_loop = content["loops"].get("fit_loop")
    if not isinstance(fit_loop, Mapping) or not fit_loop:
        raise _broken(path, "its loops have no fit_loop")
    for part in POSITION:
        if part not in fit_loop:  # Lightning would begin at 0 without it, and say nothing
            raise _broken(path, f"its fit_loop has no {part}")
    said = content.get(METADATA, {}).get(SIZE)
    if said is not None and said != size_of(content):
        raise _broken(path, f"its optimizer_states hold {size_of(content)} tensors, {said} were written")
    for part in ("optimizer_states", "lr_schedulers"):
        place = next(_not_finite(content[part], part), None)
        if place is not None:
            raise _broken(path, f"{place} is not finite")
    for state in weight_states(content):
        check_finite(state, path)


def check_counts(content: Mapping[str, Any], counts: Mapping[str, int], path: Path | str) -> None:
    """Raise BrokenFileError where a part has fewer entries than this run has optimisers or schedules."""
    for part, count in counts.items():
        if len(content[part]) < count:
            raise _broken(path, f"its {part} are {len(content[part])}, this run has {count}")


def check_options(optimizers: Sequence[Optimizer], states: Sequence[Any], path: Path | str) -> None:
    """Raise BrokenFileError, before they are loaded, for states that would turn a switch of this run's optimisers.

    A switch is a truth value of a parameter group, such as `maximize`, that no schedule turns.
    """
    for optimizer, state in zip(optimizers, states, strict=False):
        groups = state.get("param_groups") if isinstance(state, Mapping) else None
        if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
            raise _broken(path, "one of its optimizer_states has no param_groups")
        for ours, theirs in zip(map(_switches, optimizer.param_groups), map(_switches, groups), strict=False):
            for name in ours.keys() & theirs.keys():
                if ours[name] != theirs[name]:
                    raise _broken(path, f"its optimizer has {name} {theirs[name]}, this run has {ours[name]}")


def _switches(group: Mapping[str, Any]) -> dict[str, bool]:
    return {name: value for name, value in group.items() if isinstance(value, bool) and name not in _HOW_IT_COMPUTES}


def _broken(path: Path | str, what: str) -> BrokenFileError:
    return BrokenFileError(
        f"checkpoint {path} cannot be gone on from: {what}. It is damaged, or was changed; resume from another, "
        "or begin anew in another folder"
    )


def _not_finite(value: Any, place: str) -> Iterator[str]:
    """The places of numbers that are NaN, and of rates that are infinite: other settings may well be."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _not_finite(entry, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _not_finite(entry, f"{place}.{index}")
    elif isinstance(value, Tensor):
        if value.is_floating_point() and bool(value.isnan().any()):
            yield place
    elif isinstance(value, float):
        rate = any(part in _RATES for part in place.split("."))
        if math.isnan(value) or (rate and math.isinf(value)):
            yield place
