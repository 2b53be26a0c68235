"""An operator applied to types, and tables of rules for operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rebasin_lt.symmetry.axes import freeze, unify
from rebasin_lt.symmetry.layouts import Layout, atoms_of, free, resolve
from rebasin_lt.symmetry.meaning import Meaning, Order, labels
from rebasin_lt.symmetry.tensor_type import TensorType

Result = TensorType | tuple[TensorType, ...]


@dataclass
class Call:
    """An operator applied to types: its arguments by name, and the shapes of what it returns."""

    name: str
    arguments: dict[str, Any]  # tensors are TensorTypes, everything else is what it was
    shapes: list[tuple[int, ...]]  # of the tensors it returns
    reads: list[tuple[TensorType, int]] = field(default_factory=list)  # (argument, dimension) that is summed over
    masks: list[TensorType] = field(default_factory=list)  # those arguments that are tensors of truth values
    orders: list[Order] = field(default_factory=list)  # all that were made so far in the network
    copies: list[Layout] = field(default_factory=list)  # axes along which all elements were alike, so far

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def tensors(self) -> list[TensorType]:
        """Every tensor argument, also those in lists."""
        found: list[TensorType] = []
        for value in self.arguments.values():
            found += [item for item in flat(value) if isinstance(item, TensorType)]
        return found

    def tie(self, first: Layout, second: Layout) -> None:
        """Make two axes agree, in the name of this operator."""
        unify(first, second, self.name)

    def copied(self, size: int) -> Layout:
        """An axis along which all elements are alike, so that they may change places."""
        self.copies.append(free(size))
        return self.copies[-1]

    def labels_of(self, units: Layout) -> Meaning:
        """Labels of the units along an axis, by their size.

        Of equal ones, copies of one, argmax and those like it choose the first, so copies stay; others choose any, and
        which one depends on where all others are: then all units stay. Elements that no unit is at may be equal, too:
        the constants around a padded tensor are.
        """
        acting = set(atoms_of([units]))
        for layout in self.copies:
            if not acting.isdisjoint(atoms_of([layout])):
                freeze(layout, f"of equal elements {self.name} chooses the first")
        if self.name in _CHOOSES_ANY and _may_repeat(resolve(units)):
            freeze(units, f"of equal elements {self.name} chooses any")
        return labels(units)

    def fix(self, tensor: TensorType, dims: Sequence[int], reason: str) -> None:
        """Fix some axes of a tensor."""
        for dim in dims:
            freeze(tensor.axis(dim), reason)


_CHOOSES_ANY = frozenset({"topk", "kthvalue", "median", "nanmedian", "mode"})
"""Operators whose documentation does not say which of several equal elements' indices they return."""


def _may_repeat(units: Layout) -> bool:
    """Whether two elements of an axis may always be equal: copies of a unit, or two that belong to none."""
    copied = any(block.positions.shape[-1] > 1 for block in units.blocks)
    return copied or units.size - sum(block.positions.size for block in units.blocks) > 1


Rule = Callable[[Call], Result]


class NotFollowed(Exception):
    """A use of an operator that its rule does not cover; the tracer fixes all that it touches."""


class Rules(dict[str, Rule]):
    """Rules by the names of ATen operators, without namespace and overload.

    Numbers that name units (`Meaning`) are forgotten, so that the units are fixed, but by rules of operators that
    `move` elements without looking at them, and by those that are made to `read` them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moving: set[Rule] = set()
        self.reading: set[Rule] = set()

    def of(self, *operators: str, move: bool = False, read: bool = False) -> Callable[[Rule], Rule]:
        """Make a function the rule of some operators."""

        def register(function: Rule) -> Rule:
            self.update(dict.fromkeys(operators, function))
            (self.moving if move else self.reading if read else set()).add(function)
            return function

        return register


def with_fixed_rest(call: Call, first: TensorType) -> Result:
    """The first result; further ones, such as indices or statistics, are not to be relied on, so they are fixed."""
    if len(call.shapes) == 1:
        return first
    return (first, *(TensorType.fixed(shape, f"a side result of {call.name}") for shape in call.shapes[1:]))


def flat(value: Any) -> list[Any]:
    """The items of nested lists and tuples."""
    return [item for part in value for item in flat(part)] if isinstance(value, list | tuple) else [value]


def types_in(value: Any) -> list[TensorType]:
    """The types of tensors among what an operator returns."""
    return [item for item in flat(value) if isinstance(item, TensorType)]
