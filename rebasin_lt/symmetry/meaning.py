"""Numbers that name units, as the indices of a maximum do, and rows that lie in the order of such numbers.

Permute an axis, and what lies along it moves; the index of its largest element does not move, it becomes another
number. As long as such numbers are only compared with each other, sorted, and used to look up along that very axis, the
network computes the same. Whatever else reads them fixes the axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rebasin_lt.symmetry.axes import freeze
from rebasin_lt.symmetry.layouts import Atom, Layout, atoms_of, resolve

UNIT_LABELS, COUNTS, ENDS = "labels", "counts", "ends"


@dataclass(frozen=True, eq=False)
class Meaning:
    """The numbers in a tensor, by their `kind`.

    `UNIT_LABELS` are positions along an axis of `layout`; `COUNTS`, of how often each label comes, lie along that axis;
    `ENDS` say where the last of each label is if they are sorted.

    `source` is the same for tensors of the same labels, in whatever order, and for what was counted of them.
    """

    kind: str
    layout: Layout
    source: object

    def of_others(self) -> Meaning:
        """The same for other labels of the same axis: some of these, or some twice."""
        return replace(self, source=object())

    def forget(self, reason: str) -> None:
        """Let the numbers be read: the axis that they are about is fixed. Counts may be read by everything."""
        if self.kind != COUNTS:
            freeze(self.layout, reason)


def labels(layout: Layout) -> Meaning:
    """Labels of the units along an axis."""
    return Meaning(UNIT_LABELS, layout, object())


@dataclass(frozen=True, eq=False)
class Order:
    """Rows that lie in the order of labels: when the labelled axis is permuted, so are they, as the data has it.

    Their axis is an atom, so operators may work on each row by itself and sum over all of them, but its permutation is
    nobody's choice. It must stay an atom of its own, and of no parameter.
    """

    labels: Layout
    rows: Layout
    source: object


def settle(orders: Sequence[Order], learned: Iterable[Layout]) -> None:
    """Fix the labels of orders whose rows met anything else, until none are left."""
    learned = list(learned)
    while orders:
        taken = set(atoms_of(learned))
        found = [_alone(order.rows) for order in orders]
        for order, atom in zip(orders, found, strict=True):
            rows, named = list(atoms_of([order.rows])), list(atoms_of([order.labels]))
            if (rows or named) and (not named or atom is None or atom in taken or found.count(atom) > 1):
                freeze(order.rows, "rows in an order that is used otherwise")
                freeze(order.labels, "rows in the order of these units are used otherwise")
                break
        else:
            return


def _alone(layout: Layout) -> Atom | None:
    """The atom that is the whole of an axis, if one is."""
    blocks = resolve(layout).blocks
    if len(blocks) != 1 or len(blocks[0].atoms) != 1 or blocks[0].positions.shape[-1] != 1:
        return None
    return blocks[0].atoms[0] if blocks[0].atoms[0].size == layout.size else None


def same_atom(first: Layout, second: Layout) -> bool:
    """True if two axes are one and the same atom."""
    atom = _alone(first)
    return atom is not None and atom is _alone(second)
