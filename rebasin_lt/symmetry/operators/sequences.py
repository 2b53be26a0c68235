"""Operators along an order: running sums, spectra, and what is sampled between sites."""

from __future__ import annotations

from rebasin_lt.symmetry.call import Call, Result, Rules, flat, with_fixed_rest
from rebasin_lt.symmetry.layouts import fixed
from rebasin_lt.symmetry.meaning import COUNTS, ENDS, Meaning
from rebasin_lt.symmetry.tensor_type import TensorType

SEQUENCES = Rules()


@SEQUENCES.of("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", read=True)
def running(call: Call) -> Result:
    """Positions along `dim` stay in their order; the other dimensions are worked on each by itself.

    Running sums of how often each label comes are the ends of their ranges.
    """
    tensor: TensorType = call["self"]
    meaning = tensor.meaning
    if meaning is not None and meaning.kind == COUNTS and call.name == "cumsum":
        return tensor.meaning_as(Meaning(ENDS, meaning.layout, meaning.source))
    if meaning is not None:
        meaning.forget(f"numbers that name these units are read by {call.name}")
    if tensor.shape:
        call.fix(tensor, [call["dim"]], f"{call.name} in their order")
    return with_fixed_rest(call, tensor.meaning_as(None))


@SEQUENCES.of("tril", "triu")
def triangle(call: Call) -> Result:
    """Zeros on one side of the diagonal tell rows and columns apart."""
    call.fix(call["self"], [-1, -2], f"rows and columns of {call.name}")
    return call.tensors[0]


_SPECTRA = (
    *(f"fft_{inverse}{kind}fft{n}" for inverse in ("", "i") for kind in ("", "r", "h") for n in ("", "2", "n")),
    *("_fft_r2c", "_fft_c2r", "_fft_c2c", "fft_fftshift", "fft_ifftshift"),
)


@SEQUENCES.of(*_SPECTRA)
def spectrum(call: Call) -> Result:
    """Positions along the transformed dimensions stay in their order."""
    tensor: TensorType = call["self"]
    dims = call.arguments.get("dim")
    every = range(len(tensor.shape)) if dims is None else flat(dims)
    reason = f"positions of {call.name}"
    call.fix(tensor, list(every), reason)
    axes = tensor.axes()
    for dim in every:
        axes[dim] = fixed(call.shapes[0][dim], reason)
    return TensorType.of(axes)


@SEQUENCES.of("real", "imag", "conj", "_conj", "resolve_conj", "resolve_neg")
def component(call: Call) -> Result:
    """A part of complex numbers, each by itself."""
    return call.tensors[0]


@SEQUENCES.of("view_as_real")
def view_as_real(call: Call) -> Result:
    """A new dimension of real and imaginary parts."""
    return TensorType.of([*call["self"].axes(), fixed(2, "real and imaginary parts")])


@SEQUENCES.of("view_as_complex")
def view_as_complex(call: Call) -> Result:
    """The last dimension is that of real and imaginary parts."""
    call.fix(call["self"], [-1], "real and imaginary parts")
    return TensorType.of(call["self"].axes()[:-1])


@SEQUENCES.of("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(call: Call) -> Result:
    """Sites are read where a grid says, all channels at the same places."""
    inputs, grid = call["input"], call["grid"]
    call.fix(inputs, range(2, len(inputs.shape)), "sites of a grid")
    call.fix(grid, range(1, len(grid.shape)), "sites of a grid")
    call.tie(inputs.axis(0), grid.axis(0))
    sites = [fixed(size, "sites of a grid") for size in call.shapes[0][2:]]
    return TensorType.of([inputs.axis(0), inputs.axis(1), *sites])
