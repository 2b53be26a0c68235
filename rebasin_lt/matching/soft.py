"""Soft permutations: doubly stochastic matrices in place of permutations, applied along the axes of a tensor.

A matrix P of shape (units, units) makes unit i of the result from unit j of the source with weight P[i, j]; the matrix
of an index vector p has ones at [i, p[i]].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from rebasin_lt.symmetry.axis_type import AxisType


def matrix_of(indices: Tensor) -> Tensor:
    """The matrix of an index vector of shape (n,); shape (n, n), fp64."""
    return torch.eye(len(indices), dtype=torch.float64)[indices]


def soften(tensor: Tensor, axes: Sequence[AxisType], matrices: Mapping[str, Tensor], skip: int | None = None) -> Tensor:
    """The tensor under soft permutations, on all axes but `skip`; where several groups share a block, their product."""
    for dim, axis in enumerate(axes):
        if dim == skip or not axis.blocks:
            continue
        rows = tensor.movedim(dim, 0)
        mixed = rows.clone()
        for block in axis.blocks:
            mixed[block.positions] = _mix(rows[block.positions], block.groups, matrices)
        tensor = mixed.movedim(0, dim)
    return tensor


def gradients(
    source: Tensor, reference: Tensor, axes: Sequence[AxisType], matrices: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The derivative of <reference, softened source> with respect to each occurrence of a group's matrix.

    Yields (group, matrix of shape (reference units, source units)); a group that acts twice comes twice, and its
    derivatives add up (C2M3, arXiv 2405.17897).
    """
    for dim, axis in enumerate(axes):
        if not axis.blocks:
            continue
        theirs, ours = reference.movedim(dim, 0), soften(source, axes, matrices, skip=dim).movedim(dim, 0)
        for block in axis.blocks:
            for k, group in enumerate(block.groups):
                mixed = _mix(ours[block.positions], block.groups, matrices, skip=k)
                expected = theirs[block.positions]
                yield group, expected.movedim(k, 0).flatten(1) @ mixed.movedim(k, 0).flatten(1).T


def degree(axes: Sequence[AxisType]) -> int:
    """The degree of <reference, softened source> as a polynomial in all matrices together."""
    return sum(max((len(block.groups) for block in axis.blocks), default=0) for axis in axes)


def _mix(values: Tensor, groups: Sequence[str], matrices: Mapping[str, Tensor], skip: int | None = None) -> Tensor:
    """Apply each group's matrix along its dimension of `values`, of shape (sizes of the groups..., ...)."""
    for k, group in enumerate(groups):
        if k != skip:
            values = torch.tensordot(matrices[group], values, dims=([1], [k])).movedim(0, k)
    return values
