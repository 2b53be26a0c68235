"""Operators that summarise units, sites or examples: normalisation, reduction, pooling."""

from __future__ import annotations

from rebasin_lt.symmetry.call import Call, Result, Rules, flat, with_fixed_rest
from rebasin_lt.symmetry.layouts import fixed, free, product
from rebasin_lt.symmetry.tensor_type import TensorType

STATISTICS = Rules()
REDUCTIONS = (
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
    "nansum",
    "nanmean",
    "std_mean",
    "count_nonzero",
    "aminmax",
)
"""Of the elements along some dimensions, in whatever order they lie."""


@STATISTICS.of(
    *("batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "native_batch_norm"),
    *("instance_norm", "cudnn_batch_norm", "_batch_norm_no_update"),
)
def batch_norm(call: Call) -> Result:
    """One unit per channel, with all its statistics."""
    inputs = call["input"]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if call.arguments.get(name) is not None:
            call.tie(inputs.axis(1), call[name].axis(0))
    return with_fixed_rest(call, inputs)


@STATISTICS.of("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Result:
    """Statistics over the normalised dimensions do not depend on order; the affine map has an element for each."""
    inputs = call["input"]
    axes = inputs.axes()
    for name in ("weight", "bias"):
        if call.arguments.get(name) is not None:
            parameter = call[name].axes()
            for layout, other in zip(axes[-len(parameter) :], parameter, strict=True):
                call.tie(layout, other)
    return with_fixed_rest(call, TensorType.of(axes))


@STATISTICS.of("group_norm", "native_group_norm")
def group_norm(call: Call) -> Result:
    """Whole groups may be permuted, and the units within a group alike in all groups."""
    inputs = call["input"]
    groups = int(call.arguments["num_groups"] if call.name == "group_norm" else call["group"])
    channels = product([free(groups), free(inputs.shape[1] // groups)])
    call.tie(inputs.axis(1), channels)
    for name in ("weight", "bias"):
        if call.arguments.get(name) is not None:
            call.tie(call[name].axis(0), channels)
    return with_fixed_rest(call, inputs)


@STATISTICS.of(*REDUCTIONS)
def reduction(call: Call) -> Result:
    """The order of what is reduced does not matter."""
    tensor = call.tensors[0]
    dims = call.arguments.get("dim")
    every = range(len(tensor.shape)) if dims is None or dims == [] else flat(dims)
    reduced = tensor.drop(list(every), keepdim=bool(call.arguments.get("keepdim", False)))
    return reduced if len(call.shapes) == 1 else (reduced,) * len(call.shapes)


@STATISTICS.of(
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
    return with_fixed_rest(call, TensorType.of([*kept, *new]))


def _num_sites(name: str) -> int:
    return int(next(digit for digit in name if digit in "123" and f"{digit}d" in name))


@STATISTICS.of("pixel_shuffle")
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
