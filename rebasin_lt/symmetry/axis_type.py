"""The groups that permute along one axis of a parameter or buffer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


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

    def index(self, permutation: Mapping[str, Tensor]) -> Tensor:
        """The axis' own index vector: `permuted[i] = original[index[i]]`. Groups not in `permutation` stay."""
        index = torch.arange(self.size)
        for block in self.blocks:
            moved = block.positions
            for k, group in enumerate(block.groups):
                if group in permutation:
                    moved = moved.index_select(k, permutation[group])
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
