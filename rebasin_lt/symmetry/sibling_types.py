"""The types of what siblings take of a tensor that all share, and of where what they compute meets.

What a sibling computes has the type of the first one's: of its axes, all of them may be permuted alike. Which unit is
where is said by one more axis, that of the units, which no tensor has as long as each of them is computed by itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import fx

from rebasin_lt.symmetry.axes import freeze, unify
from rebasin_lt.symmetry.layouts import Block, Layout, canonical, free, product
from rebasin_lt.symmetry.nodes import plain_name, shapes_of
from rebasin_lt.symmetry.siblings import JOINS, Family, Siblings
from rebasin_lt.symmetry.tensor_type import Part, TensorType, cat

Typed = Callable[[Any], Any]  # a value with types in place of steps
Run = tuple[Layout, Sequence[int]]  # units, and where the part of each begins


class SiblingTypes:
    """The siblings of a program while it is typed: `units` holds for each group of them the axis of its units."""

    def __init__(self, groups: Sequence[Siblings]) -> None:
        self.units: dict[Siblings, Layout] = {group: free(group.size) for group in groups}
        self._group_of = {node: group for group in groups for node in group.families}
        self._meeting: dict[fx.Node, list[Siblings]] = {}
        for group in groups:
            for node in group.exits:
                self._meeting.setdefault(node, []).append(group)

    def family_of(self, node: fx.Node) -> Family:
        """A step and its siblings, in the order of their units; itself alone where it has none."""
        return self._group_of[node].families[node] if node in self._group_of else (node,)

    def units_of(self, node: fx.Node) -> Layout | None:
        """The axis along which a step changes places with its siblings, if it has any."""
        return self.units[self._group_of[node]] if node in self._group_of else None

    def has_rule(self, node: fx.Node) -> bool:
        """Whether a step is typed here: it takes a unit's part, cuts such parts, or lays them end to end."""
        if node.op != "call_function":
            return False
        ends = node in self._meeting and plain_name(node) in JOINS
        return self._chooses(node) or ends or self._cuts(node)

    def _chooses(self, node: fx.Node) -> bool:
        return node in self._group_of and node in self._group_of[node].choices

    def _cuts(self, node: fx.Node) -> bool:
        """Whether a step only cuts a tensor into parts of units."""
        return bool(node.users) and all(user.target is operator.getitem and self._chooses(user) for user in node.users)

    def type_of(self, node: fx.Node, typed: Typed) -> TensorType | None:
        """The type of what a step returns; None for what only cuts, as its parts are typed by what is cut."""
        if self._chooses(node):
            group = self._group_of[node]
            choice, source = group.choices[node], typed(group.choices[node].source)
            run = (self.units[group], [group.choices[member].start for member in group.families[node]])
            if choice.dim is None:
                return unit_label(source, run)
            return unit_part(source, choice.dim, choice.length, run, shapes_of(node)[0])
        if node not in self._meeting:
            return None
        operands: Any = node.args[0]
        given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        kinds, dim = typed(list(operands)), given % len(shapes_of(node)[0])
        places = {operand: k for k, operand in enumerate(operands)}
        if plain_name(node) == "stack":
            kinds = [kind.reshape((*kind.shape[:dim], 1, *kind.shape[dim:])) for kind in kinds]
        families = [(group, family) for group in self._meeting[node] for family in group.exits[node]]
        return joined(kinds, dim, [(self.units[group], [places[n] for n in family]) for group, family in families])


def unit_part(source: TensorType, dim: int, length: int, run: Run, shape: Sequence[int]) -> TensorType:
    """The part of a unit: `length` positions of one dimension, of which each unit has others."""
    inner, axis = free(length), source.axis(dim)
    blocks = _spread(inner, run)
    rest = np.setdiff1d(np.arange(axis.size), [place for start in run[1] for place in range(start, start + length)])
    blocks += [Block(block.atoms, rest[block.positions]) for block in free(len(rest)).blocks]
    unify(axis, canonical(axis.size, blocks, ""), "a part of the axis is used apart from the rest")
    return source.replace(dim, inner).reshape(shape)


def unit_label(source: TensorType, run: Run) -> TensorType:
    """Where the numbers are the label of a unit."""
    units, named = run
    if source.labels is None or max(named) >= source.labels.layout.size:
        if source.meaning is not None:
            source.meaning.forget("numbers that name these units are compared with others")
        freeze(units, "each is told apart by a number")
    else:
        axis = source.labels.layout
        others = np.setdiff1d(np.arange(axis.size), named)
        blocks = _spread(free(1), run)
        blocks += [Block(block.atoms, others[block.positions]) for block in free(len(others)).blocks]
        unify(axis, canonical(axis.size, blocks, ""), "a part of the axis is used apart from the rest")
    return source.meaning_as(None)


def joined(kinds: Sequence[TensorType], dim: int, families: Iterable[tuple[Layout, Sequence[int]]]) -> TensorType:
    """Tensors end to end. `families`: units, and the numbers of the tensors that are theirs."""
    layouts = [kind.axis(dim) for kind in kinds]
    starts = np.cumsum([0, *(layout.size for layout in layouts)])
    blocks, left = [], set(range(len(kinds)))
    for units, members in families:
        blocks += _spread(layouts[members[0]], (units, [int(starts[k]) for k in members]))
        left -= set(members)
    for k in sorted(left):
        blocks += [Block(block.atoms, block.positions + starts[k]) for block in layouts[k].blocks]
    reason = next((layout.reason for layout in layouts if layout.reason), "")
    return cat(kinds, dim, "cat").replace(dim, canonical(int(starts[-1]), blocks, reason))


def beside(kind: TensorType, units: Layout) -> TensorType:
    """The type of one unit's tensor with the axis of the units, which is none of its dimensions."""
    return TensorType(kind.shape, (*kind.parts, Part(units, ())), kind.meaning)


def stacked(kind: TensorType, units: Layout) -> TensorType:
    """The type of all units' tensors along a new first dimension."""
    parts = [Part(part.layout, tuple(dim + 1 for dim in part.dims)) for part in kind.parts]
    return TensorType((units.size, *kind.shape), (Part(units, (0,)), *parts))


def _spread(layout: Layout, run: Run) -> list[Block]:
    """The blocks of an axis on which each unit has a part like `layout`, from where it begins."""
    units, starts = run
    places = np.concatenate([start + np.arange(layout.size) for start in starts])
    return [Block(block.atoms, places[block.positions]) for block in product([units, layout]).blocks]
