"""Assignment of nested groups: the best inner one for every pair of outer units, then the outer one on their values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.symmetry.permutation import Permutation, Within
from rebasin_lt.symmetry.trace import Symmetry

UnitIndices = dict[str, Tensor]


def solve_groups(similarity: Mapping[str, Tensor], symmetry: Symmetry) -> Permutation:
    """The permutation with the largest sum over groups and matched units of their similarity, exactly.

    Of each group, `similarity` holds a matrix of shape (reference units, source units); of a nested group, the units
    are those of one outer unit after another, and only the blocks of pairs of outer units are looked at, each in turn.
    """
    found: UnitIndices = {}
    for group in symmetry.groups:
        if group not in symmetry.within:
            inside = [other for other, outers in symmetry.within.items() if group in outers]
            own = {name: similarity[name] for name in (group, *inside)}
            found |= solve_family(group, own, symmetry.within)[1]
    return Permutation(found, symmetry.within)


def solve_family(group: str, similarity: Mapping[str, Tensor], within: Within) -> tuple[float, UnitIndices]:
    """The best assignment of a group and all nested in it, which `similarity` holds, and its value.

    Indices have shape (units,), those of nested groups an axis for each group around them, from `group` on. A pair of
    outer units is worth their own similarity and the best that can be had inside of them.
    """
    inside = [other for other in similarity if other != group]
    children = [other for other in inside if not set(inside) & set(within[other])]
    values = similarity[group]

    def best(mine: int, other: int) -> tuple[float, UnitIndices]:
        """What the insides of a reference unit and of a source unit are worth to each other."""
        value, found = 0.0, UnitIndices()
        for child in children:
            family = [child, *(name for name in inside if child in within[name])]
            blocks = {name: _block(similarity[name], mine, other, len(values)) for name in family}
            worth, indices = solve_family(child, blocks, within)
            value, found = value + worth, found | indices
        return value, found

    if children:
        units = range(len(values))
        values = values + torch.tensor([[best(i, j)[0] for j in units] for i in units], dtype=values.dtype)
    order = solve_assignment(values, group)
    matched = [best(i, j)[1] for i, j in enumerate(order.tolist())] if children else []
    found = {name: torch.stack([indices[name] for indices in matched]) for name in inside}
    return float(values.gather(1, order[:, None]).sum()), {group: order, **found}


def _block(matrix: Tensor, mine: int, other: int, units: int) -> Tensor:
    """The similarities of what is inside of one reference unit and of one source unit."""
    size = len(matrix) // units
    return matrix[mine * size : (mine + 1) * size, other * size : (other + 1) * size]
