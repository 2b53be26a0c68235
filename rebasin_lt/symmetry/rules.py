"""What each ATen operator asks of the axes of its tensors: one small rule per operator.

A rule receives a `Call` and returns the type of the operator's result, or a tuple of them; it unifies whatever layouts
must agree for the operator to commute with permutations. An operator without a rule is sound too: the tracer fixes all
that it touches. So a rule may only ever ask too much, never too little, which `Symmetry.verify` checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rebasin_lt.symmetry.axes import Layout, concatenate, fixed, free, freeze, product, unify
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast, cat

Result = TensorType | tuple[TensorType, ...]


@dataclass
class Call:
    """An operator applied to types: its arguments by name, and the shapes of what it returns."""

    name: str
    arguments: dict[str, Any]  # tensors are TensorTypes, everything else is what it was
    shapes: list[tuple[int, ...]]  # of the tensors it returns
    reads: list[tuple[TensorType, int]] = field(default_factory=list)  # (argument, dimension) that is summed over

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def tensors(self) -> list[TensorType]:
        """Every tensor argument, also those in lists."""
        found: list[TensorType] = []
        for value in self.arguments.values():
            found += [item for item in _flat(value) if isinstance(item, TensorType)]
        return found

    def tie(self, first: Layout, second: Layout) -> None:
        """Make two axes agree, in the name of this operator."""
        unify(first, second, self.name)

    def fix(self, tensor: TensorType, dims: Sequence[int], reason: str) -> None:
        """Fix some axes of a tensor."""
        for dim in dims:
            freeze(tensor.axis(dim), reason)


Rule = Callable[[Call], Result]
RULES: dict[str, Rule] = {}


def rule_of(operator: Any, rules: Mapping[str, Rule]) -> Rule | None:
    """The rule of an ATen operator; a variant that works in place (`relu_`) has that of the other (`relu`)."""
    name, _, overload = str(operator).removeprefix("aten.").partition(".")
    plain = name.removesuffix("_")
    found = rules.get(name) or rules.get(plain)
    if found is None and "pointwise" in rules:
        variants = (operator, getattr(getattr(torch.ops.aten, plain, None), overload, None))
        if any(torch.Tag.pointwise in getattr(variant, "tags", ()) for variant in variants):
            return rules["pointwise"]
    return found


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of some ATen operators, named without namespace and overload."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            RULES[operator] = function
        return function

    return register


def _flat(value: Any) -> list[Any]:
    return [item for part in value for item in _flat(part)] if isinstance(value, list | tuple) else [value]


# Elementwise ----------------------------------------------------------------------------------------------------------


@rule(
    *("alias", "contiguous", "detach", "lift_fresh_copy", "_to_copy", "to", "type_as", "softmax"),
    *("dropout", "feature_dropout", "alpha_dropout", "_softmax", "_log_softmax", "log_softmax"),
)
def same(call: Call) -> Result:
    """Nothing moves. A softmax too commutes with every permutation, also of the axis that it normalises."""
    return call.tensors[0]


@rule("pointwise", "copy", "fill", "zero", "hardswish")
def pointwise(call: Call) -> Result:
    """Elementwise with broadcasting: also the rule of every operator that ATen tags as pointwise."""
    return broadcast(call.tensors, call.name)


@rule("prelu")
def prelu(call: Call) -> Result:
    """One slope for all channels, or one for each."""
    inputs, weight = call["self"], call["weight"]
    if weight.shape != (1,):
        call.tie(inputs.axis(1), weight.axis(0))
    return inputs  # type: ignore[no-any-return]


@rule("glu")
def glu(call: Call) -> Result:
    """One half of a dimension gates the other."""
    tensor: TensorType = call["self"]
    half = tensor.shape[call["dim"]] // 2
    gated, gate = (tensor.take(call["dim"], range(start, start + half)) for start in (0, half))
    return broadcast([gated, gate], call.name)


@rule("zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def uniform(call: Call) -> Result:
    """All elements are alike, whatever is permuted."""
    return TensorType.free(call.shapes[0])


# Views ----------------------------------------------------------------------------------------------------------------


@rule("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def reshape(call: Call) -> Result:
    """The same elements in row-major order."""
    return call.tensors[0].reshape(call.shapes[0])


@rule("permute")
def permute(call: Call) -> Result:
    """Dimensions change places."""
    return call["self"].permute(call["dims"])  # type: ignore[no-any-return]


@rule("transpose", "swapaxes", "t", "numpy_T", "mT")
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


@rule("expand", "expand_as")
def expand(call: Call) -> Result:
    """Along a dimension that is spread all elements are alike, so it may be permuted."""
    tensor = call.tensors[0]
    shape = call.shapes[0]
    tensor = tensor.reshape((1,) * (len(shape) - len(tensor.shape)) + tensor.shape)
    spread = [dim for dim, size in enumerate(shape) if tensor.shape[dim] != size]
    if not spread:
        return tensor
    return TensorType.of([free(shape[dim]) if dim in spread else layout for dim, layout in enumerate(tensor.axes())])


@rule("repeat")
def repeat(call: Call) -> Result:
    """Every dimension is laid end to end with itself."""
    tensor: TensorType = call["self"]
    tensor = tensor.reshape((1,) * (len(call["repeats"]) - len(tensor.shape)) + tensor.shape)
    copies = [shape // size for shape, size in zip(call.shapes[0], tensor.shape, strict=True)]
    return TensorType.of([product([fixed(n), axis]) for n, axis in zip(copies, tensor.axes(), strict=True)])


@rule("cat", "concat")
def concatenation(call: Call) -> Result:
    """Tensors end to end."""
    return cat([tensor for tensor in call.tensors if tensor.shape != (0,)], call["dim"], call.name)


@rule("stack")
def stack(call: Call) -> Result:
    """Tensors end to end along a new dimension, on which they cannot change places."""
    dim = call["dim"] % len(call.shapes[0])
    shape = tuple(1 if i == dim else size for i, size in enumerate(call.shapes[0]))
    return cat([tensor.reshape(shape) for tensor in call.tensors], dim, call.name)


@rule("split", "split_with_sizes", "chunk", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk")
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


@rule("slice", "narrow")
def slicing(call: Call) -> Result:
    """A range of one dimension."""
    tensor: TensorType = call["self"]
    dim = call["dim"] % len(tensor.shape)
    start, size, step = call.arguments.get("start") or 0, call.shapes[0][dim], call.arguments.get("step", 1)
    start = min(max(start + tensor.shape[dim] if start < 0 else start, 0), tensor.shape[dim])
    return tensor.take(dim, start + step * np.arange(size))


@rule("select")
def select(call: Call) -> Result:
    """One position of one dimension, which goes."""
    tensor: TensorType = call["self"]
    dim = call["dim"] % len(tensor.shape)
    return tensor.take(dim, [call["index"] % tensor.shape[dim]]).reshape(call.shapes[0])


@rule("roll")
def roll(call: Call) -> Result:
    """Positions move along, the last ones come first."""
    tensor: TensorType = call["self"]
    shifts, dims = _flat(call["shifts"]), _flat(call["dims"])
    if not dims:
        tensor.freeze("roll of the flattened tensor")
        return tensor
    for shift, dim in zip(shifts, dims, strict=True):
        tensor = tensor.take(dim, np.roll(np.arange(tensor.shape[dim]), shift))
    return tensor


@rule("flip")
def flip(call: Call) -> Result:
    """Positions in reverse order."""
    tensor: TensorType = call["self"]
    for dim in call["dims"]:
        tensor = tensor.take(dim, np.arange(tensor.shape[dim])[::-1])
    return tensor


@rule("constant_pad_nd", "pad")
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


# Lookups --------------------------------------------------------------------------------------------------------------


@rule("embedding")
def embedding(call: Call) -> Result:
    """Rows are chosen by indices, so they stay; their elements are units."""
    weight, indices = call["weight"], call["indices"]
    freeze(weight.axis(0), "rows are looked up by index")
    return TensorType.of([*indices.axes(), weight.axis(1)])


@rule("index_select")
def index_select(call: Call) -> Result:
    """Positions are chosen by a tensor, so they stay."""
    tensor: TensorType = call["self"]
    freeze(tensor.axis(call["dim"]), "positions are looked up by index")
    call["index"].freeze("indices into a table")
    return tensor.replace(call["dim"], fixed(call.shapes[0][call["dim"] % len(tensor.shape)], "looked up by index"))


@rule("index")
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


# Sums of products -----------------------------------------------------------------------------------------------------


@rule("mm", "bmm", "matmul", "mv", "dot")
def matmul(call: Call) -> Result:
    """The last axis of the first factor meets the second last, or only, axis of the second; batches are spread."""
    left, right = call.tensors
    rows, columns = left.axes(), right.axes()
    call.tie(rows[-1], columns[-2] if len(columns) > 1 else columns[0])
    call.reads = [(left, len(rows) - 1), (right, max(0, len(columns) - 2))]
    batches = [layouts[:-2] for layouts in (rows, columns) if len(layouts) > 2]
    outer = _spread_batches(call, batches)
    return TensorType.of([*outer, *rows[-2:-1], *columns[-1:][: len(columns) - 1]])


@rule("einsum")
def einsum(call: Call) -> Result:
    """Axes with the same letter meet; those that the output does not name are summed over."""
    inputs, _, output = call["equation"].replace(" ", "").partition("->")
    letters = inputs.split(",")
    if "." in inputs or not output or any(len(set(term)) < len(term) for term in letters):
        raise NotImplementedError("einsum with an ellipsis, a diagonal or without an output")
    axes: dict[str, Layout] = {}
    for term, tensor in zip(letters, call["tensors"], strict=True):
        for letter, layout in zip(term, tensor.axes(), strict=True):
            call.tie(axes.setdefault(letter, layout), layout)
    if len(letters) > 1:
        places = [(tensor, i) for term, tensor in zip(letters, call["tensors"], strict=True) for i in range(len(term))]
        call.reads = [place for place, letter in zip(places, "".join(letters), strict=True) if letter not in output]
    return TensorType.of([axes[letter] for letter in output])


def _spread_batches(call: Call, batches: list[list[Layout]]) -> list[Layout]:
    if not batches:
        return []
    return broadcast([TensorType.of(layouts) for layouts in batches], call.name).axes()


@rule("addmm", "baddbmm")
def addmm(call: Call) -> Result:
    """A product plus a bias."""
    bias, left, right = call.tensors
    inner = Call(call.name, {"left": left, "right": right}, call.shapes)
    total = matmul(inner)
    call.reads = inner.reads
    assert isinstance(total, TensorType)
    return broadcast([total, bias], call.name)


@rule("linear")
def linear(call: Call) -> Result:
    """Inputs meet the second axis of the weight; outputs are its first."""
    inputs, weight, bias = call["input"], call["weight"], call["bias"]
    call.tie(inputs.axis(-1), weight.axis(-1))
    call.reads = [(inputs, len(inputs.shape) - 1)]
    if len(weight.shape) == 1:
        return inputs.drop([-1])  # type: ignore[no-any-return]
    if bias is not None:
        call.tie(bias.axis(-1), weight.axis(0))
    return inputs.replace(-1, weight.axis(0))  # type: ignore[no-any-return]


@rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution")
def convolution(call: Call) -> Result:
    """Channels in g groups: whole groups may be permuted, and the units within a group alike in all groups.

    Inputs are (group, input of a group), outputs (group, output of a group). The weight's axes are outputs and inputs
    of a group; of a transposed convolution inputs and outputs of a group. Sites and kernel positions are fixed. One
    group is an ordinary convolution, as many groups as channels a depthwise one.
    """
    inputs, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    transposed = call.arguments.get("transposed", "transpose" in call.name)
    group = free(groups)
    inner = free(inputs.shape[-len(weight.shape) + 1] // groups)
    outer = free((weight.shape[1] * groups if transposed else weight.shape[0]) // groups)
    call.fix(weight, range(2, len(weight.shape)), "kernel positions of a convolution")
    channel = len(inputs.shape) - len(weight.shape) + 1
    call.fix(inputs, range(channel + 1, len(inputs.shape)), "sites of a convolution")
    ins, outs = product([group, inner]), product([group, outer])
    call.tie(inputs.axis(channel), ins)
    call.tie(weight.axis(0), ins if transposed else outs)
    call.tie(weight.axis(1), outer if transposed else inner)
    if bias is not None:
        call.tie(bias.axis(0), outs)
    call.reads = [(inputs, channel)]
    sites = [fixed(size, "sites of a convolution") for size in call.shapes[0][channel + 1 :]]
    return TensorType.of([*inputs.axes()[:channel], outs, *sites])


@rule(
    *("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"),
    *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
    *("_scaled_dot_product_cudnn_attention", "_scaled_dot_product_attention_math"),
)
def attention(call: Call) -> Result:
    """Queries meet keys within a head, weights meet values along the tokens; heads are a batch.

    Causal attention orders the tokens, so it fixes them.
    """
    query, key, value = (call[name].axes() for name in ("query", "key", "value"))
    mask = call.arguments.get("attn_mask", call.arguments.get("attn_bias"))
    if call.arguments.get("enable_gqa"):
        raise NotImplementedError("grouped queries")
    call.tie(query[-1], key[-1])
    call.tie(key[-2], value[-2])
    heads = _spread_batches(call, [query[:-2], key[:-2], value[:-2]])
    if isinstance(mask, TensorType):
        broadcast([TensorType.of([*heads, query[-2], key[-2]]), mask], call.name)
    if call.arguments.get("is_causal"):
        freeze(query[-2], "tokens of causal attention")
        freeze(key[-2], "tokens of causal attention")
    out = TensorType.of([*heads, query[-2], value[-1]])
    return _with_fixed_rest(call, out)


def _with_fixed_rest(call: Call, first: TensorType) -> Result:
    """The first result; further ones, such as indices or statistics, are not to be relied on, so they are fixed."""
    if len(call.shapes) == 1:
        return first
    return (first, *(TensorType.fixed(shape, f"a side result of {call.name}") for shape in call.shapes[1:]))


# Normalisation --------------------------------------------------------------------------------------------------------


@rule(
    *("batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "native_batch_norm"),
    *("instance_norm", "cudnn_batch_norm", "_batch_norm_no_update"),
)
def batch_norm(call: Call) -> Result:
    """One unit per channel, with all its statistics."""
    inputs = call["input"]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if call.arguments.get(name) is not None:
            call.tie(inputs.axis(1), call[name].axis(0))
    return _with_fixed_rest(call, inputs)


@rule("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Result:
    """Statistics over the normalised dimensions do not depend on order; the affine map has an element for each."""
    inputs = call["input"]
    axes = inputs.axes()
    for name in ("weight", "bias"):
        if call.arguments.get(name) is not None:
            parameter = call[name].axes()
            for layout, other in zip(axes[-len(parameter) :], parameter, strict=True):
                call.tie(layout, other)
    return _with_fixed_rest(call, TensorType.of(axes))


@rule("group_norm", "native_group_norm")
def group_norm(call: Call) -> Result:
    """Whole groups may be permuted, and the units within a group alike in all groups."""
    inputs = call["input"]
    groups = int(call.arguments["num_groups"] if call.name == "group_norm" else call["group"])
    channels = product([free(groups), free(inputs.shape[1] // groups)])
    call.tie(inputs.axis(1), channels)
    for name in ("weight", "bias"):
        if call.arguments.get(name) is not None:
            call.tie(call[name].axis(0), channels)
    return _with_fixed_rest(call, inputs)


# Reductions -----------------------------------------------------------------------------------------------------------


@rule(
    "mean",
    "sum",
    "amax",
    "amin",
    "prod",
    "var",
    "std",
    "var_mean",
    "logsumexp",
    "linalg_vector_norm",
    "norm",
    "any",
    "all",
)
def reduction(call: Call) -> Result:
    """The order of what is reduced does not matter."""
    tensor = call.tensors[0]
    dims = call.arguments.get("dim")
    every = range(len(tensor.shape)) if dims is None or dims == [] else _flat(dims)
    reduced = tensor.drop(list(every), keepdim=bool(call.arguments.get("keepdim", False)))
    return reduced if len(call.shapes) == 1 else (reduced,) * len(call.shapes)


@rule(
    *(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)),
    *(f"max_pool{n}d_with_indices" for n in (2, 3)),
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "avg_pool1d"),
    *(
        f"upsample_{kind}"
        for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d", "trilinear3d")
    ),
    *("_upsample_bilinear2d_aa", "_upsample_nearest_exact2d"),
)
def sites(call: Call) -> Result:
    """Sites change, each channel by itself."""
    tensor = call.tensors[0]
    changed = range(len(tensor.shape) - _num_sites(call.name), len(tensor.shape))
    call.fix(tensor, changed, f"sites of {call.name}")
    kept = tensor.axes()[: len(tensor.shape) - len(changed)]
    new = [fixed(size, f"sites of {call.name}") for size in call.shapes[0][len(kept) :]]
    return _with_fixed_rest(call, TensorType.of([*kept, *new]))


def _num_sites(name: str) -> int:
    return int(next(digit for digit in name if digit in "123" and f"{digit}d" in name))


@rule("pixel_shuffle")
def pixel_shuffle(call: Call) -> Result:
    """Channels (c, r, r) spread over sites: the c may be permuted."""
    tensor: TensorType = call["self"]
    r = call["upscale_factor"]
    *batch, channels, height, width = tensor.shape
    call.fix(tensor, [-1, -2], "sites of pixel_shuffle")
    split = tensor.reshape((*batch, channels // r**2, r * r, height, width))
    call.fix(split, [-3], "sites of pixel_shuffle")
    kept = split.axes()[: len(batch) + 1]
    return TensorType.of([*kept, *(fixed(size, "sites of pixel_shuffle") for size in (height * r, width * r))])
