"""REPAIR: give the units of an interpolated network the statistics that the ends predict.

Jordan et al., arXiv 2211.08403: between two networks the units' variance collapses. Each channel of every convolution
and linear output is shifted and scaled to mean (1-α)·μ_A + α·μ_B and standard deviation (1-α)·σ_A + α·σ_B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from rebasin_lt.connectivity.batchnorm import batchnorm_layers, clone, reset_batchnorm
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.matching.batches import Network, check_repeatable, device_of, inputs_of, nonempty, state_of
from rebasin_lt.matching.moments import UnitMoments


def repair(
    network: nn.Module, endpoints: tuple[Network, Network], alpha: float, batches: Iterable[Any]
) -> dict[str, Tensor]:
    """The state dict of the repaired point (1 - alpha)·A + alpha·B between `endpoints`, the networks or states (A, B).

    Without batch norm the correction is folded into weights and biases, layer by layer in the order of execution, each
    on the outputs that the layers repaired before it give: exact, for one pass over `batches` per layer, and one for
    each end. (The paper's single pass with inserted batch norm is exact only where all data are one batch.) At 0 and 1
    nothing changes beyond rounding. A layer without bias gets its standard deviation only, a channel that has become
    constant its mean only; a layer that is called several times is repaired approximately, transposed convolutions not.

    In a network with batch norm that keeps running statistics, REPAIR is `reset_batchnorm`: one pass, at the ends too.

    `network` gives architecture and device and is not modified; `batches` must be repeatable. Raises InputError for
    states that do not fit, and for batches that are empty or can be read only once.
    """
    return repaired_line(network, endpoints, batches)(alpha)


def repaired_line(
    network: nn.Module, endpoints: tuple[Network, Network], batches: Iterable[Any]
) -> Callable[[float], dict[str, Tensor]]:
    """`repair` as a function of alpha; the statistics of the ends are measured once, now. Raises as `repair`."""
    check_repeatable(batches)
    state_a, state_b = (state_of(end) for end in endpoints)
    if batchnorm_layers(network):
        return lambda alpha: reset_batchnorm(network, batches, interpolate(state_a, state_b, alpha))
    moments_a, moments_b = (output_moments(clone(network, state), batches) for state in (state_a, state_b))
    ends = {name: (moments, moments_b[name]) for name, moments in moments_a.items()}
    return lambda alpha: _repaired(clone(network, interpolate(state_a, state_b, alpha)), ends, alpha, batches)


@torch.no_grad()
def output_moments(
    network: nn.Module, batches: Iterable[Any], names: Iterable[str] | None = None
) -> dict[str, UnitMoments]:
    """Moments per channel of what the convolution and linear layers put out, by name, in the order of execution.

    One pass, in the mode the network is in; samples are rows, so images times sites. `names`: only those layers.
    Raises InputError if there is no batch.
    """
    layers = {name: module for name, module in network.named_modules() if _channel_dim(module)}
    moments: dict[str, UnitMoments] = {}

    def observe(name: str, output: Tensor) -> None:
        units = output.movedim(_channel_dim(layers[name]), -1).flatten(0, -2)
        moments.setdefault(name, UnitMoments(units.shape[-1])).update(units)

    handles = [
        layers[name].register_forward_hook(lambda _module, _inputs, output, name=name: observe(name, output))
        for name in (layers if names is None else names)
    ]
    device = device_of(state_of(network))
    try:
        for batch in nonempty(batches):
            network(*inputs_of(batch, device))
    finally:
        for handle in handles:
            handle.remove()
    return moments


def _channel_dim(module: nn.Module) -> int:
    """The output dimension, from the end, that holds the channels of a layer that can be repaired; 0 for others."""
    if isinstance(module, nn.Linear):
        return -1
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return -1 - len(module.kernel_size)
    return 0


def _repaired(
    network: nn.Module,
    ends: Mapping[str, tuple[UnitMoments, UnitMoments]],  # layer -> moments at alpha 0 and 1
    alpha: float,
    batches: Iterable[Any],
) -> dict[str, Tensor]:
    for name, (first, second) in ends.items():
        now = output_moments(network, batches, [name])[name]
        mean, std = torch.lerp(first.mean, second.mean, alpha), torch.lerp(first.std, second.std, alpha)
        scale = torch.where(now.live, std / now.std, 1.0)
        _rescale_(network.get_submodule(name), scale, mean - scale * now.mean)
    return state_of(network)


@torch.no_grad()
def _rescale_(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Make `layer` put out scale · output + shift per channel, as far as it has a bias to shift."""
    weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
    weight.copy_(weight * scale.reshape(-1, *[1] * (weight.dim() - 1)))
    if bias is not None:
        bias.copy_(bias * scale + shift)
