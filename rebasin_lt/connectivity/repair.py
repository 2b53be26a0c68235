"""REPAIR: give the units of an interpolated network the statistics that the ends predict.

Jordan et al., arXiv 2211.08403: between two networks the units' variance collapses. Each channel of every convolution
and linear output is shifted and scaled to mean (1-α)·μ_A + α·μ_B and standard deviation (1-α)·σ_A + α·σ_B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from rebasin_lt.batches import Network, check_repeatable, network_of, state_of
from rebasin_lt.connectivity.batchnorm import batchnorm_layers, clone, reset_batchnorm
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.passes import run_all
from rebasin_lt.matching.moments import UnitMoments
from rebasin_lt.precision import sum_dtype

Weights = Mapping[str, Tensor]


def repair(
    network: nn.Module, endpoints: tuple[Network, Network], alpha: float, batches: Iterable[Any]
) -> dict[str, Tensor]:
    """The state dict of the repaired point (1 - alpha)·A + alpha·B between `endpoints`, the networks or states (A, B).

    Without batch norm the correction is folded into weights and biases, layer by layer in the order of execution, each
    on the outputs that the layers repaired before it give: exact, for one pass over `batches` per layer, and one for
    the ends. (The paper's single pass with inserted batch norm is exact only where all data are one batch.) At 0 and 1
    nothing changes beyond rounding. A layer without bias cannot shift its mean, so it gets the root mean square that
    the ends predict (ours; the standard deviation alone would scale the mean with it); a channel that has become
    constant gets its mean only; a layer that is called several times is repaired approximately, transposed
    convolutions not.

    In a network with batch norm that keeps running statistics, REPAIR is `reset_batchnorm`: one pass, at the ends too.

    `network` gives architecture and device and is not modified; `batches` must be repeatable. Raises InputError for
    states that do not fit, and for batches that are empty or can be read only once.

        >>> a, b = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> state = rb.repair(a, (a, b), 0.5, [torch.randn(8, 2)])
        >>> {name: tuple(tensor.shape) for name, tensor in state.items()}
        {'weight': (3, 2), 'bias': (3,)}
    """
    check_repeatable(batches)
    states = state_of(endpoints[0]), state_of(endpoints[1])
    if batchnorm_layers(network):
        return reset_batchnorm(network, batches, interpolate(*states, alpha))
    return RepairedLine(network, states, batches).states([alpha])[0]


class RepairedLine:
    """The repaired points between two states of a network without batch norm, at many alphas in shared passes.

    The ends are measured once, when it is made, in one pass. `means=False` is RESCALE: standard deviations are those of
    `repair`, each mean stays what the layer has on its repaired inputs; layers without bias are as `repair` has them.
    """

    def __init__(
        self, network: nn.Module, endpoints: tuple[Weights, Weights], batches: Iterable[Any], *, means: bool = True
    ) -> None:
        self.network, self.endpoints, self.batches, self.means = network, endpoints, batches, means
        first, second = output_moments([clone(network, state) for state in endpoints], batches)
        self.ends = {name: (moments, second[name]) for name, moments in first.items()}

    def states(self, alphas: Sequence[float]) -> list[dict[str, Tensor]]:
        """Weights dicts, one per alpha, for a pass per layer."""
        workers = [clone(self.network, interpolate(*self.endpoints, alpha)) for alpha in alphas]
        for name, (first, second) in self.ends.items():
            for worker, alpha, now in zip(workers, alphas, output_moments(workers, self.batches, [name]), strict=True):
                layer = worker.get_submodule(name)
                size = torch.lerp(_size(layer, first), _size(layer, second), alpha)
                scale = torch.where(now[name].live, size / _size(layer, now[name]), 1.0)
                mean = torch.lerp(first.mean, second.mean, alpha) if self.means else now[name].mean
                rescale_(layer, scale, mean - scale * now[name].mean)
        return [state_of(worker) for worker in workers]


def _size(layer: nn.Module, moments: UnitMoments) -> Tensor:
    """What a factor on each channel of a layer's output can set: its standard deviation, or its root mean square where
    there is no bias to set the mean."""
    return moments.std if getattr(layer, "bias", None) is not None else torch.hypot(moments.std, moments.mean)


@torch.no_grad()
def output_moments(
    networks: Sequence[nn.Module], batches: Iterable[Any], names: Iterable[str] | None = None
) -> list[dict[str, UnitMoments]]:
    """For each network, moments per channel of what its convolution and linear layers put out, by name, in the order
    of execution.

    One pass, in the mode each network is in; samples are rows, so images times sites. `names`: only those layers.
    Raises InputError if there is no batch.
    """
    moments: list[dict[str, UnitMoments]] = [{} for _ in networks]

    def observe(index: int, name: str, units: Tensor) -> None:
        moments[index].setdefault(name, UnitMoments(units.shape[-1])).update(units)

    with ExitStack() as stack:
        for index, network in enumerate(networks):
            stack.enter_context(observed(network, partial(observe, index), names))
        run_all(networks, batches)
    return moments


@contextmanager
def observed(
    network: nn.Module, observe: Callable[[str, Tensor], None], names: Iterable[str] | None = None
) -> Iterator[None]:
    """Call `observe(name, units)` with what each convolution and linear layer puts out, as rows of shape (rows, n)."""
    layers = {name: module for name, module in network_of(network).named_modules() if _channel_dim(module)}

    def hook(name: str, output: Tensor) -> None:
        observe(name, output.movedim(_channel_dim(layers[name]), -1).flatten(0, -2))

    handles = [
        layers[name].register_forward_hook(lambda _module, _inputs, output, name=name: hook(name, output))
        for name in (layers if names is None else names)
    ]
    try:
        with _attention_in_parts():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Within, encoder layers of torch call their parts: fused, they call none, and pack padded sequences for each other
    in a form that a layer with hooks fails on."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _channel_dim(module: nn.Module) -> int:
    """The output dimension, from the end, that holds the channels of a layer that can be repaired; 0 for others."""
    if isinstance(module, nn.Linear):
        return -1
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return -1 - len(module.kernel_size)
    return 0


@torch.no_grad()
def rescale_(layer: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Make `layer` put out scale · output + shift per channel, as far as it has a bias to shift."""
    weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
    scale, shift = (factor.to(sum_dtype(weight.device)).to(weight.device) for factor in (scale, shift))
    weight.copy_(weight * scale.reshape(-1, *[1] * (weight.dim() - 1)))
    if bias is not None:
        bias.copy_(bias * scale + shift)
