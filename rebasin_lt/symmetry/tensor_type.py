"""The symmetry type of a tensor: a layout for each of its dimensions, split no earlier than an operator needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from rebasin_lt.symmetry.axes import freeze, take, unify
from rebasin_lt.symmetry.layouts import Layout, concatenate, fixed, free, product, resolve
from rebasin_lt.symmetry.meaning import UNIT_LABELS, Meaning


@dataclass(frozen=True, eq=False)
class Part:
    """One axis of units, seen as one or several dimensions of the tensor (in row-major order)."""

    layout: Layout
    dims: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TensorType:
    """The layouts of a tensor's dimensions.

    A view that splits an axis asks nothing of its units until an operator uses one of the new dimensions by itself: a
    transposition followed by another view, as in a channel shuffle, or the choice of one of three stacked projections,
    as in attention, only says which unit lies where. `meaning` is that of the numbers in it, if they name units.
    """

    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    meaning: Meaning | None = None

    @classmethod
    def of(cls, layouts: Sequence[Layout]) -> TensorType:
        """One layout per dimension."""
        parts = tuple(Part(layout, (dim,)) for dim, layout in enumerate(layouts))
        return cls(tuple(layout.size for layout in layouts), parts)

    @classmethod
    def free(cls, shape: Sequence[int]) -> TensorType:
        """Nothing is asked of any axis."""
        return cls.of([free(size) for size in shape])

    @classmethod
    def fixed(cls, shape: Sequence[int], reason: str = "") -> TensorType:
        """No axis may be permuted."""
        return cls.of([fixed(size, reason) for size in shape])

    @property
    def is_fixed(self) -> bool:
        """True if no axis may be permuted."""
        return all(resolve(part.layout).is_fixed for part in self.parts)

    def part_of(self, dim: int) -> Part:
        """The part that a dimension belongs to."""
        dim %= len(self.shape)
        return next(part for part in self.parts if dim in part.dims)

    def axis(self, dim: int) -> Layout:
        """The layout of one dimension by itself."""
        part = self.part_of(dim)
        return part.layout if len(part.dims) == 1 else self.separated(part.dims).part_of(dim).layout

    def axes(self) -> list[Layout]:
        """The layout of each dimension by itself."""
        separate = self.separated(range(len(self.shape)))
        return [separate.part_of(dim).layout for dim in range(len(self.shape))]

    def separated(self, dims: Sequence[int]) -> TensorType:
        """The same tensor with every part that has one of `dims` split: its axis must be a product of dimensions."""
        parts: list[Part] = []
        for part in self.parts:
            if len(part.dims) == 1 or not set(part.dims) & set(dims):
                parts.append(part)
                continue
            split = [free(self.shape[dim]) for dim in part.dims]
            unify(part.layout, product(split), "dimensions of a view are used apart")
            parts += [Part(layout, (dim,)) for dim, layout in zip(part.dims, split, strict=True)]
        return TensorType(self.shape, tuple(parts))

    def freeze(self, reason: str) -> None:
        """Fix every axis, also that which its numbers name."""
        for part in self.parts:
            freeze(part.layout, reason)
        if self.meaning is not None:
            self.meaning.forget(reason)

    def meaning_as(self, meaning: Meaning | None) -> TensorType:
        """The same axes with numbers of another meaning."""
        return TensorType(self.shape, self.parts, meaning)

    @property
    def labels(self) -> Meaning | None:
        """Its meaning, if its numbers are labels of units."""
        return self.meaning if self.meaning is not None and self.meaning.kind == UNIT_LABELS else None

    def replace(self, dim: int, layout: Layout) -> TensorType:
        """Another layout, perhaps of another size, in place of one dimension's."""
        layouts = self.axes()
        layouts[dim % len(layouts)] = layout
        return TensorType.of(layouts)

    def drop(self, dims: Sequence[int], keepdim: bool = False) -> TensorType:
        """The tensor after a reduction over `dims` that does not depend on their order."""
        gone = {dim % len(self.shape) for dim in dims}
        layouts = enumerate(self.axes())
        if keepdim:
            return TensorType.of([fixed(1) if dim in gone else layout for dim, layout in layouts])
        return TensorType.of([layout for dim, layout in layouts if dim not in gone])

    def permute(self, order: Sequence[int]) -> TensorType:
        """Dimension i of the result is dimension `order[i]` of this tensor."""
        order = [dim % len(self.shape) for dim in order]
        parts = tuple(Part(part.layout, tuple(order.index(dim) for dim in part.dims)) for part in self.parts)
        return TensorType(tuple(self.shape[dim] for dim in order), parts)

    def take(self, dim: int, indices: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> TensorType:
        """Index distinct positions of one dimension."""
        dim %= len(self.shape)
        indices = np.asarray(indices, dtype=np.int64)
        shape = tuple(len(indices) if i == dim else size for i, size in enumerate(self.shape))
        if len(indices) == self.shape[dim] and (indices == np.arange(len(indices))).all():
            return self
        part = self.part_of(dim)
        grid = np.arange(part.layout.size).reshape([self.shape[i] for i in part.dims])
        taken = np.take(grid, indices, axis=part.dims.index(dim)).ravel()
        changed = Part(take(part.layout, taken), part.dims)
        return TensorType(shape, tuple(changed if other is part else other for other in self.parts))

    def reshape(self, shape: Sequence[int]) -> TensorType:
        """The tensor whose elements, in row-major order, are viewed under another shape.

        Old and new dimensions are cut into the shortest runs that hold equally many elements. A run of one dimension on
        either side is the same axis. Any other run becomes one part: its axis is known, and who uses one of its
        dimensions by itself has it split. Here 6 units are seen as 2 heads of 3, and may still be permuted in any way;
        once the heads are asked for, a permutation moves whole heads, and units within all heads alike:

        >>> from rebasin_lt.symmetry.layouts import atoms_of
        >>> kind = TensorType.free((5, 6))
        >>> view = kind.reshape((5, 2, 3))
        >>> [part.dims for part in view.parts], [atom.size for atom in atoms_of([kind.axis(1)])]
        ([(0,), (1, 2)], [6])
        >>> view.axis(1).size, [atom.size for atom in atoms_of([kind.axis(1)])]
        (2, [2, 3])
        """
        shape = tuple(shape)
        kept = [dim for dim, size in enumerate(self.shape) if size != 1]
        wanted = [dim for dim, size in enumerate(shape) if size != 1]
        parts = [Part(fixed(1), (dim,)) for dim, size in enumerate(shape) if size == 1]
        segments = [
            ([kept[i] for i in old], [wanted[i] for i in new])
            for old, new in _segments([self.shape[dim] for dim in kept], [shape[dim] for dim in wanted])
        ]
        # Dimensions that are the same before and after keep their part, if all of its dimensions are such.
        same = {old[0]: new[0] for old, new in segments if len(old) == len(new) == 1}
        carried = [part for part in self.parts if set(part.dims) <= same.keys()]
        parts += [Part(part.layout, tuple(same[dim] for dim in part.dims)) for part in carried]
        segments = [(old, new) for old, new in segments if not any(old[0] in part.dims for part in carried)]
        # A part that lies half in a run and half outside has to be split into its dimensions first.
        torn = [part for part in self.parts if any(_is_torn(part, old) for old, _ in segments)]
        source = self.separated([dim for part in torn for dim in part.dims])
        for old, dims in segments:
            layout = source._joined(old)
            if resolve(layout).is_fixed:
                reason = resolve(layout).reason
                parts += [Part(fixed(shape[dim], reason), (dim,)) for dim in dims]
            else:
                parts.append(Part(layout, tuple(dims)))
        return TensorType(shape, tuple(parts))

    def _joined(self, dims: list[int]) -> Layout:
        """The flattening of `dims`, which are whole parts, in the given order."""
        parts = [part for part in self.parts if set(part.dims) & set(dims)]
        order = [dim for part in parts for dim in part.dims]
        layout = product([part.layout for part in parts])
        if order == dims:
            return layout
        grid = np.arange(layout.size).reshape([self.shape[dim] for dim in order])
        return take(layout, grid.transpose([order.index(dim) for dim in dims]).ravel())


def cat(types: Sequence[TensorType], dim: int, reason: str) -> TensorType:
    """Tensors laid end to end along `dim`; all others of their dimensions agree."""
    rows = [tensor.axes() for tensor in types]
    dim %= len(rows[0])
    layouts = []
    for i, column in enumerate(zip(*rows, strict=True)):
        if i != dim:
            for other in column[1:]:
                unify(column[0], other, reason)
        layouts.append(concatenate(column) if i == dim else column[0])
    return TensorType.of(layouts)


def broadcast(types: Sequence[TensorType], reason: str) -> TensorType:
    """The result of an elementwise operator: dimensions are aligned from the last, those of size 1 are spread.

    Axes that meet must agree, and axes that are spread ask nothing. A view's dimensions stay one part where all tensors
    see the same part there or are spread over all of it; else they are split. A bias moves with the units it is added
    to, and a factor per image leaves them alone:

    >>> from rebasin_lt.symmetry.layouts import atoms_of
    >>> activation, bias, factor = TensorType.free((5, 6)), TensorType.free((6,)), TensorType.free((5, 1))
    >>> total = broadcast([broadcast([activation, bias], "add"), factor], "multiply")
    >>> units = [list(atoms_of([kind.axis(-1)])) for kind in (total, activation, bias, factor)]
    >>> total.shape, units[0] == units[1] == units[2], units[3]
    ((5, 6), True, [])
    """
    ndim = max(len(tensor.shape) for tensor in types)
    aligned = [tensor.reshape((1,) * (ndim - len(tensor.shape)) + tensor.shape) for tensor in types]
    shape = tuple(0 if 0 in sizes else max(sizes) for sizes in zip(*(tensor.shape for tensor in aligned), strict=True))
    if any(0 in tensor.shape for tensor in aligned):
        return TensorType.fixed(shape, reason)
    joint = {part.dims for tensor in aligned for part in tensor.parts if len(part.dims) > 1}
    shared = {dims for dims in joint if all(_fits(tensor, dims) for tensor in aligned)}
    apart = [dim for dims in joint - shared for dim in dims]
    aligned = [tensor.separated(apart) for tensor in aligned]
    loose = [(dim,) for dim in range(ndim) if not any(dim in dims for dims in shared)]
    parts = []
    for dims in [*shared, *loose]:
        size = prod(shape[dim] for dim in dims)
        layouts = [tensor.part_of(dims[0]).layout for tensor in aligned if tensor.shape[dims[0]] == shape[dims[0]]]
        for other in layouts[1:]:
            unify(layouts[0], other, reason)
        parts.append(Part(layouts[0] if layouts else fixed(size), dims))
    return TensorType(shape, tuple(parts))


def _fits(tensor: TensorType, dims: tuple[int, ...]) -> bool:
    """True if the tensor has a part of just these dimensions or is spread over all of them."""
    return all(tensor.shape[dim] == 1 for dim in dims) or tensor.part_of(dims[0]).dims == dims


def _is_torn(part: Part, dims: Sequence[int]) -> bool:
    """True if some, but not all, of a part's dimensions are among `dims`."""
    return not set(part.dims).isdisjoint(dims) and not set(part.dims) <= set(dims)


def _segments(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of old and new dimensions that hold the same number of elements."""
    segments = []
    i = j = 0
    while i < len(old):
        start, stop = i, j
        i, j = i + 1, j + 1
        while (left := prod(old[start:i])) != (right := prod(new[stop:j])):
            if left < right:
                i += 1
            else:
                j += 1
        segments.append((list(range(start, i)), list(range(stop, j))))
    return segments
