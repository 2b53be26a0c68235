"""Operators that only say which element lies where."""

from __future__ import annotations

import numpy as np

from rebasin_lt.symmetry.axes import freeze
from rebasin_lt.symmetry.call import Call, NotFollowed, Result, Rules, flat
from rebasin_lt.symmetry.layouts import concatenate, fixed, product
from rebasin_lt.symmetry.tensor_type import TensorType, cat

VIEWS = Rules()


@VIEWS.of(
    "view",
    "_unsafe_view",
    "reshape",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_as",
    "reshape_as",
    move=True,
)
def reshape(call: Call) -> Result:
    """The same elements in row-major order."""
    return call.tensors[0].reshape(call.shapes[0])


@VIEWS.of("permute", move=True)
def permute(call: Call) -> Result:
    """Dimensions change places."""
    return call["self"].permute(call["dims"])  # type: ignore[no-any-return]


@VIEWS.of("transpose", "swapaxes", "t", "numpy_T", "mT", move=True)
def transpose(call: Call) -> Result:
    """Two dimensions change places."""
    tensor: TensorType = call["self"]
    ndim = len(tensor.shape)
    order = list(range(ndim))
    if ndim > 1:
        i = call.arguments.get("dim0", call.arguments.get("axis0", ndim - 2)) % ndim
        j = call.arguments.get("dim1", call.arguments.get("axis1", ndim - 1)) % ndim
        order[i], order[j] = j, i
    return tensor.permute(order)


@VIEWS.of("expand", "expand_as", move=True)
def expand(call: Call) -> Result:
    """Along a dimension that is spread all elements are alike, so it may be permuted."""
    tensor = call.tensors[0]
    shape = call.shapes[0]
    tensor = tensor.reshape((1,) * (len(shape) - len(tensor.shape)) + tensor.shape)
    spread = [dim for dim, size in enumerate(shape) if tensor.shape[dim] != size]
    if not spread:
        return tensor
    return TensorType.of([
        call.copied(shape[dim]) if dim in spread else layout for dim, layout in enumerate(tensor.axes())
    ])


@VIEWS.of("repeat", move=True)
def repeat(call: Call) -> Result:
    """Every dimension is laid end to end with itself; copies are alike, so they may change places."""
    tensor: TensorType = call["self"]
    tensor = tensor.reshape((1,) * (len(call["repeats"]) - len(tensor.shape)) + tensor.shape)
    copies = [shape // size for shape, size in zip(call.shapes[0], tensor.shape, strict=True)]
    return TensorType.of([product([call.copied(n), axis]) for n, axis in zip(copies, tensor.axes(), strict=True)])


@VIEWS.of("repeat_interleave", move=True)
def repeat_interleave(call: Call) -> Result:
    """Every position of one dimension comes several times in a row, all alike."""
    tensor: TensorType = call["self"]
    if not isinstance(call["repeats"], int) or call["dim"] is None:
        raise NotFollowed("a number of repetitions that depends on data, or of the flattened tensor")
    return tensor.replace(call["dim"], product([tensor.axis(call["dim"]), call.copied(call["repeats"])]))


@VIEWS.of("cat", "concat", move=True)
def concatenation(call: Call) -> Result:
    """Tensors end to end."""
    return cat([tensor for tensor in call.tensors if tensor.shape != (0,)], call["dim"], call.name)


@VIEWS.of("stack", move=True)
def stack(call: Call) -> Result:
    """Tensors end to end along a new dimension, on which they cannot change places."""
    dim = call["dim"] % len(call.shapes[0])
    shape = tuple(1 if i == dim else size for i, size in enumerate(call.shapes[0]))
    return cat([tensor.reshape(shape) for tensor in call.tensors], dim, call.name)


@VIEWS.of("split", "split_with_sizes", "chunk", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk", move=True)
def split(call: Call) -> Result:
    """A tensor cut into pieces along a dimension."""
    tensor: TensorType = call["self"]
    dim = call["dim"] % len(tensor.shape)
    pieces, start = [], 0
    for shape in call.shapes:
        size = shape[dim] if len(shape) == len(tensor.shape) else 1  # unbind drops the dimension
        pieces.append(tensor.take(dim, range(start, start + size)).reshape(shape))
        start += size
    return tuple(pieces)


@VIEWS.of("slice", "narrow", move=True)
def slicing(call: Call) -> Result:
    """A range of one dimension."""
    tensor: TensorType = call["self"]
    dim = call["dim"] % len(tensor.shape)
    start, size, step = call.arguments.get("start") or 0, call.shapes[0][dim], call.arguments.get("step", 1)
    start = min(max(start + tensor.shape[dim] if start < 0 else start, 0), tensor.shape[dim])
    return tensor.take(dim, start + step * np.arange(size))


@VIEWS.of("select", move=True)
def select(call: Call) -> Result:
    """One position of one dimension, which goes."""
    tensor: TensorType = call["self"]
    dim = call["dim"] % len(tensor.shape)
    return tensor.take(dim, [call["index"] % tensor.shape[dim]]).reshape(call.shapes[0])


@VIEWS.of("roll", move=True)
def roll(call: Call) -> Result:
    """Positions move along, the last ones come first."""
    tensor: TensorType = call["self"]
    shifts, dims = flat(call["shifts"]), flat(call["dims"])
    if not dims:
        tensor.freeze("roll of the flattened tensor")
        return tensor
    for shift, dim in zip(shifts, dims, strict=True):
        tensor = tensor.take(dim, np.roll(np.arange(tensor.shape[dim]), shift))
    return tensor


@VIEWS.of("flip", move=True)
def flip(call: Call) -> Result:
    """Positions in reverse order."""
    tensor: TensorType = call["self"]
    for dim in call["dims"]:
        tensor = tensor.take(dim, np.arange(tensor.shape[dim])[::-1])
    return tensor


@VIEWS.of("constant_pad_nd", "pad")
def pad(call: Call) -> Result:
    """Constants around a tensor stay where they are. Other modes than a constant repeat units, so they fix them."""
    tensor: TensorType = call["self"]
    amounts = call["pad"]
    for i, dim in enumerate(range(len(tensor.shape) - 1, len(tensor.shape) - 1 - len(amounts) // 2, -1)):
        before, after = amounts[2 * i : 2 * i + 2]
        if call.arguments.get("mode", "constant") != "constant":
            freeze(tensor.axis(dim), "padded with values of its own")
        if before or after:
            size = tensor.shape[dim]
            if before < 0 or after < 0:
                tensor = tensor.take(dim, range(max(0, -before), size - max(0, -after)))
            ends = [fixed(max(0, amount), "padded") for amount in (before, after)]
            tensor = tensor.replace(dim, concatenate([ends[0], tensor.axis(dim), ends[1]]))
    return tensor
