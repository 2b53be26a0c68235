"""What is read off the layouts of an inference: names of groups, what acts along an axis, and what stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rebasin_lt.symmetry.axis_type import AxisBlock, AxisType
from rebasin_lt.symmetry.layouts import Atom, Layout, atoms_of, fixed, resolve

_UNUSED = "not used in evaluation mode"


class Frozen(NamedTuple):
    """Units of a parameter or buffer that no group moves."""

    name: str
    axis: int
    units: int
    reason: str


def fix_what_buffers_define(
    order: list[str], layouts: Mapping[str, list[Layout]], tensors: Mapping[str, Tensor]
) -> None:
    """Fix units that first show in a buffer, such as coordinates in a table: it is the same in every such network."""
    known: set[Atom] = set()
    for name in order:
        for atom in atoms_of(layouts[name]):
            if atom not in known and not isinstance(tensors[name], nn.Parameter):
                atom.binding = fixed(atom.size, f"the order is given by the buffer {name}")
            known.add(atom)


def name_groups(names: list[str], layouts: Mapping[str, list[Layout]]) -> dict[Atom, str]:
    """A name for every atom that acts on a parameter or buffer, in the order of first use."""
    groups: dict[Atom, str] = {}
    for name in dict.fromkeys(names):
        new = [atom for atom in atoms_of(layouts[name]) if atom not in groups]
        for k, atom in enumerate(new):
            groups[atom] = f"{name}[{k}]" if k else name
    return groups


def axis_type_of(layout: Layout, groups: Mapping[Atom, str]) -> AxisType:
    blocks = (
        AxisBlock(tuple(groups[atom] for atom in block.atoms), torch.from_numpy(block.positions.copy()))
        for block in resolve(layout).blocks
    )
    return AxisType(layout.size, tuple(blocks))


def frozen_axes(axes: Mapping[str, tuple[AxisType, ...]], layouts: Mapping[str, list[Layout]]) -> Iterator[Frozen]:
    for name, types in axes.items():
        for dim, axis in enumerate(types):
            if axis.num_fixed and axis.size > 1:
                reason = resolve(layouts[name][dim]).reason if layouts[name] else _UNUSED
                yield Frozen(name, dim, axis.num_fixed, reason or "nothing to exchange it with")


def coverage_of(axes: Mapping[str, tuple[AxisType, ...]]) -> float:
    total = moved = 0.0
    for types in axes.values():
        size, fixed = 1, 1
        for axis in types:
            size *= axis.size
            fixed *= axis.num_fixed
        total += size
        moved += size - fixed
    return moved / total if total else 0.0
