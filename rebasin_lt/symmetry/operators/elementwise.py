"""Operators that work on every element by itself."""

from __future__ import annotations

from rebasin_lt.symmetry.axes import take
from rebasin_lt.symmetry.call import Call, Result, Rules
from rebasin_lt.symmetry.layouts import free
from rebasin_lt.symmetry.meaning import labels
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast

ELEMENTWISE = Rules()


@ELEMENTWISE.of("alias", "contiguous", "clone", "detach", "lift_fresh_copy", "_to_copy", "to", "type_as", move=True)
def copied(call: Call) -> Result:
    """The same numbers, perhaps in another precision."""
    return call.tensors[0]


@ELEMENTWISE.of("dropout", "feature_dropout", "alpha_dropout")
def same(call: Call) -> Result:
    """Nothing moves."""
    return call.tensors[0]


@ELEMENTWISE.of("softmax", "log_softmax", "_softmax", "_log_softmax")
def softmax(call: Call) -> Result:
    """It commutes with every permutation of the dimension that it normalises, which is told apart from others."""
    tensor = call.tensors[0]
    return tensor.separated([call["dim"] % len(tensor.shape)]) if tensor.shape else tensor


@ELEMENTWISE.of(
    "pointwise", "copy", "fill", "zero", "hardswish", "floor_divide", "rsub", "log_sigmoid", "complex", "polar"
)
def pointwise(call: Call) -> Result:
    """Elementwise with broadcasting: also the rule of every operator that ATen tags as pointwise."""
    return broadcast(call.tensors, call.name)


@ELEMENTWISE.of("eq", "ne", read=True)
def compared(call: Call) -> Result:
    """Labels of the same units are equal or not, whatever they are called; other numbers are compared as they are."""
    named = [tensor.labels for tensor in call.tensors]
    if len(named) == 2 and named[0] is not None and named[1] is not None:
        smaller, larger = sorted((named[0].layout, named[1].layout), key=lambda layout: layout.size)
        call.tie(smaller, take(larger, range(smaller.size)))
        return broadcast([tensor.meaning_as(None) for tensor in call.tensors], call.name)
    for tensor in call.tensors:
        if tensor.meaning is not None:
            tensor.meaning.forget("numbers that name these units are compared with others")
    return pointwise(call)


@ELEMENTWISE.of("prelu")
def prelu(call: Call) -> Result:
    """One slope for all channels, or one for each."""
    inputs, weight = call["self"], call["weight"]
    if weight.shape != (1,):
        call.tie(inputs.axis(1), weight.axis(0))
    return inputs  # type: ignore[no-any-return]


@ELEMENTWISE.of("glu")
def glu(call: Call) -> Result:
    """One half of a dimension gates the other."""
    tensor: TensorType = call["self"]
    half = tensor.shape[call["dim"]] // 2
    gated, gate = (tensor.take(call["dim"], range(start, start + half)) for start in (0, half))
    return broadcast([gated, gate], call.name)


@ELEMENTWISE.of(
    "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", read=True
)
def uniform(call: Call) -> Result:
    """All elements are alike, whatever is permuted."""
    return TensorType.of([call.copied(size) for size in call.shapes[0]])


@ELEMENTWISE.of("empty", "empty_like", "new_empty", "empty_strided", read=True)
def unset(call: Call) -> Result:
    """Nothing may depend on what was there before something is written, so it may mean anything."""
    size = call.shapes[0][0] if call.shapes[0] else 1
    return TensorType.free(call.shapes[0]).meaning_as(labels(free(size)))


@ELEMENTWISE.of("arange", read=True)
def counted_up(call: Call) -> Result:
    """0, 1, 2, ...: each is the label of the place where it lies."""
    (size,) = call.shapes[0]
    if call.arguments.get("start", 0) != 0 or call.arguments.get("step", 1) != 1 or call.arguments["end"] != size:
        return TensorType.fixed((size,), "numbers in their order")
    axis = free(size)
    return TensorType.of([axis]).meaning_as(labels(axis))
