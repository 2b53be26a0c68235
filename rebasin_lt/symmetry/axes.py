"""The axis algebra: what it takes for two axes to agree.

Every operator of a network only ever asks that two layouts agree (`unify`). Agreement is reached by binding atoms to
finer layouts, as a type checker binds type variables: by merging two atoms, by splitting one into several, into a
product, or by fixing it. Whatever is still unbound at the end is a permutation group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rebasin_lt.symmetry.layouts import (
    Atom,
    Block,
    Indices,
    Layout,
    canonical,
    columns,
    fixed,
    free,
    product,
    resolve,
    whole,
)


def take(layout: Layout, indices: Indices | Sequence[int]) -> Layout:
    """The axis that has old position `indices[i]` at position i, for distinct indices.

    Units that are taken are told apart from those that are not: an atom of which only a part is taken is split.
    """
    if np.array_equal(indices, np.arange(layout.size)):
        return layout
    new = np.full(layout.size, -1)
    new[indices] = np.arange(len(indices))
    while True:
        layout = resolve(layout)
        blocks = []
        for atoms, positions in columns(layout):
            moved = new[positions]
            if (moved >= 0).all():
                blocks.append(Block(atoms, moved[..., None]))
            elif (moved >= 0).any():
                _split(atoms, moved >= 0, "a part of the axis is used apart from the rest")
                break
        else:
            return canonical(len(indices), blocks, layout.reason)


def freeze(layout: Layout, reason: str) -> None:
    """Fix every unit of an axis."""
    for block in resolve(layout).blocks:
        for atom in block.atoms:
            if atom.binding is None:  # the same atom may be in two blocks
                atom.binding = fixed(atom.size, reason)


def unify(first: Layout, second: Layout, reason: str = "") -> None:
    """Make two axes agree: afterwards both resolve to the same units at the same positions.

    What cannot agree otherwise is fixed; `reason` says what asked for it.
    """
    if first.size != second.size:
        raise ValueError(f"axes of {first.size} and {second.size} units cannot agree")
    while True:
        first, second = resolve(first), resolve(second)
        if _are_equal(first, second):
            return
        if not (_bind_whole(first, second) or _bind_whole(second, first) or _refine(first, second, reason)):
            return


def _are_equal(first: Layout, second: Layout) -> bool:
    """True if the same blocks lie at the same positions; two that agree may also have them in another order."""
    return first is second or (
        len(first.blocks) == len(second.blocks)
        and all(
            ours.atoms == theirs.atoms and np.array_equal(ours.positions, theirs.positions)
            for ours, theirs in zip(first.blocks, second.blocks, strict=True)
        )
    )


def _bind_whole(first: Layout, second: Layout) -> bool:
    """Bind the atom that is all of `first`, if there is one, to `second`."""
    if len(first.blocks) != 1 or len(first.blocks[0].atoms) != 1:
        return False
    (atom,), positions = first.blocks[0].atoms, first.blocks[0].positions
    if positions.shape != (first.size, 1) or any(atom in block.atoms for block in second.blocks):
        return False
    atom.binding = take(second, positions[:, 0])
    return True


def _refine(first: Layout, second: Layout, reason: str) -> bool:
    """Take one step towards agreement; False where the two agree."""
    for ours, theirs in ((first, second), (second, first)):
        theirs_columns = columns(theirs)
        owner = np.full(theirs.size, -1)
        for index, (_, positions) in enumerate(theirs_columns):
            owner[positions] = index
        for atoms, positions in columns(ours):
            owners = owner[positions]
            if (owners != owners.flat[0]).any():
                _split(atoms, owners, reason)
                return True
            if owners.flat[0] < 0:
                freeze(Layout(ours.size, (Block(atoms, positions[..., None]),)), theirs.reason or reason)
                return True
            other_atoms, other = theirs_columns[owners.flat[0]]
            if other.size == positions.size and _merge(atoms, positions, other_atoms, other, reason):
                return True
    return False


def _split(atoms: tuple[Atom, ...], labels: NDArray[np.generic], reason: str) -> None:
    """Split an atom into the units that have the same labels; `labels` has an axis per atom and is not constant."""
    for k, atom in enumerate(atoms):
        rows = np.moveaxis(labels, k, 0).reshape(atom.size, -1)
        _, classes = np.unique(rows, axis=0, return_inverse=True)
        classes = classes.reshape(-1)
        if classes.any():
            parts = [np.flatnonzero(classes == label) for label in range(classes.max() + 1)]
            blocks = tuple(Block((Atom(len(part)),), part[:, None]) for part in parts if len(part) > 1)
            atom.binding = Layout(atom.size, blocks, reason)
            return
    raise AssertionError("labels that differ must differ along some atom")


def _merge(ours: tuple[Atom, ...], here: Indices, theirs: tuple[Atom, ...], there: Indices, reason: str) -> bool:
    """Make two products of atoms on the same positions agree; False where they do.

    One atom against one: they become one. One against a product: it is that product. Two products are compared from the
    fastest atom: the larger of the first two that differ becomes a product of what is left and the smaller one. Where
    sizes do not divide, both are fixed. 12 units seen as 2×6 and as 4×3 are 2×2×3, and as 3×4 and 4×3 nothing:

    >>> from rebasin_lt.symmetry.layouts import atoms_of
    >>> rows, columns = [free(2), free(6)], [free(4), free(3)]
    >>> unify(product(rows), product(columns))
    >>> [[atom.size for atom in atoms_of([axis])] for axis in (*rows, *columns)]
    [[2], [2, 3], [2, 2], [3]]
    >>> rows, columns = [free(3), free(4)], [free(4), free(3)]
    >>> unify(product(rows), product(columns))
    >>> [list(atoms_of([axis])) for axis in (*rows, *columns)]
    [[], [], [], []]
    """
    if len(ours) == len(theirs) == 1:
        return _merge_pair(ours[0], theirs[0], _index_of(there, here), reason)
    if len(ours) == 1:
        ours[0].binding = Layout(ours[0].size, (Block(theirs, _index_of(here, there)[..., None]),))
        return True
    if len(theirs) == 1:
        theirs[0].binding = Layout(theirs[0].size, (Block(ours, _index_of(there, here)[..., None]),))
        return True
    if ours == theirs and np.array_equal(here, there):
        return False
    if not np.array_equal(here.ravel(), there.ravel()):  # not row-major on the same places: no common refinement
        for atom in {*ours, *theirs}:
            atom.binding = fixed(atom.size, reason)
        return True
    mine, other = next((a, b) for a, b in zip(reversed(ours), reversed(theirs), strict=False) if a is not b)
    if mine.size < other.size:
        mine, other = other, mine
    if mine.size % other.size:
        for atom in (mine, other):
            atom.binding = fixed(atom.size, reason)
    else:
        outer = [free(mine.size // other.size)] if mine.size > other.size else []
        mine.binding = product([*outer, Layout(other.size, (whole(other),))])
    return True


def _merge_pair(mine: Atom, other: Atom, other_index: Indices, reason: str) -> bool:
    """Merge two atoms, unit i of the one being unit `other_index[i]` of the other; False where they are one already."""
    if mine is not other:
        other.binding = Layout(other.size, (Block((mine,), other_index[:, None]),))
        return True
    stays = np.flatnonzero(other_index == np.arange(mine.size))
    if len(stays) == mine.size:
        return False
    blocks = (Block((Atom(len(stays)),), stays[:, None]),) if len(stays) > 1 else ()
    mine.binding = Layout(mine.size, blocks, reason)
    return True


def _index_of(haystack: Indices, needles: Indices) -> Indices:
    """The place of each needle in the flattened haystack."""
    flat = haystack.ravel()
    order = np.argsort(flat)
    found: Indices = order[np.searchsorted(flat[order], needles)]
    return found
