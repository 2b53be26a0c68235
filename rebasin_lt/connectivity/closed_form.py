"""REPAIR without a pass of the interpolated network: its statistics are predicted from those of the ends.

Jordan et al., arXiv 2211.08403 (the published closed form): if a layer between A and B put out (1-α)·a + α·b, with a
and b the outputs of A and B on the same input, its channels would have mean (1-α)·μ_A + α·μ_B, the goal, and variance
(1-α)²·σ_A² + α²·σ_B² + 2α(1-α)·ρ·σ_A·σ_B, with ρ the correlation of a and b. That is exact for a layer that sees the
same input in all three networks, as the first does; for deeper ones it is a guess, and pass-based REPAIR measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.batches import device_of, nonempty, state_of
from rebasin_lt.connectivity.batchnorm import clone
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.repair import Weights, observed, rescale_
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.matching.moments import UnitMoments
from rebasin_lt.precision import full_precision, sum_device


class PairMoments:
    """Moments of n channels of A and of B on the same samples, and the covariance of each with its counterpart."""

    def __init__(self, num_units: int) -> None:
        self.first, self.second = UnitMoments(num_units), UnitMoments(num_units)
        self.products = torch.zeros(num_units, dtype=torch.float64)

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add samples of both, each of shape (rows, n), row for row on the same input."""
        products, place = (self.first.add(first) * self.second.add(second)).sum(1), sum_device(first.device)
        self.products = self.products.to(place) + products.to(place)

    @property
    def covariance(self) -> Tensor:
        """Population covariance of each pair, shape (n,), fp64."""
        count = max(1, self.first.count)
        return self.products / count - (self.first.total / count) * (self.second.total / count)

    def scale(self, alpha: float) -> Tensor:
        """Goal over predicted standard deviation at alpha, shape (n,), fp64; 1 for channels that do not vary there."""
        ours, theirs = (1 - alpha) * self.first.std, alpha * self.second.std
        predicted = (ours**2 + theirs**2 + 2 * alpha * (1 - alpha) * self.covariance).clamp(min=0).sqrt()
        goal = ours + theirs
        resolution = max(self.first.resolution, self.second.resolution)
        live = predicted > resolution * (self.mean(alpha).abs() + goal)
        return torch.where(live, goal / predicted, 1.0)

    def mean(self, alpha: float) -> Tensor:
        """Goal and predicted mean at alpha, shape (n,), fp64."""
        return torch.lerp(self.first.mean, self.second.mean, alpha)


def closed_form_line(
    network: nn.Module, endpoints: tuple[Weights, Weights], batches: Iterable[Any]
) -> Callable[[Sequence[float]], list[dict[str, Tensor]]]:
    """States of (1 - alpha)·A + alpha·B at many alphas, repaired in closed form; the ends are measured once, now.

    One pass over `batches` through both ends, which holds the layers' outputs for one batch; none through the points
    between. Channels are compared as they stand, so permute A to match B first. Every convolution and linear layer is
    scaled, and shifted where it has a bias. For networks without batch norm, where `reset_batchnorm` is the correction.
    `network` gives architecture and device and is not modified. Raises InputError if there is no batch.
    """
    moments = pair_moments(network, endpoints, batches)
    return lambda alphas: [_repaired(network, endpoints, moments, alpha) for alpha in alphas]


@torch.no_grad()
def pair_moments(
    network: nn.Module, endpoints: tuple[Weights, Weights], batches: Iterable[Any]
) -> dict[str, PairMoments]:
    """`PairMoments` of each convolution and linear layer that is called, by name. Raises as `closed_form_line`."""
    first, second = (clone(network, state) for state in endpoints)
    moments: dict[str, PairMoments] = {}
    outputs: dict[str, list[Tensor]] = {}  # of the first network on this batch, a tensor for each call of the layer

    def compare(name: str, units: Tensor) -> None:
        moments.setdefault(name, PairMoments(units.shape[-1])).update(outputs[name].pop(0), units)

    device = device_of(state_of(network))
    for call in nonempty(calls_of(batches, network)):
        call = call.to(device)
        with full_precision(device), observed(first, lambda name, units: outputs.setdefault(name, []).append(units)):
            call.of(first)
        with full_precision(device), observed(second, compare):
            call.of(second)
    return moments


@torch.no_grad()
def _repaired(
    network: nn.Module, endpoints: tuple[Weights, Weights], moments: dict[str, PairMoments], alpha: float
) -> dict[str, Tensor]:
    worker = clone(network, interpolate(*endpoints, alpha))
    for name, pair in moments.items():
        scale, mean = pair.scale(alpha), pair.mean(alpha)
        rescale_(worker.get_submodule(name), scale, mean - scale * mean)
    return state_of(worker)
