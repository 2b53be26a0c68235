"""Operators that read or write where indices say."""

from __future__ import annotations

from rebasin_lt.symmetry.axes import freeze, take
from rebasin_lt.symmetry.call import Call, NotFollowed, Result, Rules, with_fixed_rest
from rebasin_lt.symmetry.layouts import Layout, concatenate, fixed
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast

LOOKUPS = Rules()


def _look_up(call: Call, layout: Layout, index: TensorType, named: str = "positions") -> None:
    """An axis whose positions `index` names: labels of its own units move with it, else it stays."""
    names = index.labels
    if names is None or names.layout.size > layout.size:
        _read(index)
        freeze(layout, f"{named} are looked up by index")
    elif names.layout.size == layout.size:
        call.tie(names.layout, layout)
    else:  # the first positions only
        call.tie(names.layout, take(layout, range(names.layout.size)))


def _read(*tensors: TensorType) -> None:
    """Numbers that are used as they are."""
    for tensor in tensors:
        if tensor.meaning is not None:
            tensor.meaning.forget("numbers that name these units are read")


def _looked_up(tensor: TensorType, source: TensorType) -> TensorType:
    """What was read of labels are labels."""
    if source.labels is None:
        _read(source)
        return tensor.meaning_as(None)
    return tensor.meaning_as(source.labels.of_others())


@LOOKUPS.of("embedding", read=True)
def embedding(call: Call) -> Result:
    """Rows are chosen by indices, so they stay, unless these are labels of them; their elements are units."""
    weight, indices = call["weight"], call["indices"]
    _read(weight)
    _look_up(call, weight.axis(0), indices, "rows")
    return TensorType.of([*indices.axes(), weight.axis(1)])


@LOOKUPS.of("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(call: Call) -> Result:
    """Rows are chosen by indices and summed bag by bag, so rows and indices stay."""
    weight, indices, scales = call["weight"], call["indices"], call.arguments.get("per_sample_weights")
    freeze(weight.axis(0), "rows are looked up by index")
    for tensor in (indices, call["offsets"], *([] if scales is None else [scales])):
        tensor.freeze("bags of rows")
    return with_fixed_rest(call, TensorType.of([fixed(call.shapes[0][0], "bags of rows"), weight.axis(1)]))


@LOOKUPS.of("index_select", read=True)
def index_select(call: Call) -> Result:
    """Positions are chosen by a tensor; what is chosen lies as the indices do."""
    tensor, dim, index = call["self"], call["dim"], call["index"]
    _look_up(call, tensor.axis(dim), index)
    chosen = index.axis(0) if index.shape else fixed(1)
    return _looked_up(tensor.replace(dim, chosen), tensor)


@LOOKUPS.of("index", "_unsafe_index", read=True)
def index(call: Call) -> Result:
    """Indexed dimensions give way to those that the indices bring; all others keep their units."""
    return _looked_up(_region(call), call["self"])


def _region(call: Call) -> TensorType:
    """What `indices` name of a tensor."""
    tensor: TensorType = call["self"]
    indices = list(call["indices"]) + [None] * (len(tensor.shape) - len(call["indices"]))
    where = [dim for dim, index in enumerate(indices) if index is not None]
    if any(indices[dim] is mask for dim in where for mask in call.masks):
        raise NotFollowed("a choice by truth values")
    axes = tensor.axes()
    for dim in where:
        _look_up(call, axes[dim], indices[dim])
    kept = [layout for dim, layout in enumerate(axes) if dim not in where]
    brought = broadcast([indices[dim].meaning_as(None) for dim in where], call.name).axes()
    first = where[0] if where == list(range(where[0], where[-1] + 1)) else 0  # apart, they come first
    return TensorType.of([*kept[:first], *brought, *kept[first:]])


@LOOKUPS.of("index_put", "_unsafe_index_put", read=True)
def index_put(call: Call) -> Result:
    """Values are written, or added, where indices say. With labels over nothing, labels are there."""
    tensor, values = call["self"], call["values"]
    broadcast([_region(call), values.meaning_as(None)], call.name)
    return _written(call, tensor, values)


def _written(call: Call, tensor: TensorType, values: TensorType) -> TensorType:
    """A tensor with values in it: labels if both are, else numbers."""
    ours, theirs = tensor.labels, values.labels
    if ours is not None and theirs is not None and ours.layout.size == theirs.layout.size:
        call.tie(ours.layout, theirs.layout)
        return tensor.meaning_as(theirs.of_others())
    _read(tensor, values)
    return tensor.meaning_as(None)


@LOOKUPS.of("index_add", "index_copy", read=True)
def index_add(call: Call) -> Result:
    """Slices of `source` are added to, or put in place of, the slices that the indices name."""
    tensor, dim, source = call["self"], call["dim"], call["source"]
    _read(tensor, source)
    axes, added = tensor.axes(), source.axes()
    dim %= max(1, len(axes))
    _look_up(call, axes[dim], call["index"])
    for i, (layout, other) in enumerate(zip(axes, added, strict=True)):
        call.tie(call["index"].axis(0) if i == dim else layout, other)
    return TensorType.of(axes)


def _alongside(call: Call, tensor: TensorType, index: TensorType, dim: int) -> None:
    """All dimensions but `dim` are the same in tensor and index; of a longer one only the first part is used."""
    axes, others = tensor.axes(), index.axes()
    _look_up(call, axes[dim], index)
    for i, (layout, other) in enumerate(zip(axes, others, strict=True)):
        if i != dim:
            call.tie(layout if layout.size == other.size else take(layout, range(other.size)), other)


@LOOKUPS.of("gather", read=True)
def gather(call: Call) -> Result:
    """Along one dimension each element says which is read there; the others are those of the indices."""
    tensor, index = call["self"], call["index"]
    if not tensor.shape or not index.shape:
        raise NotFollowed("a tensor without dimensions")
    _alongside(call, tensor, index, call["dim"] % len(tensor.shape))
    return _looked_up(TensorType.of(index.axes()), tensor)


@LOOKUPS.of("scatter", "scatter_add", "scatter_reduce", read=True)
def scatter(call: Call) -> Result:
    """Along one dimension each index says where a value is put or added. Of two values for one place, any may stay."""
    tensor, index = call["self"], call["index"]
    values = call.arguments.get("src", call.arguments.get("value"))
    if not tensor.shape or not index.shape:
        raise NotFollowed("a tensor without dimensions")
    _alongside(call, tensor, index, call["dim"] % len(tensor.shape))
    _read(tensor)
    if isinstance(values, TensorType):
        _read(values)
        if values.shape:
            for layout, other in zip(index.axes(), values.axes(), strict=True):
                call.tie(layout, other if other.size == layout.size else take(other, range(layout.size)))
    return TensorType.of(tensor.axes())


@LOOKUPS.of("one_hot", read=True)
def one_hot(call: Call) -> Result:
    """A new dimension, along which the one lies where the label says."""
    indices, classes = call["self"], call.shapes[0][-1]
    names = indices.labels
    if names is None or names.layout.size > classes:
        _read(indices)
        axis = fixed(classes, "classes of a number")
    else:
        rest = fixed(classes - names.layout.size, "classes that no label has")
        axis = names.layout if not rest.size else concatenate([names.layout, rest])
    return TensorType.of([*indices.axes(), axis])
