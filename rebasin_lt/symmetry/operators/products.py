"""Sums of products: matrices, convolutions, attention."""

from __future__ import annotations

from rebasin_lt.symmetry.axes import freeze
from rebasin_lt.symmetry.call import Call, NotFollowed, Result, Rules, flat, with_fixed_rest
from rebasin_lt.symmetry.layouts import Layout, fixed, free, product
from rebasin_lt.symmetry.meaning import ENDS, same_atom
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast

PRODUCTS = Rules()


@PRODUCTS.of("mm", "bmm", "matmul", "mv", "dot", "vdot")
def matmul(call: Call) -> Result:
    """The last axis of the first factor meets the second last, or only, axis of the second; batches are spread."""
    left, right = call.tensors
    rows, columns = left.axes(), right.axes()
    call.tie(rows[-1], columns[-2] if len(columns) > 1 else columns[0])
    call.reads = [(left, len(rows) - 1), (right, max(0, len(columns) - 2))]
    batches = [layouts[:-2] for layouts in (rows, columns) if len(layouts) > 2]
    outer = _spread_batches(call, batches)
    return TensorType.of([*outer, *rows[-2:-1], *columns[-1:][: len(columns) - 1]])


@PRODUCTS.of("einsum")
def einsum(call: Call) -> Result:
    """Axes with the same letter meet; those that the output does not name are summed over."""
    inputs, _, output = call["equation"].replace(" ", "").partition("->")
    letters = inputs.split(",")
    if "." in inputs or not output or any(len(set(term)) < len(term) for term in letters):
        raise NotFollowed("einsum with an ellipsis, a diagonal or without an output")
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


@PRODUCTS.of("outer")
def outer(call: Call) -> Result:
    """Each element of one vector with each of another."""
    first, second = call.tensors
    return TensorType.of([first.axis(0), second.axis(0)])


@PRODUCTS.of("addmm", "baddbmm")
def addmm(call: Call) -> Result:
    """A product plus a bias."""
    bias, left, right = call.tensors
    inner = Call(call.name, {"left": left, "right": right}, call.shapes)
    total = matmul(inner)
    call.reads = inner.reads
    assert isinstance(total, TensorType)
    return broadcast([total, bias], call.name)


@PRODUCTS.of("_grouped_mm", "transformers::grouped_mm_fallback", read=True)
def grouped_mm(call: Call) -> Result:
    """Rows in the order of labels, each multiplied by the matrix of its label.

    Rows and matrices may change places together where the rows were sorted by those labels of which the ends are given;
    else both stay.
    """
    rows, matrices = call.tensors[:2]
    ends: TensorType | None = call.arguments.get("offs")
    if ends is None or call.arguments.get("bias") is not None or (len(rows.shape), len(matrices.shape)) != (2, 3):
        raise NotFollowed("other arguments than rows, a matrix for each label, and ends")
    call.tie(rows.axis(1), matrices.axis(1))
    call.reads = [(rows, 1)]
    sources = [order.source for order in call.orders if same_atom(order.rows, rows.axis(0))]
    if ends.meaning is not None and ends.meaning.kind == ENDS and sources == [ends.meaning.source]:
        call.tie(ends.meaning.layout, matrices.axis(0))
    else:
        for tensor in (ends, *(tensor for tensor in (rows, matrices) if tensor.meaning is not None)):
            tensor.freeze("ends of ranges of rows")
        call.fix(rows, [0], "rows in ranges")
        call.fix(matrices, [0], "a matrix for each range of rows")
    return TensorType.of([rows.axis(0), matrices.axis(2)])


@PRODUCTS.of("bilinear", "_trilinear")
def bilinear(call: Call) -> Result:
    """Each output has a matrix between the units of two inputs."""
    if call.name == "bilinear":
        first, second, weight, bias = (call[name] for name in ("input1", "input2", "weight", "bias"))
    elif [call[f"expand{i}"] for i in (1, 2, 3)] + [call["sumdim"]] == [[1, 3], [0], [1, 2], [2, 3]]:
        first, weight, second, bias = call["i1"], call["i2"], call["i3"], None
    else:
        raise NotFollowed("a product of three in other dimensions")
    call.tie(first.axis(-1), weight.axis(1))
    call.tie(second.axis(-1), weight.axis(2))
    call.reads = [(tensor, len(tensor.shape) - 1) for tensor in (first, second)]
    if bias is not None:
        call.tie(bias.axis(0), weight.axis(0))
    batch = broadcast([first.drop([-1]), second.drop([-1])], call.name)
    return TensorType.of([*batch.axes(), weight.axis(0)])


@PRODUCTS.of("cdist", "_cdist_forward", "_euclidean_dist")
def distances(call: Call) -> Result:
    """From every row of one tensor to every row of the other; coordinates meet."""
    first, second = call.tensors[:2]
    rows, others = first.axes(), second.axes()
    call.tie(rows[-1], others[-1])
    batch = _spread_batches(call, [layouts[:-2] for layouts in (rows, others) if len(layouts) > 2])
    return TensorType.of([*batch, rows[-2], others[-2]])


@PRODUCTS.of("linear")
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


@PRODUCTS.of("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution")
def convolution(call: Call) -> Result:
    """Channels in g groups: whole groups may be permuted, and the units within a group alike in all groups.

    Inputs are (group, input of a group), outputs (group, output of a group). The weight's axes are outputs and inputs
    of a group; of a transposed convolution inputs and outputs of a group. Kernel positions are fixed, and so are sites
    where the kernel sees more than one. One group is an ordinary convolution, as many groups as channels a depthwise
    one.
    """
    inputs, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    transposed = call.arguments.get("transposed", "transpose" in call.name)
    group = free(groups)
    inner = free(inputs.shape[-len(weight.shape) + 1] // groups)
    outer = free((weight.shape[1] * groups if transposed else weight.shape[0]) // groups)
    call.fix(weight, range(2, len(weight.shape)), "kernel positions of a convolution")
    channel = len(inputs.shape) - len(weight.shape) + 1
    ins, outs = product([group, inner]), product([group, outer])
    call.tie(inputs.axis(channel), ins)
    call.tie(weight.axis(0), ins if transposed else outs)
    call.tie(weight.axis(1), outer if transposed else inner)
    if bias is not None:
        call.tie(bias.axis(0), outs)
    call.reads = [(inputs, channel)]
    return TensorType.of([*inputs.axes()[:channel], outs, *_sites(call, channel)])


def _sites(call: Call, channel: int) -> list[Layout]:
    """The sites of the result; along a dimension in which each is made of one alone, they are those of the input."""
    kernel = call["weight"].shape[2:]
    stride, padding, output_padding = (
        (flat(value) * len(kernel))[: len(kernel)]
        for value in (call["stride"], call["padding"], call.arguments.get("output_padding", 0))
    )
    sites = []
    for i, settings in enumerate(zip(kernel, stride, padding, output_padding, strict=True)):
        size = call.shapes[0][channel + 1 + i]
        alone = settings[:2] == (1, 1) and settings[2] in (0, "valid", "same") and settings[3] == 0
        if not alone:
            call.fix(call["input"], [channel + 1 + i], "sites of a convolution")
        sites.append(call["input"].axis(channel + 1 + i) if alone else fixed(size, "sites of a convolution"))
    return sites


@PRODUCTS.of(
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
        raise NotFollowed("grouped queries")
    call.tie(query[-1], key[-1])
    call.tie(key[-2], value[-2])
    heads = _spread_batches(call, [query[:-2], key[:-2], value[:-2]])
    if isinstance(mask, TensorType):
        broadcast([TensorType.of([*heads, query[-2], key[-2]]), mask], call.name)
    if call.arguments.get("is_causal"):
        freeze(query[-2], "tokens of causal attention")
        freeze(key[-2], "tokens of causal attention")
    out = TensorType.of([*heads, query[-2], value[-1]])
    return with_fixed_rest(call, out)
