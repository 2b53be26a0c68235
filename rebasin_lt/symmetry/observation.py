"""The places at which the units of a group can be observed, and their reading off a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.layouts import Atom, Block, atoms_of, resolve
from rebasin_lt.symmetry.nodes import plain_name
from rebasin_lt.symmetry.routes import Route, route_of
from rebasin_lt.symmetry.row_units import RowUnits, find_row_units
from rebasin_lt.symmetry.shares import Shares, shares_of
from rebasin_lt.symmetry.sibling_types import stacked
from rebasin_lt.symmetry.siblings import Family
from rebasin_lt.symmetry.tensor_type import Part, TensorType

# Operators that move, drop, pool or scale units, each by itself: what they are given shows the same units, and more.
_PASSED = frozenset({
    *("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose"),
    *("swapaxes", "t", "contiguous", "clone", "alias", "detach", "to", "_to_copy", "dropout", "dropout_"),
    *("feature_dropout", "slice", "select", "split", "split_with_sizes", "chunk", "unbind", "cat", "roll", "pad"),
    *("constant_pad_nd", "expand", "mean", "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("_adaptive_avg_pool2d", "adaptive_max_pool2d", "getitem", "repeat_interleave", "index", "index_select"),
})


Visit = Callable[[str, int, list[Any]], None]
"""Gets group, number of the observation, and under each state a tensor of samples, or what `Reached` says."""


@dataclass(frozen=True)
class Observation:
    """A tensor of the traced network in which a group's units show, or those of several, stacked.

    Its samples are all elements along the other dimensions. Where another group acts on the tensor too, a unit shows as
    the root mean square over that group: that does not depend on the other's permutation, so groups can be matched
    independently of each other. The units of a nested group are all of them, those of one outer unit after another.
    """

    node: str  # the operator whose result it is, the last one of `nodes`
    dims: tuple[int, ...]  # the dimensions on which the group, and those that it is nested in, act
    positions: Tensor  # (units, other groups' units, copies): positions along those dimensions, as if they were one
    reduced: tuple[int, ...]  # other dimensions on which groups act
    step: int = 0  # its place in the order of execution
    module: str = ""  # in which the operator is
    nodes: tuple[str, ...] = ()  # of siblings that change places, the operator of each; their results are stacked
    route: Route | Shares | None = (
        None  # what says which samples reach which outer unit, where only some do; where each
    )
    # row lies in one alone, `positions` has those of the units inside of one

    @property
    def needs(self) -> tuple[str, ...]:
        """The operators whose results say what units do."""
        return (*(self.nodes or (self.node,)), *(self.route.nodes if self.route is not None else ()))

    def shown(self, values: Mapping[str, list[Tensor]]) -> list[Any]:
        """What units do under each of several states, of the results of all that it `needs`."""
        if self.nodes:
            found = [torch.stack(rows) for rows in zip(*(values[name] for name in self.nodes), strict=True)]
        else:
            found = values[self.node]
        units = [self.units(value) for value in found]
        if self.route is None:
            return units
        said = zip(*(values[name] for name in self.route.nodes), strict=True)
        return [self.route.reached(own, also) for own, also in zip(units, said, strict=True)]

    def units(self, value: Tensor) -> Tensor:
        """The samples of each unit; shape (..., units), in the value's dtype, and where possible a view of it."""
        if self.reduced:
            value = value.square().mean(self.reduced, keepdim=True).sqrt()
        rows = value.movedim(self.dims, tuple(range(-len(self.dims), 0)))
        rows = rows.flatten(-len(self.dims)) if len(self.dims) > 1 else rows
        _, others, copies = self.positions.shape
        if others == copies == 1 and torch.equal(self.positions.flatten(), torch.arange(rows.shape[-1])):
            return rows
        picked = rows[..., self.positions.to(rows.device)]  # shape: (..., units, others, copies)
        picked = picked[..., 0, :] if others == 1 else picked.square().mean(-2).sqrt()
        return picked.transpose(-1, -2)


def visit_observed(
    executed: Iterator[tuple[str, list[Any]]], observations: Mapping[str, Sequence[Observation]], visit: Visit
) -> None:
    """`visit` every observation, of results of operators under several states, as they come; stops after the last."""
    points: dict[tuple[str, ...], list[tuple[str, int, Observation]]] = {}
    for group, found in observations.items():
        for k, observation in enumerate(found):
            points.setdefault(observation.needs, []).append((group, k, observation))
    waiting: dict[str, list[tuple[str, ...]]] = {}
    for needs in points:
        for node in needs:
            waiting.setdefault(node, []).append(needs)
    seen: dict[str, list[Tensor]] = {}  # of steps that are looked at together, until all have been executed
    for node, values in executed:
        seen[node] = values
        for needs in [needs for needs in waiting.get(node, ()) if seen.keys() >= set(needs)]:
            for group, k, observation in points.pop(needs):
                visit(group, k, observation.shown(seen))
            for name in needs:
                waiting[name].remove(needs)
        if waiting.get(node):
            seen[node] = [value.clone() for value in values]
        for name in [name for name in seen if not waiting.get(name)]:
            del seen[name]
        if not points:
            return


def find_observations(
    inference: Inference, groups: Mapping[Atom, str], within: Mapping[str, Sequence[str]]
) -> dict[str, tuple[Observation, ...]]:
    """For every group, in the order of execution, the tensors that its weights read.

    They are followed back through reshaping and pooling to the operator that made them: an activation, a sum, a
    normalisation, or a convolution. A group that no weight reads, such as the channels in which queries meet keys, is
    observed where weights write it. In a perceptron the hidden units are seen after the ReLU, which the second layer
    reads, and not before it:

    >>> from rebasin_lt import trace_symmetry
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> observed = trace_symmetry(network, torch.zeros(1, 4)).observations
    >>> {group: [point.node for point in points] for group, points in observed.items()}
    {'0.weight': ['relu']}
    """
    step = {node: index for index, node in enumerate(inference.program.graph.nodes)}
    rows = find_row_units(inference)
    found: dict[str, set[fx.Node]] = {group: set() for group in groups.values()}
    for source, dim in inference.reads:
        for atom in atoms_of([inference.nodes[source].axis(dim)]):
            if atom in groups:
                found[groups[atom]] |= _origins(inference, source, atom)
    # What a matrix product makes shows the groups that no weight reads.
    for node in inference.products:
        acting = {atom for dim in range(_ndim(inference, node)) for atom in _acting(inference.nodes[node], dim)}
        units = inference.siblings.units_of(node)
        for atom in acting if units is None else acting.union(atoms_of([units])):
            if atom in groups and not found[groups[atom]]:
                found[groups[atom]] = {node}
    by_name = {name: atom for atom, name in groups.items()}

    def last(family: Family) -> int:
        return max(step[node] for node in family)

    return {
        group: tuple(
            observation
            for family in sorted(map(inference.siblings.family_of, nodes), key=last)
            for observation in _observe(
                inference, family, step, [by_name[name] for name in (*within.get(group, ()), group)], rows
            )
        )
        for group, nodes in found.items()
    }


def _ndim(inference: Inference, node: fx.Node) -> int:
    kind = inference.nodes[node]
    return len(kind.shape) if isinstance(kind, TensorType) else 0


def _acting(kind: TensorType, dim: int) -> list[Atom]:
    """The atoms of a dimension; none if it is split from an axis with others."""
    part = kind.part_of(dim)
    if len(part.dims) > 1:
        return []
    return list(dict.fromkeys(atom for block in resolve(part.layout).blocks for atom in block.atoms))


def _shows(kind: object, atom: Atom) -> bool:
    return isinstance(kind, TensorType) and any(atom in _acting(kind, dim) for dim in range(len(kind.shape)))


def _origins(inference: Inference, node: fx.Node, atom: Atom) -> set[fx.Node]:
    """The tensors that `node` got the units of `atom` from, through operators that only move or pool them."""
    pending, origins, seen = [node], set(), set()
    while pending:
        here = pending.pop()
        if here in seen:
            continue
        seen.add(here)
        sources: list[fx.Node] = []
        if here.op == "call_function" and plain_name(here) in _PASSED:
            sources = [
                source
                for source in here.all_input_nodes
                if _shows(inference.nodes[source], atom)
                or (isinstance(inference.nodes[source], tuple | list) and plain_name(source) in _PASSED)
            ]
        sources = [source for source in sources if source.op == "call_function"]
        if sources:
            pending += sources
        elif _shows(inference.nodes[here], atom):
            origins.add(inference.siblings.family_of(here)[0])
    return origins


def _module_of(node: fx.Node) -> str:
    """The innermost module that was being called."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _observe(
    inference: Inference,
    family: Family,
    steps: Mapping[fx.Node, int],
    path: Sequence[Atom],
    rows: Mapping[fx.Node, RowUnits],
) -> list[Observation]:
    """One observation for each block of an axis in which the last atom of a path is; the others are around it.

    Siblings are observed together, along an axis of their units. Of rows that each lie in one of the outer units, their
    labels say in which. Rows in the order of labels without such a route are in another order in another network.
    """
    observations: list[Observation] = []
    kind, units_axis = inference.nodes[family[0]], inference.siblings.units_of(family[0])
    nodes: tuple[str, ...] = ()
    if units_axis is not None:
        kind, nodes = stacked(kind, units_axis), tuple(node.name for node in family)
    node = max(family, key=steps.__getitem__)
    route: Route | None = None
    kept = 0
    if not all(any(True for _ in _having(kind, atom)) for atom in path):
        row = rows.get(family[0])
        route, kept = (None, 1) if row is None else (route_of(inference, row.order, row.units, path[:-1]), row.depth)
        path = path[-1:]
    if route is None and (kept or _in_an_order(inference, kind)):
        return []
    for dim in range(kept, len(kind.shape)):
        if path[-1] not in _acting(kind, dim):
            continue
        for block in resolve(kind.axis(dim)).blocks:
            if path[-1] in block.atoms:
                parts = {kind.part_of(dim): block}
                for atom in (atom for atom in path if atom not in block.atoms):
                    part, own = next(_having(kind, atom))  # it is around the last one, so all of that part is in it
                    parts[part] = own
                others = (part for part in kind.parts if part not in parts and resolve(part.layout).blocks)
                reduced = tuple(sorted(other for part in others for other in part.dims if other >= kept))
                dims = tuple(other for part in parts for other in part.dims)
                units = _units([(part.layout.size, own) for part, own in parts.items()], path)
                reach = route or shares_of(inference, family, path, {*dims, *reduced})
                found = Observation(node.name, dims, units, reduced, steps[node], _module_of(node), nodes, reach)
                observations.append(found)
    return observations


def _in_an_order(inference: Inference, kind: TensorType) -> bool:
    """Whether something lies along a dimension in the order of labels."""
    rows = set(atoms_of(order.rows for order in inference.orders))
    return not rows.isdisjoint(atoms_of(part.layout for part in kind.parts))


def _having(kind: TensorType, atom: Atom) -> Iterator[tuple[Part, Block]]:
    for part in kind.parts:
        for block in resolve(part.layout).blocks:
            if atom in block.atoms:
                yield part, block


def _units(axes: Sequence[tuple[int, Block]], path: Sequence[Atom]) -> Tensor:
    """The positions of all joint units of a path, along several axes as if they were one, of each axis in a block."""
    atoms: list[Atom] = []
    positions = np.zeros((1,), dtype=np.int64)  # (sizes of the atoms so far..., copies)
    for size, block in axes:
        joint = np.multiply.outer(positions * size, np.ones_like(block.positions)) + block.positions
        joint = np.moveaxis(joint, len(atoms), -2)  # copies beside copies
        positions = joint.reshape(*joint.shape[:-2], -1)
        atoms += block.atoms
    order = [atoms.index(atom) for atom in path]
    order += [k for k in range(len(atoms)) if k not in order]
    positions = positions.transpose([*order, len(atoms)])
    units = int(np.prod([atom.size for atom in path]))
    return torch.from_numpy(positions.reshape(units, -1, positions.shape[-1]).copy())
