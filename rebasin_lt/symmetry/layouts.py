"""Layouts: which unit of which atoms lies at each position of an axis.

An `Atom` is a set of units that may be permuted among themselves. A `Layout` says for every position of an axis which
unit of which atoms lies there; positions outside all blocks are fixed. An atom that turned out to have more structure
is bound to a layout of its own; `resolve` spells a layout out in unbound atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

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
    """The places of a product of atoms' units: `positions[i, j, ..., c]` is copy c of units i, j, ... of the atoms.

    Permutations p, q, ... of the atoms move what is at `positions[p[i], q[j], ..., c]` to `positions[i, j, ..., c]`.
    """

    atoms: tuple[Atom, ...]
    positions: Indices  # (sizes of the atoms..., copies)


@dataclass(eq=False)
class Layout:
    """The blocks of an axis; no position is in two of them, and those in none are fixed, for a reason."""

    size: int
    blocks: tuple[Block, ...] = ()
    reason: str = ""
    spelled_out: Layout | None = field(default=None, init=False, repr=False)  # when it was last resolved

    @property
    def is_fixed(self) -> bool:
        """True if nothing can be permuted along this axis; meaningful for a resolved layout."""
        return not self.blocks


def free(size: int) -> Layout:
    """An axis whose units may be permuted in any way, for all that is known yet."""
    if size < 2:
        return Layout(size)
    return Layout(size, (whole(Atom(size)),))


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
    return canonical(offset, blocks, reason)


def resolve(layout: Layout) -> Layout:
    """The same layout in terms of unbound atoms; what was found is kept, for a layout is asked for many times."""
    known = layout.spelled_out or layout
    if _bound(known):
        _compress(known)
        known = layout.spelled_out = _spelled_out(known)
    return known


def _spelled_out(layout: Layout) -> Layout:
    reasons = [layout.reason]
    blocks = [done for block in layout.blocks for done in _substitute(block, reasons)]
    return canonical(layout.size, blocks, next((reason for reason in reasons if reason), ""))


def _bound(layout: Layout) -> list[Atom]:
    return [atom for block in layout.blocks for atom in block.atoms if atom.binding is not None]


def _compress(layout: Layout) -> None:
    """Spell out what its atoms are bound to, from the innermost.

    Every block of a network binds the atom of its residual stream once more, so bindings may be as deep as the network
    is: a list holds what is left to do, for functions that call each other may not go so deep.
    """
    found: dict[Atom, None] = {}
    pending = [layout]
    while pending:
        for atom in _bound(pending.pop()):
            if atom not in found:
                found[atom] = None
                assert atom.binding is not None
                pending.append(atom.binding)
    for atom in reversed(found):
        assert atom.binding is not None
        if _bound(atom.binding):
            atom.binding = _spelled_out(atom.binding)


def atoms_of(layouts: Iterable[Layout]) -> Iterator[Atom]:
    """The unbound atoms of some axes, each once, in order."""
    seen: set[Atom] = set()
    for layout in layouts:
        for block in resolve(layout).blocks:
            for atom in block.atoms:
                if atom not in seen:
                    seen.add(atom)
                    yield atom


def whole(atom: Atom) -> Block:
    return Block((atom,), np.arange(atom.size)[:, None])


def _uncovered(layout: Layout) -> Indices:
    covered = np.zeros(layout.size, dtype=bool)
    for block in layout.blocks:
        covered[block.positions] = True
    return np.flatnonzero(~covered)


def columns(layout: Layout) -> list[tuple[tuple[Atom, ...], Indices]]:
    """Every copy of every block by itself."""
    return [(block.atoms, block.positions[..., c]) for block in layout.blocks for c in range(block.positions.shape[-1])]


def canonical(size: int, blocks: Iterable[Block], reason: str) -> Layout:
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
    return canonical(first.size * second.size, blocks, first.reason or second.reason)


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
        if k + 1 < len(block.atoms):
            positions = np.moveaxis(positions, k + len(atoms), -2)
        positions = positions.reshape(*positions.shape[:-2], -1)
        yield from _substitute(Block(block.atoms[:k] + atoms + block.atoms[k + 1 :], positions), reasons)
