"""Weights under weight norm, length · direction / |direction|: a unit whose direction is all zero has no value."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError


def directions(network: nn.Module) -> dict[str, str]:
    """By parameter name, the direction of every weight under weight norm, torch's old or new one, and its length."""
    found: dict[str, str] = {}
    for path, module in network_of(network).named_modules():
        prefix = f"{path}." if path else ""
        for own, steps in getattr(module, "parametrizations", {}).items():
            if any(type(step).__name__ == "_WeightNorm" for step in steps):
                found[f"{prefix}parametrizations.{own}.original1"] = f"{prefix}parametrizations.{own}.original0"
        own_names = {name for name, _ in module.named_parameters(recurse=False)}
        for own in sorted(own_names):
            if own.endswith("_v") and f"{own[:-2]}_g" in own_names:
                found[f"{prefix}{own}"] = f"{prefix}{own[:-2]}_g"
    return found


def keep_directions(network: nn.Module, scores: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`scores` with the best weight that the mask keeps of every unit under weight norm as large as can be."""
    result = dict(scores)
    for name, length in directions(network).items():
        if name in mask:
            values = scores[name].masked_fill(~mask[name].to(scores[name].device), -torch.inf)
            axes = _axes_of_a_unit(network_of(network).get_parameter(length), values)
            best = values == (values.amax(axes, keepdim=True) if axes else values)
            result[name] = scores[name].masked_fill(best & (values > -torch.inf), torch.finfo(values.dtype).max)
    return result


def check_directions(network: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Raise InputError for a mask that takes all weights of a unit under weight norm: it would compute 0/0."""
    parameters = dict(network_of(network).named_parameters())
    for name, length in directions(network).items():
        if name not in mask:
            continue
        axes = _axes_of_a_unit(parameters[length], mask[name])
        kept = mask[name].sum(axes) if axes else mask[name]
        empty = int((kept == 0).sum())
        if empty:
            raise InputError(
                f"mask leaves {empty} units of {name} without a weight, which weight norm would divide by zero: keep "
                "one weight in each, or leave the tensor dense with exclude"
            )


def _axes_of_a_unit(length: Tensor, direction: Tensor) -> tuple[int, ...]:
    """The axes of a direction over which its length is taken: all, for the one length of a whole tensor."""
    sizes = length.shape or (1,) * direction.dim()
    return tuple(axis for axis, size in enumerate(sizes) if size == 1)
