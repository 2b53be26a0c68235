"""Operators that choose by index."""

from __future__ import annotations

from rebasin_lt.symmetry.axes import freeze
from rebasin_lt.symmetry.call import Call, Result, Rules
from rebasin_lt.symmetry.layouts import fixed
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast

LOOKUPS = Rules()


@LOOKUPS.of("embedding")
def embedding(call: Call) -> Result:
    """Rows are chosen by indices, so they stay; their elements are units."""
    weight, indices = call["weight"], call["indices"]
    freeze(weight.axis(0), "rows are looked up by index")
    return TensorType.of([*indices.axes(), weight.axis(1)])


@LOOKUPS.of("index_select")
def index_select(call: Call) -> Result:
    """Positions are chosen by a tensor, so they stay."""
    tensor: TensorType = call["self"]
    freeze(tensor.axis(call["dim"]), "positions are looked up by index")
    call["index"].freeze("indices into a table")
    return tensor.replace(call["dim"], fixed(call.shapes[0][call["dim"] % len(tensor.shape)], "looked up by index"))


@LOOKUPS.of("index")
def index(call: Call) -> Result:
    """Indexed dimensions stay, and those that the indices bring; all others keep their units."""
    tensor: TensorType = call["self"]
    indices = list(call["indices"]) + [None] * (len(tensor.shape) - len(call["indices"]))
    where = [dim for dim, index in enumerate(indices) if index is not None]
    for dim in where:
        freeze(tensor.axis(dim), "positions are looked up by index")
        indices[dim].freeze("indices into a table")
    kept = [layout for dim, layout in enumerate(tensor.axes()) if dim not in where]
    brought = [fixed(size, "looked up by index") for size in broadcast([indices[dim] for dim in where], "index").shape]
    first = where[0] if where == list(range(where[0], where[-1] + 1)) else 0  # apart, they come first
    return TensorType.of([*kept[:first], *brought, *kept[first:]])
