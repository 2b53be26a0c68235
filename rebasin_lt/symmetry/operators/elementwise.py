"""Operators that work on every element by itself."""

from __future__ import annotations

from rebasin_lt.symmetry.call import Call, Result, Rules
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast

ELEMENTWISE = Rules()


@ELEMENTWISE.of(
    *("alias", "contiguous", "detach", "lift_fresh_copy", "_to_copy", "to", "type_as", "softmax"),
    *("dropout", "feature_dropout", "alpha_dropout", "_softmax", "_log_softmax", "log_softmax"),
)
def same(call: Call) -> Result:
    """Nothing moves. A softmax too commutes with every permutation, also of the axis that it normalises."""
    return call.tensors[0]


@ELEMENTWISE.of("pointwise", "copy", "fill", "zero", "hardswish")
def pointwise(call: Call) -> Result:
    """Elementwise with broadcasting: also the rule of every operator that ATen tags as pointwise."""
    return broadcast(call.tensors, call.name)


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


@ELEMENTWISE.of("zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def uniform(call: Call) -> Result:
    """All elements are alike, whatever is permuted."""
    return TensorType.free(call.shapes[0])
