"""Soft permutations of nested groups: matrices over all joint units, each entry an outer unit's times an inner one's.

The matrix of a nested group of n units in each of m others has shape (m n, m n); that of the outer one its sums over
inner units. A weight in units of both is mixed by the matrix of the inner group alone. Where two groups inside the same
unit meet in a weight, both matrices hold the share of the outer one, which then counts twice: that is another way from
one permutation to the next, which agrees with the weights at all permutations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rebasin_lt.matching.labelled import Labelled

_REST = 51  # the index of the letter that stands for what is in no unit


class _Factor(NamedTuple):
    """A group whose matrix mixes a part's axes: its own, and those of the groups around it."""

    group: str
    axes: tuple[int, ...]


def factors_of(part: Labelled, within: Mapping[str, Sequence[str]]) -> list[_Factor]:
    """The matrices that mix a part of the weights; one for each axis of a group that has no other inside of it here."""
    outers = {outer for group in part.groups for outer in within.get(group, ())}
    return [
        _Factor(group, (*(part.groups.index(outer) for outer in within.get(group, ())), k))
        for k, group in enumerate(part.groups)
        if group not in outers
    ]


def soft_product(part: Labelled, matrices: Mapping[str, Tensor], within: Mapping[str, Sequence[str]]) -> float:
    """The inner product of the reference's weights and the softly permuted source's."""
    return float(_contracted(part, factors_of(part, within), matrices, ()))


def soft_slopes(
    part: Labelled, matrices: Mapping[str, Tensor], within: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Tensor]]:
    """The derivative of `soft_product` by each matrix in turn; (group, (reference units, source units))."""
    factors = factors_of(part, within)
    for factor in factors:
        others = [other for other in factors if other is not factor]
        shape = matrices[factor.group].shape
        yield factor.group, _contracted(part, others, matrices, factor.axes).reshape(shape)


def _contracted(
    part: Labelled, factors: Sequence[_Factor], matrices: Mapping[str, Tensor], kept: Sequence[int]
) -> Tensor:
    """The product of reference, matrices and source, summed over all axes but those `kept` of both networks."""
    count = len(part.groups)
    theirs, ours = list(range(count)), list(range(count, 2 * count))
    operands: list[Tensor | list[int]] = [part.source, [*ours, _REST]]
    for group, axes in factors:
        sizes = [part.source.shape[axis] for axis in axes]
        operands += [matrices[group].reshape(*sizes, *sizes), [*(theirs[a] for a in axes), *(ours[a] for a in axes)]]
    result = [*(theirs[axis] for axis in kept), *(ours[axis] for axis in kept)]
    found: Tensor = torch.einsum(*operands, part.reference, [*theirs, _REST], result)
    return found
