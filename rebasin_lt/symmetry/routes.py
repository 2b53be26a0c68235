"""Rows that each lie in one unit, while a network runs: which unit that is, and which sample the row is of.

Where every token gets the weights of the experts that its labels name, a tensor of hidden units has a row for each of
them. Two networks choose differently, and lay their rows in different orders; the labels say in both of which expert a
row is, and the steps that moved the labels, of which token.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.layouts import Atom, Layout, resolve
from rebasin_lt.symmetry.meaning import Order, same_atom
from rebasin_lt.symmetry.nodes import LOOKING_UP, plain_name, shapes_of
from rebasin_lt.symmetry.tensor_type import TensorType

# Operators that leave the elements of a tensor in their order.
_KEPT = frozenset({
    *("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze"),
    *("contiguous", "clone", "alias", "detach", "to", "_to_copy"),
})


class Reached(NamedTuple):
    """What the units inside of others did, each on those samples that reach its outer unit."""

    rows: Tensor  # (rows, units inside of one outer unit)
    samples: Tensor  # (rows,), int64: which sample a row is of; no two rows are of one sample and one outer unit
    outer: Tensor  # (rows,), int64: the outer unit that a row lies in
    every: Tensor | None = None  # (..., all units), where units were computed for all samples, reached or not


@dataclass(frozen=True)
class Route:
    """The steps that say of each row which unit it lies in, and which sample it is of.

    Rows were made in the order of samples, `beside` of them for each; where they were moved, `moved` holds for each
    the place that it had.
    """

    labels: str  # the step whose result are the labels of the rows; (rows...), int64
    moved: str  # the step whose result are their former places; (rows,), int64; none if empty
    beside: int
    outer: Tensor  # (labels,), int64: the outer unit of each label, all groups around taken together; -1 for none
    depth: int = 1  # the number of dimensions along which rows lie, as many as labels have

    @property
    def nodes(self) -> tuple[str, ...]:
        """The steps whose results are needed."""
        return (self.labels, self.moved) if self.moved else (self.labels,)

    def reached(self, units: Tensor, values: Sequence[Tensor]) -> Reached:
        """What units did, of shape (rows..., ..., units), with the labels and former places of the rows."""
        labels, *moved = values
        labels, units = labels.flatten(), units.flatten(0, self.depth - 1)
        places = moved[0] if moved else torch.arange(len(labels), device=labels.device)
        outer = self.outer.to(labels.device)[labels]
        rows = units.reshape(len(units), -1, units.shape[-1])
        sites = rows.shape[1]
        samples = (places // self.beside)[:, None] * sites + torch.arange(sites, device=labels.device)
        known = (outer >= 0)[:, None].expand_as(samples)
        return Reached(rows[known], samples[known], outer[:, None].expand_as(samples)[known])


def route_of(inference: Inference, order: object, units: Layout, path: Sequence[Atom]) -> Route | None:
    """How rows in an order lie in units along an axis, which are those of a path of atoms; None if it is not known."""
    outer = _outer_of(units, path)
    labels = order if isinstance(order, fx.Node) else _sorted_labels(inference, order)
    if outer is None or labels is None:
        return None
    source, moves = _followed(labels)
    if len(moves) > 1:
        return None
    return Route(labels.name, moves[0].name if moves else "", _beside(source), outer, len(_shape(labels)))


def _outer_of(units: Layout, path: Sequence[Atom]) -> Tensor | None:
    blocks = [block for block in resolve(units).blocks if set(block.atoms) == set(path)]
    if len(blocks) != 1 or len(blocks[0].atoms) != len(path):
        return None
    found = np.full(units.size, -1, dtype=np.int64)
    order = [blocks[0].atoms.index(atom) for atom in path]
    positions = blocks[0].positions.transpose([*order, len(order)])
    positions = positions.reshape(-1, positions.shape[-1])
    found[positions] = np.arange(len(positions))[:, None]
    return torch.from_numpy(found)


def _sorted_labels(inference: Inference, order: object) -> fx.Node | None:
    """The labels by which rows were sorted, in that order."""
    for node, kind in inference.nodes.items():
        if isinstance(order, Order) and isinstance(kind, TensorType) and len(kind.shape) == 1:
            labels = kind.labels
            if labels is not None and labels.source is order.source and same_atom(kind.axis(0), order.rows):
                return node
    return None


def _followed(node: fx.Node) -> tuple[fx.Node, list[fx.Node]]:
    """What labels were before they were seen as rows, and the steps that say which of them went where."""
    moves: list[fx.Node] = []
    while node.op == "call_function":
        name, source = plain_name(node), node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            break
        if name in _KEPT:
            node = source
            continue
        moved = _places_in(node, source)
        if moved is None:
            break
        moves.append(moved)
        node = source.args[0] if node.target is operator.getitem else source  # type: ignore[assignment]
    return node, moves


def _places_in(node: fx.Node, source: fx.Node) -> fx.Node | None:
    """The former places of what a step only moves along its one dimension."""
    if len(_shape(node)) != 1:
        return None
    if node.target is operator.getitem and plain_name(source) == "sort" and node.args[1] == 0:
        return next((user for user in source.users if user.target is operator.getitem and user.args[1] == 1), None)
    index = node.all_input_nodes[-1]
    chosen = plain_name(node) in LOOKING_UP and index is not source and _shape(index) == _shape(source) == _shape(node)
    return index if chosen else None


def _beside(node: fx.Node) -> int:
    """The number of labels of each sample: those that were chosen along the last dimension lie beside one another."""
    source = node.args[0] if node.args else None
    if node.target is not operator.getitem or not isinstance(source, fx.Node) or plain_name(source) != "topk":
        return 1
    dim = source.args[2] if len(source.args) > 2 else source.kwargs.get("dim", -1)
    shape = _shape(node)
    return shape[-1] if dim in (-1, len(shape) - 1) else 1


def _shape(node: fx.Node) -> tuple[int, ...]:
    shapes = shapes_of(node)
    return shapes[0] if shapes else ()
