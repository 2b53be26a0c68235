"""Tensors that change places as wholes: several of one form are the units of a group, and held as one tensor of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.symmetry.axis_type import AxisType, permute_tensor
from rebasin_lt.symmetry.permutation import Permutation, Within

Stacks = Mapping[str, tuple[str, ...]]


def stack_name(names: Sequence[str]) -> str:
    """A name for some tensors whose names differ in numbers alone.

    >>> stack_name(["experts.0.w1", "experts.1.w1", "experts.2.w1"])
    'experts.{0,1,2}.w1'
    """
    parts = [re.split(r"(\d+)", name) for name in names]
    columns = (list(dict.fromkeys(column)) for column in zip(*parts, strict=True))
    return "".join(found[0] if len(found) == 1 else "{" + ",".join(found) + "}" for found in columns)


def stacked_axes(
    axes: Mapping[str, tuple[AxisType, ...]], stacks: Stacks, along: Mapping[str, AxisType]
) -> dict[str, tuple[AxisType, ...]]:
    """The axes of tensors with stacks in place of their members; `along` are the axes of the stacks' units."""
    members = {name for names in stacks.values() for name in names}
    found = {name: own for name, own in axes.items() if name not in members}
    return {**found, **{stack: (along[stack], *axes[names[0]]) for stack, names in stacks.items()}}


def free_stacks(places: Mapping[str, tuple[AxisType, ...]], stacks: Stacks, within: Within) -> set[str]:
    """The stacks all of whose members change places, and each permutes what no tensor else has in its own way."""
    others = {group for name, axes in places.items() if name not in stacks for axis in axes for group in axis.groups}
    found = set()
    for stack in stacks:
        units, *axes = places[stack]
        inside = {group for axis in axes for group in axis.groups} - others
        if not units.num_fixed and all(set(units.groups) <= {*within.get(group, ()), group} for group in inside):
            found.add(stack)
    return found


def stacked_state(tensors: Mapping[str, Tensor], stacks: Stacks) -> dict[str, Tensor]:
    """The tensors with one for each stack in place of its members, which must all be there."""
    members = {name for names in stacks.values() for name in names}
    found = {name: tensor for name, tensor in tensors.items() if name not in members}
    for stack, names in stacks.items():
        if names[0] in tensors:
            found[stack] = torch.stack([tensors[name].to(tensors[names[0]].device) for name in names])
    return found


def unstacked_state(tensors: Mapping[str, Tensor], stacks: Stacks) -> dict[str, Tensor]:
    """What `stacked_state` was made of; tensors in no stack are the same."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found |= dict(zip(stacks[name], tensor.unbind(), strict=True)) if name in stacks else {name: tensor}
    return found


def permute_members(
    tensors: Mapping[str, Tensor], names: Sequence[str], axes: Sequence[AxisType], permutation: Permutation
) -> dict[str, Tensor]:
    """Those of some tensors that are members of one stack, permuted; `axes` are the stack's, that of its units first.

    Each is on the device on which it was. Raises InputError for one that is not there but should come to the place of
    one that is, and for members of several dtypes.
    """
    given = [name for name in names if name in tensors]
    first = tensors[given[0]].detach()
    comes_from = axes[0].index(permutation).tolist()
    for name in given:
        other = names[comes_from[names.index(name)]]
        if other not in tensors:
            raise InputError(f"tensors has {name}, but not {other}, which comes to its place: give both")
        if tensors[name].dtype != first.dtype:
            raise InputError(
                f"{name} is {tensors[name].dtype}, but {given[0]}, with which it may change places, is {first.dtype}: "
                "expected one dtype"
            )
    rows = [tensors[name].detach().to(first.device) if name in tensors else torch.zeros_like(first) for name in names]
    moved = dict(zip(names, permute_tensor(torch.stack(rows), axes, permutation), strict=True))
    return {name: moved[name].to(tensors[name].device, copy=True) for name in given}
