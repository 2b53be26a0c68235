"""The axis algebra: which units lie where along a tensor axis, and what it takes for two axes to agree.

An `Atom` is a set of units that may be permuted among themselves. A `Layout` says for every position of an axis which
unit of which atoms lies there; positions outside all blocks are fixed. Every operator of a network only ever asks that
two layouts agree (`unify`). Agreement is reached by binding atoms to finer layouts, as a type checker binds type
variables: by merging two atoms, by splitting one into several, into a product, or by fixing it. Whatever is still
unbound at the end is a permutation group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Atom:
    """Units that may be permuted among themselves; `binding` is the finer layout they turned out to have, if any."""

    __slots__ = ("binding", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.binding: Layout | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """Where the units of a product of atoms lie: `positions[i, j, ..., c]` is copy c of units i, j, ... of the atoms.

    Permutations p, q, ... of the atoms move what is at `positions[p[i], q[j], ..., c]` to `positions[i, j, ..., c]`.
    """

    atoms: tuple[Atom, ...]
    positions: Indices  # (sizes of the atoms..., copies)


@dataclass(frozen=True, eq=False)
class Layout:
    """The blocks of an axis; no position is in two of them, and those in none are fixed, for a reason."""

    size: int
    blocks: tuple[Block, ...] = ()
    reason: str = ""

    @property
    def is_fixed(self) -> bool:
        """Whether nothing can be permuted along this axis; meaningful for a resolved layout."""
        return not self.blocks


def free(size: int) -> Layout:
    """An axis whose units may be permuted in any way, for all that is known yet."""
    if size < 2:
        return Layout(size)
    return Layout(size, (_whole(Atom(size)),))


def fixed(size: int, reason: str = "") -> Layout:
    """An axis on which every unit must stay where it is."""
    return Layout(size, (), reason)


def product(layouts: Sequence[Layout]) -> Layout:
    """The row-major flattening of several axes into one."""
    result = layouts[0]
    for layout in layouts[1:]:
        result = _product(resolve(result), resolve(layout))
    return result


def concatenate(layouts: Sequence[Layout]) -> Layout:
    """Several axes laid end to end."""
    blocks, offset, reason = [], 0, ""
    for layout in map(resolve, layouts):
        blocks += [Block(block.atoms, block.positions + offset) for block in layout.blocks]
        offset += layout.size
        reason = reason or layout.reason
    return _canonical(offset, blocks, reason)


def take(layout: Layout, indices: Indices) -> Layout:
    """The axis that has old position `indices[i]` at position i, for distinct indices.

    Units that are taken are told apart from those that are not: an atom of which only a part is taken is split.
    """
    new = np.full(layout.size, -1)
    new[indices] = np.arange(len(indices))
    while True:
        layout = resolve(layout)
        blocks = []
        for atoms, positions in _columns(layout):
            moved = new[positions]
            if (moved >= 0).all():
                blocks.append(Block(atoms, moved[..., None]))
            elif (moved >= 0).any():
                _split(atoms, moved >= 0, "a part of the axis is used apart from the rest")
                break
        else:
            return _canonical(len(indices), blocks, layout.reason)


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
        if not (_bind_whole(first, second) or _bind_whole(second, first) or _refine(first, second, reason)):
            return


def resolve(layout: Layout) -> Layout:
    """The same layout in terms of unbound atoms."""
    if all(atom.binding is None for block in layout.blocks for atom in block.atoms):
        return layout
    reasons = [layout.reason]
    blocks = [done for block in layout.blocks for done in _substitute(block, reasons)]
    return _canonical(layout.size, blocks, next((reason for reason in reasons if reason), ""))


def atoms_of(layouts: Iterable[Layout]) -> Iterator[Atom]:
    """The unbound atoms of some axes, each once, in order."""
    seen: set[Atom] = set()
    for layout in layouts:
        for block in resolve(layout).blocks:
            for atom in block.atoms:
                if atom not in seen:
                    seen.add(atom)
                    yield atom


def _whole(atom: Atom) -> Block:
    return Block((atom,), np.arange(atom.size)[:, None])


def _uncovered(layout: Layout) -> Indices:
    covered = np.zeros(layout.size, dtype=bool)
    for block in layout.blocks:
        covered[block.positions] = True
    return np.flatnonzero(~covered)


def _columns(layout: Layout) -> list[tuple[tuple[Atom, ...], Indices]]:
    """Every copy of every block by itself."""
    return [(block.atoms, block.positions[..., c]) for block in layout.blocks for c in range(block.positions.shape[-1])]


def _canonical(size: int, blocks: Iterable[Block], reason: str) -> Layout:
    """A layout whose blocks list their atoms from the slowest to the fastest varying, and of which no two are alike."""
    by_atoms: dict[tuple[Atom, ...], list[Indices]] = {}
    for block in blocks:
        if len(block.atoms) > 1:
            origin = block.positions[(0,) * len(block.atoms) + (0,)]
            steps = [
                abs(block.positions[(*(int(i == k) for i in range(len(block.atoms))), 0)] - origin)
                for k in range(len(block.atoms))
            ]
            order = sorted(range(len(steps)), key=lambda k: -steps[k])
            block = Block(tuple(block.atoms[k] for k in order), block.positions.transpose(*order, len(order)))
        by_atoms.setdefault(block.atoms, []).append(block.positions)
    merged = (Block(atoms, np.concatenate(columns, axis=-1)) for atoms, columns in by_atoms.items() if atoms)
    return Layout(size, tuple(merged), reason)


def _product(first: Layout, second: Layout) -> Layout:
    every: list[tuple[tuple[Atom, ...], Indices]] = []
    parts = [
        [*((block.atoms, block.positions) for block in layout.blocks), ((), _uncovered(layout))]
        for layout in (first, second)
    ]
    for left, where in parts[0]:
        for right, there in parts[1]:
            outer = np.multiply.outer(where * second.size, np.ones_like(there)) + there
            outer = np.moveaxis(outer, len(left), -2)  # copies of the left beside those of the right
            every.append((left + right, outer.reshape(*outer.shape[:-2], -1)))
    blocks = [Block(atoms, positions) for atoms, positions in every if atoms and positions.size]
    return _canonical(first.size * second.size, blocks, first.reason or second.reason)


def _substitute(block: Block, reasons: list[str]) -> Iterator[Block]:
    """The block in terms of unbound atoms; adds the reasons for what got fixed."""
    k = next((k for k, atom in enumerate(block.atoms) if atom.binding is not None), None)
    if k is None:
        yield block
        return
    bound = block.atoms[k].binding
    assert bound is not None
    inner = block.atoms[k].binding = resolve(bound)
    reasons.append(inner.reason)
    parts = [(part.atoms, part.positions) for part in inner.blocks]
    rest = _uncovered(inner)
    if len(rest) and len(block.atoms) > 1:
        parts.append(((), rest))
    for atoms, where in parts:
        positions = np.take(block.positions, where, axis=k)
        positions = np.moveaxis(positions, k + len(atoms), -2)
        positions = positions.reshape(*positions.shape[:-2], -1)
        yield from _substitute(Block(block.atoms[:k] + atoms + block.atoms[k + 1 :], positions), reasons)


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
        columns = _columns(theirs)
        owner = np.full(theirs.size, -1)
        for index, (_, positions) in enumerate(columns):
            owner[positions] = index
        for atoms, positions in _columns(ours):
            owners = owner[positions]
            if (owners != owners.flat[0]).any():
                _split(atoms, owners, reason)
                return True
            if owners.flat[0] < 0:
                freeze(Layout(ours.size, (Block(atoms, positions[..., None]),)), theirs.reason or reason)
                return True
            other_atoms, other = columns[owners.flat[0]]
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
    """Make two products of atoms on the same positions agree; False where they do."""
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
    if not np.array_equal(here.ravel(), there.ravel()):
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
        mine.binding = product([*outer, Layout(other.size, (_whole(other),))])
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
    """Where each needle lies in the flattened haystack."""
    flat = haystack.ravel()
    order = np.argsort(flat)
    found: Indices = order[np.searchsorted(flat[order], needles)]
    return found
