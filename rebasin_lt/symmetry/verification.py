"""The numerical check of a symmetry: the network itself, in float64, before and after a permutation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Hashable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rebasin_lt.errors import SymmetryError
from rebasin_lt.feeding.answer import tensors_of_answer
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry.advice import first_line
from rebasin_lt.symmetry.double import in_double
from rebasin_lt.symmetry.nodes import identity_of

TOLERANCE = 1e-9  # relative error of the permuted network's outputs, float64
_SINGLE_TOLERANCE = 1e-4  # the same in float32, for networks that do not run in float64
_ROUNDING = 1e-6  # an error up to here may be rounding, amplified by a deep network


class DoesNotRun(SymmetryError):
    """A network that does not run in the dtype in which it should be verified."""


def checked_error(
    model: nn.Module,
    call: ForwardCall,
    names: Collection[tuple[str, ...]],
    permute: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    generator: torch.Generator,
) -> tuple[float, str]:
    """The `permutation_error` and the dtype in which it was measured: float32 for what does not run in float64.

    Raises SymmetryError if it is too large.
    """
    measured = partial(permutation_error, model, call, names, permute, generator)
    precision, tolerance = "float64", TOLERANCE
    try:
        error = measured()
        if TOLERANCE < error <= _ROUNDING:
            # A network that amplifies rounding a million times would show a real asymmetry as large as its outputs.
            error = measured(gain=0.9)
    except DoesNotRun:
        precision, tolerance = "float32", _SINGLE_TOLERANCE
        # Rounding may choose another expert once in a while; a real asymmetry shows every time.
        error = min(measured(dtype=torch.float32) for _ in range(2))
    if not error <= tolerance:
        raise SymmetryError(
            f"a random permutation changes the outputs of {type(model).__name__} by a relative error of "
            f"{error:.2e} (expected at most {tolerance:g}): the symmetry found is not one of this network"
        )
    return error, precision


def permutation_error(
    model: nn.Module,
    call: ForwardCall,
    names: Collection[tuple[str, ...]],
    permute: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    generator: torch.Generator,
    gain: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> float:
    """The relative error of the outputs after `permute`, on the CPU, at random inputs and weights.

    Weights have standard deviation `gain` / sqrt(fan-in). `names` are those of the parameters and buffers that
    `permute` takes, those that change places with one another together. The model is not modified, and each of the two
    runs is on a copy of its own, for a network may keep what it computes of its weights in evaluation mode. Raises
    SymmetryError for one that cannot be copied or whose outputs are not finite, DoesNotRun for one that does not run in
    this dtype.
    """
    try:
        network = copy.deepcopy(model).cpu().to(dtype).train().eval()  # what was kept is let go of in training mode
    except RuntimeError as problem:
        raise SymmetryError(_unverified(model, problem, dtype)) from problem
    same = {name: identity_of(tensor) for name, tensor in tensors_of(model).items()}
    known = {name for together in names for name in together}
    state: dict[str, Tensor] = {}
    values: dict[Hashable, Tensor] = {}  # tied tensors get the same
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name in known:
            if same[name] not in values:
                values[same[name]] = _generic(tensor, generator, gain)
            state[name] = values[same[name]]
        if isinstance(tensor, nn.Parameter):
            tensor.data = tensor.data.new_empty(0)  # `state` holds it: a large network is in memory only once
    values.clear()
    call = call.laid_out(lambda value: _drawn(value, generator, dtype))
    other = copy.deepcopy(network)
    precision = in_double if dtype == torch.float64 else nullcontext
    with torch.no_grad():
        try:
            with precision():
                expected = _outputs(functional_call(network, state, call.args, call.kwargs))
        except Exception as problem:
            raise DoesNotRun(_unverified(model, problem, dtype)) from problem
        if not expected:
            raise SymmetryError(_unverified(model, TypeError("it returns no tensor"), dtype))
        if not all(bool(output.isfinite().all()) for output in expected):
            raise SymmetryError(
                f"the outputs of {type(model).__name__} under random weights are not finite, so its symmetry "
                "cannot be verified; verify=False skips the check"
            )
        for together in names:  # outside of `precision`, which every operator waits for
            state |= permute({name: state[name] for name in together if name in state})
        with precision():
            actual = _outputs(functional_call(other, state, call.args, call.kwargs))
    return max(_relative_error(a, b) for a, b in zip(actual, expected, strict=True))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of its state dict, which may hold other state too."""
    state = model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _generic(tensor: Tensor, generator: torch.Generator, gain: float) -> Tensor:
    """The tensor at values that let every unit be seen in the outputs.

    One that is constant along some axis becomes random: in [0.5, 1.5), or in [-0.5, 0.5) where it is zero. Weights get
    the variance gain² / fan-in: as they are initialised, deep networks may damp what the first layers do to 1e-13 of
    the outputs, and at twice that variance some gated ones amplify rounding to 1e-10.
    """
    values = tensor.detach()
    if not values.is_floating_point() or not values.numel():
        return values
    alike = any(bool((values == values.narrow(dim, 0, 1)).all()) for dim in range(values.ndim) if values.shape[dim] > 1)
    if alike:
        offset = -0.5 if isinstance(tensor, nn.Parameter) and not values.any() else 0.5  # variances stay positive
        values = torch.rand(values.shape, generator=generator, dtype=values.dtype) + offset
    if isinstance(tensor, nn.Parameter) and values.ndim > 1 and len(values) > 1:
        values = values * gain / (values.square().mean() * values[0].numel()).sqrt()
    return values


def _drawn(argument: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    if argument.is_floating_point():
        return torch.randn(argument.shape, generator=generator, dtype=dtype)
    return argument.cpu()


def _outputs(value: Any) -> list[Tensor]:
    """The tensors in a network's output, whatever its structure, in float64."""
    return [tensor.double() for tensor in tensors_of_answer(value)]


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max()
    return float((actual - expected).abs().max() / scale) if scale > 0 else float((actual - expected).abs().max())


def _unverified(model: nn.Module, error: Exception, dtype: torch.dtype) -> str:
    return (
        f"the symmetry of {type(model).__name__} cannot be verified, for it does not run in "
        f"{str(dtype).removeprefix('torch.')} on the CPU: "
        f"{first_line(error)}; "
        "verify=False skips the check"
    )
