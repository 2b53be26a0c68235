"""Weights by the units that they belong to: tensors with one axis per group, in whatever axes and blocks these are."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rebasin_lt.symmetry.axis_type import AxisType
from rebasin_lt.symmetry.permutation import Permutation


class Labelled(NamedTuple):
    """The weights that lie in the same groups' units, of two networks: shape (units of each group..., rest)."""

    groups: tuple[str, ...]
    reference: Tensor
    source: Tensor

    def unfolded(self, group: str) -> Iterator[tuple[Tensor, Tensor]]:
        """For each axis of a group: the weights of its units, of the reference and the source; (units, rest)."""
        for k, name in enumerate(self.groups):
            if name == group:
                yield self.reference.movedim(k, 0).flatten(1), self.source.movedim(k, 0).flatten(1)

    def permuted(self, permutation: Permutation) -> Labelled:
        """The same with the source permuted."""
        if not any(group in permutation for group in self.groups):
            return self
        return self._replace(source=self.source[permutation.places(self.groups, self.source.shape[:-1])])

    def only(self, groups: Collection[str]) -> Labelled:
        """The same with no more said of all other groups."""
        kept = [k for k, group in enumerate(self.groups) if group in groups]
        order = [*kept, *(k for k in range(self.source.dim()) if k not in kept)]
        both = (tensor.permute(order).flatten(len(kept)) for tensor in (self.reference, self.source))
        return Labelled(tuple(self.groups[k] for k in kept), *both)

    def inner_product(self) -> float:
        """Of the two networks' weights."""
        return float((self.reference * self.source).sum())

    def first(self, group: str) -> Labelled:
        """The same with a group's axis, which must be the only one, before all others, and no more named."""
        k = self.groups.index(group)
        both = (tensor.movedim(k, 0).contiguous() for tensor in (self.reference, self.source))
        return Labelled(self.groups[:k] + self.groups[k + 1 :], *both)


def labelled(
    reference: Tensor, source: Tensor, axes: Sequence[AxisType], groups: Collection[str]
) -> Iterator[Labelled]:
    """The parts of two tensors that lie in units of some of `groups`, each element once."""
    for choice in itertools.product(*(list(_places(axis, groups)) for axis in axes)):
        names = tuple(name for found, _ in choice for name in found)
        if names:
            yield Labelled(names, *(_arranged(tensor, choice) for tensor in (reference, source)))


def _places(axis: AxisType, groups: Collection[str]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """The blocks of an axis in which some of the groups act: these, and positions of shape (units..., rest)."""
    left = torch.ones(axis.size, dtype=torch.bool)
    for block in axis.blocks:
        acting = [k for k, group in enumerate(block.groups) if group in groups]
        if acting:
            left[block.positions.flatten()] = False
            order = [*acting, *(k for k in range(block.positions.dim()) if k not in acting)]
            yield tuple(block.groups[k] for k in acting), block.positions.permute(order).flatten(len(acting))
    if left.any():
        yield (), left.nonzero().squeeze(1)


def _arranged(tensor: Tensor, choice: Sequence[tuple[tuple[str, ...], Tensor]]) -> Tensor:
    for dim, (_, positions) in enumerate(choice):
        tensor = tensor.index_select(dim, positions.flatten())
    tensor = tensor.reshape([size for _, positions in choice for size in positions.shape])
    units: list[int] = []
    rest: list[int] = []
    dim = 0
    for names, _ in choice:
        units += range(dim, dim + len(names))
        rest.append(dim + len(names))
        dim += len(names) + 1
    return tensor.permute([*units, *rest]).flatten(len(units))


def joint_units(
    reference: Tensor, source: Tensor, axes: Sequence[AxisType], path: Sequence[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The weights of each joint unit of nested groups, the outermost first, for each part: twice (units, rest)."""
    for part in labelled(reference, source, axes, path):
        if path[-1] in part.groups:
            order = [part.groups.index(group) for group in path]
            order += [k for k in range(part.source.dim()) if k not in order]
            both = (tensor.permute(order).flatten(len(path)) for tensor in (part.reference, part.source))
            first, second = (tensor.flatten(0, len(path) - 1) for tensor in both)
            yield first, second


def similarity_of(parts: Sequence[Labelled], group: str, own: Mapping[str, Tensor]) -> Tensor | None:
    """Inner products of the weights of units, and what `own` has of them beside; (reference units, source units).

    None where there is neither.
    """
    found = own.get(group)
    for part in parts:
        for reference, source in part.unfolded(group):
            product = reference @ source.T
            found = product if found is None else found + product
    return found
