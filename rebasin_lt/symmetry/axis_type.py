"""The groups that permute along one axis of a parameter or buffer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rebasin_lt.symmetry.permutation import Permutation


@dataclass(frozen=True, eq=False)
class AxisBlock:
    """`positions[i, j, ..., c]` holds copy c of units i, j, ... of the groups; int64, on the CPU."""

    groups: tuple[str, ...]
    positions: Tensor  # (sizes of the groups..., copies)


@dataclass(frozen=True, eq=False)
class AxisType:
    """The groups that act along an axis of `size` elements; positions in no block are fixed."""

    size: int
    blocks: tuple[AxisBlock, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group that acts here, once."""
        return tuple(dict.fromkeys(group for block in self.blocks for group in block.groups))

    @property
    def num_fixed(self) -> int:
        """The number of positions that no group moves."""
        return self.size - sum(block.positions.numel() for block in self.blocks)

    def around(self, permutation: Permutation) -> tuple[str, ...]:
        """The groups that act elsewhere, on whose units it depends how the permutation moves those of this axis."""
        return tuple(
            dict.fromkeys(
                outer
                for block in self.blocks
                for group in block.groups
                for outer in permutation.within.get(group, ())
                if outer not in block.groups
            )
        )

    def index(self, permutation: Permutation, at: Mapping[str, int] | None = None) -> Tensor:
        """The axis' own index vector: `permuted[i] = original[index[i]]`. Groups not in `permutation` stay.

        `at`: the unit of each of the groups `around`, after the permutation, in which the axis is looked at.
        """
        index = torch.arange(self.size)
        for block in self.blocks:
            moved = block.positions
            if permutation.within.keys().isdisjoint(block.groups):
                for k, group in enumerate(block.groups):
                    if group in permutation:
                        moved = moved.index_select(k, permutation[group])
            else:
                moved = moved[permutation.places(block.groups, moved.shape[:-1], at)]
            index[block.positions.flatten()] = moved.flatten()
        return index

    def positions_of(self, group: str) -> list[Tensor]:
        """The positions of each unit of a group: tensors of shape (units, places)."""
        return [
            block.positions.movedim(k, 0).flatten(1)
            for block in self.blocks
            for k, name in enumerate(block.groups)
            if name == group
        ]

    def __str__(self) -> str:
        parts = []
        for block in self.blocks:
            copies = block.positions.shape[-1]
            parts.append(" × ".join(block.groups) + (f" ({copies} copies)" if copies > 1 else ""))
        if self.num_fixed:
            parts.append(f"{self.num_fixed} fixed")
        return " + ".join(parts) or "fixed"


def permute_tensor(tensor: Tensor, axes: Sequence[AxisType], permutation: Permutation) -> Tensor:
    """A new tensor with all its axes permuted; for each unit of a group around others that act elsewhere, in turn."""
    moved, later = tensor, []
    for dim, axis in enumerate(axes):
        around = axis.around(permutation)
        if around:
            later.append((max(len(permutation.within.get(group, ())) for group in axis.groups), dim, around))
        elif axis.blocks:
            moved = moved.index_select(dim, axis.index(permutation).to(tensor.device))
    for _, dim, around in sorted(later):  # the outermost first: what is further in is told by where these now are
        moved = _permute_within(moved, axes, dim, around, permutation)
    return moved.clone() if moved is tensor else moved


def _permute_within(
    tensor: Tensor, axes: Sequence[AxisType], dim: int, around: Sequence[str], permutation: Permutation
) -> Tensor:
    """The tensor with one axis permuted, in each joint unit of the groups around as the permutation says for it."""
    where = [next(i for i, axis in enumerate(axes) if i != dim and outer in axis.groups) for outer in around]
    places = [torch.cat(axes[i].positions_of(outer), -1) for i, outer in zip(where, around, strict=True)]
    result = tensor.clone()
    for units in itertools.product(*(range(len(rows)) for rows in places)):
        chosen: dict[int, Tensor] = {}  # dimension -> the positions along it that lie in these units
        for i, rows, unit in zip(where, places, units, strict=True):
            chosen[i] = rows[unit] if i not in chosen else chosen[i][torch.isin(chosen[i], rows[unit])]
        index = axes[dim].index(permutation, dict(zip(around, units, strict=True)))
        part, there = tensor, list(map(torch.arange, tensor.shape))
        for i, rows in {**chosen, dim: index}.items():
            part = part.index_select(i, rows.to(tensor.device))
        for i, rows in chosen.items():
            there[i] = rows
        result[torch.meshgrid(*there, indexing="ij") if len(chosen) > 1 else _along(there, *chosen)] = part
    return result


def _along(there: Sequence[Tensor], dim: int) -> tuple[slice | Tensor, ...]:
    """The positions of one dimension, and all of the others."""
    return (*[slice(None)] * dim, there[dim])
