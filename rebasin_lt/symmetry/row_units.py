"""Rows that each belong to one unit: what is computed of the weights that were looked up for them.

Where every token gets the weights of the expert that its label names, no tensor of hidden units has an axis of experts
any more. But each row of it lies in one of them, which its label says. The walk here finds such tensors: as long as
operators work on each row by itself, and rows that meet have the same labels, what lies in a row is its unit's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx

from rebasin_lt.symmetry.call import flat
from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.layouts import Layout
from rebasin_lt.symmetry.meaning import same_atom
from rebasin_lt.symmetry.nodes import plain_name
from rebasin_lt.symmetry.tensor_type import TensorType

GROUPED_PRODUCTS = ("_grouped_mm", "transformers::grouped_mm_fallback")
ROW_LOOKUPS = ("index", "_unsafe_index", "embedding")
_CUTS = ("slice", "select", "split", "split_with_sizes", "chunk", "unbind")
_VIEWS = ("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze")
_SAME = ("contiguous", "clone", "alias", "detach", "_to_copy", "to", "type_as", "dropout", "getitem", "bmm", "matmul")
_MATRICES = ("bmm", "matmul")


class RowUnits(NamedTuple):
    """The units that the rows of a tensor lie in, those along its first dimensions."""

    order: object  # one and the same for rows in the same order with the same labels
    units: Layout
    depth: int = 1  # the number of those dimensions: as many as labels have


def find_row_units(inference: Inference) -> dict[fx.Node, RowUnits]:
    """The units in which the rows of a step's result lie, for steps of which that is known."""
    found: dict[fx.Node, RowUnits] = {}
    for node in inference.nodes:
        if node.op == "call_function":
            rows = _looked_up(inference, node) or _multiplied(inference, node) or _passed_on(inference, node, found)
            if rows is not None:
                found[node] = rows
    return found


def meets_others(node: fx.Node, found: Mapping[fx.Node, RowUnits]) -> bool:
    """Whether rows that a step brings together may lie in different units."""
    orders = {found[source].order for source in node.all_input_nodes if source in found}
    if plain_name(node) in GROUPED_PRODUCTS and node in found:
        orders.add(found[node].order)
    return len(orders) > 1


def _looked_up(inference: Inference, node: fx.Node) -> RowUnits | None:
    """Rows that were chosen by labels, of a tensor all of whose units have labels."""
    if plain_name(node) not in ROW_LOOKUPS:
        return None
    arguments = list(node.args[1]) if isinstance(node.args[1], list | tuple) else [node.args[1]]
    kinds = [inference.nodes.get(value) for value in (node.args[0], arguments[0]) if isinstance(value, fx.Node)]
    if len(arguments) != 1 or len(kinds) != 2:
        return None
    table, index = kinds
    if not isinstance(table, TensorType) or not isinstance(index, TensorType):
        return None
    labels = index.labels
    if labels is None or not index.shape or labels.layout.size != table.shape[0]:
        return None
    if len(index.shape) > 1:
        return RowUnits(arguments[0], labels.layout, len(index.shape))
    sorted_by = [
        order for order in inference.orders if order.source is labels.source and same_atom(order.rows, index.axis(0))
    ]
    return RowUnits(sorted_by[0] if sorted_by else arguments[0], labels.layout)


def _multiplied(inference: Inference, node: fx.Node) -> RowUnits | None:
    """Rows in the order of their labels, each multiplied by its unit's matrix."""
    if plain_name(node) not in GROUPED_PRODUCTS:
        return None
    rows = inference.nodes[node.all_input_nodes[0]]
    orders = [order for order in inference.orders if same_atom(order.rows, rows.axis(0))]
    return RowUnits(orders[0], orders[0].labels) if len(orders) == 1 else None


def _passed_on(inference: Inference, node: fx.Node, found: Mapping[fx.Node, RowUnits]) -> RowUnits | None:
    """The rows of what a step is given, if it works on each by itself and all it knows of are the same."""
    given = [source for source in node.all_input_nodes if source in found]
    if len({found[source].order for source in given}) != 1:
        return None
    name, rows = plain_name(node).removesuffix("_"), found[given[0]]
    if name == "einsum":
        return rows if _keeps_letters(node, given, rows.depth) else None
    by_row = name in _SAME or torch.Tag.pointwise in getattr(node.target, "tags", ())
    if not by_row and name not in _CUTS and name not in _VIEWS:
        return None
    shapes = [_first_value(value).shape for value in (node, *given)]
    if any(_sizes(shape, rows.depth) != _sizes(shapes[0], rows.depth) for shape in shapes):
        return None
    if name in _CUTS and name != "slice" and _cut_dim(inference, node) % len(shapes[1]) < rows.depth:
        return None  # a slice that leaves as many rows as there are is of all of them
    if by_row and any(len(shape) != len(shapes[0]) for shape in shapes):
        return None
    if name in _MATRICES and len(shapes[0]) < rows.depth + 2:
        return None  # rows are those of a matrix
    return rows


def _sizes(shape: Sequence[Any], depth: int) -> list[str]:
    """The sizes of the dimensions along which rows lie; some depend on the batch, so they are in words."""
    return [str(size) for size in [*shape, *[None] * depth][:depth]]


def _keeps_letters(node: fx.Node, given: Sequence[fx.Node], depth: int) -> bool:
    """Whether all rows stand under the same letters, first ones of theirs and of the result."""
    inputs, _, output = str(node.args[0]).replace(" ", "").partition("->")
    terms = zip(inputs.split(","), node.args[1], strict=True)  # type: ignore[arg-type]
    return {term[:depth] for term, tensor in terms if tensor in given} == {output[:depth]}


def _first_value(node: fx.Node) -> Any:
    """The first tensor that a step returns."""
    return next(value for value in flat(node.meta["val"]) if isinstance(value, torch.Tensor))


def _cut_dim(inference: Inference, node: fx.Node) -> int:
    dim = inference.arguments(node).get("dim", 0)
    return dim if isinstance(dim, int) else 0
