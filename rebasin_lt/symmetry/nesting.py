"""Nested groups: units that may be permuted differently within each unit of another group.

Rules find products: the 32 channels of 4 heads are (4 heads) × (8 channels), whole heads permuted, and channels alike
in all of them. If all that is computed from a head's channels is computed from that head alone, until they are summed
over, then each head may permute its channels in its own way: a wreath product. The walk here finds where that is so. It
looks at what operators were given and returned, so rules need not know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from rebasin_lt.symmetry.call import flat
from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.layouts import Atom, Layout, atoms_of, resolve
from rebasin_lt.symmetry.nodes import plain_name
from rebasin_lt.symmetry.operators import elementwise, products, statistics, views
from rebasin_lt.symmetry.row_units import GROUPED_PRODUCTS, RowUnits, find_row_units, meets_others
from rebasin_lt.symmetry.sibling_types import beside
from rebasin_lt.symmetry.tensor_type import TensorType

Arguments = Mapping[str, Any]


# Nothing here asks a type for the layout of one dimension: that may bind its atoms, and groups are known by theirs.


def find_nesting(inference: Inference, groups: Mapping[Atom, str]) -> dict[str, tuple[str, ...]]:
    """For each group that is nested in others, these: from the outermost to the one that it is directly in.

    A group is in another where every tensor that has its units has them within exactly one unit of the other, and no
    operator mixes units of the other while it keeps those of the group apart. Groups that are in one another, which
    then are one, and any that is in two of which neither is in the other, are nested in the first alone.
    """
    shared: dict[Atom, set[Atom]] = {}  # inner -> those that may still be outside
    order = {atom: index for index, atom in enumerate(groups)}
    rows = find_row_units(inference)
    kinds = {node: _kinds(inference, node, rows) for node in inference.nodes}  # parameters and buffers are among them
    for kind in (kind for found in kinds.values() for kind in found):
        _narrow(shared, kind, order)
    for node in inference.nodes:
        if any(shared.values()) and node.op == "call_function":
            _narrow_by_operator(shared, inference, node, kinds)
            if meets_others(node, rows):
                given = [kind for source in node.all_input_nodes for kind in kinds[source]]
                for atom in shared.keys() & set(atoms_of(part.layout for kind in given for part in kind.parts)):
                    shared[atom] -= _beside(given)
    for atom in atoms_of(inference.siblings.units.values()):
        shared[atom] = set()  # whole tensors change places by themselves
    for inner, outers in shared.items():  # neither is in the other if each is: the first one stays outside
        outers -= {outer for outer in outers if inner in shared.get(outer, ()) and order[inner] < order[outer]}
    ordered = {atom: sorted(outers, key=order.__getitem__) for atom, outers in shared.items()}  # or runs would differ
    return {groups[atom]: tuple(groups[outer] for outer in path) for atom in order if (path := _path(atom, ordered))}


def _path(atom: Atom, shared: Mapping[Atom, Sequence[Atom]]) -> list[Atom]:
    """The chain of groups around an atom, the outermost first; of several as long the one that ends in the first."""
    outers = shared.get(atom, ())
    parents = [outer for outer in outers if set(shared.get(outer, ())) <= set(outers)]
    return max(([*_path(parent, shared), parent] for parent in parents), key=len, default=[])


def _cells(kind: TensorType) -> list[list[tuple[Atom, ...]]]:
    """For each part of a tensor, the atoms of its blocks; those of what is fixed are none."""
    cells = []
    for layout in (resolve(part.layout) for part in kind.parts):
        blocks = [block.atoms for block in layout.blocks]
        covered = sum(block.positions.size for block in layout.blocks)
        cells.append(blocks + [()] * (covered < layout.size))
    return cells


def _narrow(shared: dict[Atom, set[Atom]], kind: TensorType, order: Mapping[Atom, int]) -> None:
    """Leave for each atom of a tensor those others that have it once in each of their units, here too."""
    cells = _cells(kind)
    for k, blocks in enumerate(cells):
        for atoms in blocks:
            for inner in set(atoms):
                if not shared.get(inner, True):
                    continue
                near = {atom for atom in atoms if atom is not inner and atoms.count(atom) == 1}
                far = {atom for other in cells[:k] + cells[k + 1 :] for block in other for atom in block}
                across = {atom for atom in far - {inner, *atoms} if _is_all_of_one(cells, k, atom)}
                found = {atom for atom in (near - far) | across if atom in order}
                shared[inner] = shared[inner] & found if inner in shared else found


def _is_all_of_one(cells: list[list[tuple[Atom, ...]]], but: int, atom: Atom) -> bool:
    """Whether one other part lies in the atom's units all over, and no further part has any."""
    having = [blocks for k, blocks in enumerate(cells) if k != but and any(atom in block for block in blocks)]
    return len(having) == 1 and all(block.count(atom) == 1 for block in having[0])


def _kinds(inference: Inference, node: fx.Node, rows: Mapping[fx.Node, RowUnits]) -> list[TensorType]:
    """The types of what a step returns, with the axis of units that its tensors, or their rows, lie in."""
    kinds = inference.among_siblings(node)
    return [beside(kind, rows[node].units) for kind in kinds] if node in rows else kinds


def _narrow_by_operator(
    shared: dict[Atom, set[Atom]], inference: Inference, node: fx.Node, kinds: Mapping[fx.Node, list[TensorType]]
) -> None:
    """Take from each atom that the operator meets those others whose units it mixes."""
    given = [kind for source in node.all_input_nodes for kind in kinds[source]]
    every = [*given, *kinds[node]]
    atoms = {atom for kind in every for blocks in _cells(kind) for block in blocks for atom in block}
    inners = [atom for atom in atoms if shared.get(atom)]
    if not inners:
        return
    repeated = {atom for kind in every for atom in atoms if _most(kind, atom) > 1}
    if plain_name(node) not in GROUPED_PRODUCTS:  # what is of one unit meets what is of all
        repeated |= _beside(given) & {
            atom for kind in given for part in kind.parts if part.dims for atom in atoms_of([part.layout])
        }
    mixes = _mixing(node)
    arguments = inference.arguments(node)
    for inner in inners:
        shared[inner] -= repeated  # units that meet those of others, as in a Gram matrix
        for kind in given:
            shared[inner] -= {outer for outer in shared[inner] if mixes(arguments, kind, outer, inner)}


def _beside(kinds: Iterable[TensorType]) -> set[Atom]:
    """The atoms in whose units tensors or their rows lie, without an axis of theirs."""
    return set(atoms_of(part.layout for kind in kinds for part in kind.parts if not part.dims))


def _most(kind: TensorType, atom: Atom) -> int:
    """The largest number of times that an atom acts on one element."""
    return sum(max((block.count(atom) for block in blocks), default=0) for blocks in _cells(kind))


# Whether an operator, with these arguments, mixes units of an outer atom of a tensor, each of an inner one by itself.
Mixes = Callable[[Arguments, TensorType, Atom, Atom], bool]


def _never(arguments: Arguments, kind: TensorType, outer: Atom, inner: Atom) -> bool:
    return False


def _along(dims_of: Callable[[Arguments, TensorType], Iterable[int]]) -> Mixes:
    """Along some dimensions, in a way that does not depend on the order of what lies there."""

    def mixes(arguments: Arguments, kind: TensorType, outer: Atom, inner: Atom) -> bool:
        ndim = len(kind.shape)
        dims = {dim % ndim for dim in dims_of(arguments, kind)} if ndim else set()
        mixed, apart = _sides(kind, dims)
        return outer in mixed and (inner not in mixed or inner in apart)

    return mixes


def _sides(kind: TensorType, dims: set[int]) -> tuple[set[Atom], set[Atom]]:
    """The atoms whose units lie along some dimensions, and those whose units lie along others; some may do both."""
    sides: tuple[set[Atom], set[Atom]] = (set(), set())
    for part in (part for part in kind.parts if part.dims):
        shape = [kind.shape[dim] for dim in part.dims]
        for block in resolve(part.layout).blocks:
            for k, atom in enumerate(block.atoms):
                places = np.unravel_index(np.moveaxis(block.positions, k, 0), shape)
                for dim, place in zip(part.dims, places, strict=True):
                    if len(part.dims) == 1 or (place != place[0]).any():
                        sides[dim not in dims].add(atom)
    return sides


def _acts(layout: Layout, atom: Atom) -> bool:
    return any(atom in block.atoms for block in resolve(layout).blocks)


_SITES = _along(lambda _, kind: range(2, len(kind.shape)))


def _of_groups(arguments: Arguments, kind: TensorType, outer: Atom, inner: Atom) -> bool:
    """Group normalisation: the slower atoms of the channels tell its groups apart, the faster ones are mixed."""
    if len(kind.shape) < 2:
        return False  # a scale
    if _SITES(arguments, kind, outer, inner):
        return True
    blocks = [block.atoms for block in resolve(kind.part_of(1).layout).blocks if outer in block.atoms]
    return any(inner not in atoms or atoms.index(inner) < atoms.index(outer) for atoms in blocks)


def _of_einsum(arguments: Arguments, kind: TensorType, outer: Atom, inner: Atom) -> bool:
    """An atom that stands under two letters meets units other than its own."""
    terms = arguments["equation"].replace(" ", "").partition("->")[0].split(",")
    letters = {
        letter
        for term, tensor in zip(terms, arguments["tensors"], strict=True)
        for dim, letter in enumerate(term)
        if outer in _sides(tensor, {dim})[0]
    }
    return len(letters) > 1


def _named_dims(arguments: Arguments, kind: TensorType) -> list[int]:
    return [dim for dim in flat(arguments["dim"]) if isinstance(dim, int)]


_NORMALISED = _along(lambda arguments, kind: range(-min(len(arguments["normalized_shape"]), len(kind.shape)), 0))
# Products of two tensors mix an atom's units only where one of them, or their result, has the atom twice.
_TWO_FACTORS = ("mm", "bmm", "matmul", "mv", "dot", "addmm", "baddbmm", "linear")
MIXES: dict[str, Mixes] = {
    **dict.fromkeys([*elementwise.ELEMENTWISE, *views.VIEWS, "getitem"], _never),
    **dict.fromkeys(statistics.REDUCTIONS, _never),  # what is left of the inner units shows without the outer
    **dict.fromkeys(("embedding", "index_select", "index"), _never),
    **dict.fromkeys([name for name in statistics.STATISTICS if "pool" in name or "upsample" in name], _never),
    **dict.fromkeys(
        [*_TWO_FACTORS, *GROUPED_PRODUCTS, *(name for name in products.PRODUCTS if "conv" in name)], _never
    ),
    **dict.fromkeys([name for name in products.PRODUCTS if "attention" in name], _along(lambda *_: [-2])),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _along(_named_dims)),
    **dict.fromkeys(("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"), _NORMALISED),
    **dict.fromkeys(("group_norm", "native_group_norm"), _of_groups),
    **dict.fromkeys([name for name in statistics.STATISTICS if "batch_norm" in name or "instance" in name], _SITES),
    "einsum": _of_einsum,
}
"""What operators mix, by name. One that is neither here nor elementwise mixes along its argument `dim`, or all."""


def _mixing(node: fx.Node) -> Mixes:
    name = plain_name(node)
    found = MIXES.get(name) or MIXES.get(name.removesuffix("_"))
    if found is not None:
        return found
    if torch.Tag.pointwise in getattr(node.target, "tags", ()):
        return _never
    return _unknown


def _unknown(arguments: Arguments, kind: TensorType, outer: Atom, inner: Atom) -> bool:
    if isinstance(arguments.get("dim"), int):
        return _along(_named_dims)(arguments, kind, outer, inner)
    return any(_acts(part.layout, outer) for part in kind.parts if part.dims)  # of siblings, it sees one
