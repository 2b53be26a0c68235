"""The loss along the line between two networks, and how far it rises above the chord."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebasin_lt.connectivity.batchnorm import clone, load, reset_batchnorm
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.repair import repaired_line
from rebasin_lt.errors import InputError
from rebasin_lt.matching.batches import Network, check_repeatable, device_of, labelled, nonempty, state_of

Correction = Literal["none", "bn_reset", "repair"]


@dataclass(frozen=True)
class BarrierResult:
    """Loss and error at each alpha, from network A (0) to network B (1)."""

    alphas: list[float]
    loss: list[float]  # mean cross entropy per image, nats
    error: list[float]  # share of images classified wrongly, in [0, 1]
    num_images: int
    correction: Correction

    @property
    def loss_barrier(self) -> float:
        """Largest excess of the loss over the chord between the ends, at least 0 (arXiv 2505.05143, Eq. 3)."""
        return self._over_chord(self.loss)

    @property
    def error_barrier(self) -> float:
        """The same for the error."""
        return self._over_chord(self.error)

    @property
    def midpoint_excess_over_mean(self) -> float | None:
        """Loss at alpha 1/2 minus the mean of the end losses, which may be negative; None if 1/2 is not on the grid.

        At 1/2 the chord is this mean, so it is the barrier of those who look at the midpoint only.
        """
        if 0.5 not in self.alphas:
            return None
        return self.loss[self.alphas.index(0.5)] - (self.loss[0] + self.loss[-1]) / 2

    def _over_chord(self, values: list[float]) -> float:
        curve = torch.tensor(values, dtype=torch.float64)
        chord = torch.lerp(curve[0], curve[-1], torch.tensor(self.alphas, dtype=torch.float64))
        return float((curve - chord).max())  # a NaN on the line makes a NaN barrier


def loss_barrier(
    network: nn.Module,
    state_a: Network,
    state_b: Network,
    batches: Iterable[Any],
    *,
    alphas: int | Sequence[float] = 25,
    correction: Correction = "none",
    correction_batches: Iterable[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BarrierResult:
    """Loss and error of (1 - alpha)·A + alpha·B over all images of `batches`, for each alpha.

    `network` gives architecture and device and is not modified; A and B are networks or state dicts. `batches` yields
    (input, integer target) pairs, any number of times; means are over images, whatever the batches' sizes. `alphas` is
    a number of equal steps' ends from 0 to 1, or the values themselves, from 0 to 1. `correction` applies to every
    point, the ends included: "bn_reset" re-estimates batch norm statistics (nothing without batch norm), "repair" is
    `repair`; both need `correction_batches`, as a rule training images. `progress(done, total)` is called after each
    point. Raises InputError for arguments that cannot be right.
    """
    grid = _grid(alphas)
    check_repeatable(batches)
    line = _line(network, state_of(state_a), state_of(state_b), correction, correction_batches)
    worker, points = clone(network), []
    for done, alpha in enumerate(grid, start=1):
        load(worker, line(alpha))
        points.append(evaluate(worker, batches))
        if progress is not None:
            progress(done, len(grid))
    losses, errors, counts = zip(*points, strict=True)
    return BarrierResult(grid, list(losses), list(errors), counts[0], correction)


@torch.no_grad()
def evaluate(network: nn.Module, batches: Iterable[Any]) -> tuple[float, float, int]:
    """Mean cross entropy, share of wrong answers, number of images; in the mode the network is in.

    Sums are fp64 and stay on the network's device until the end. Raises InputError for batches without targets or
    without images.
    """
    device = device_of(state_of(network))
    sums, num_images = torch.zeros(2, dtype=torch.float64, device=device), 0
    for batch in nonempty(batches):
        inputs, targets = labelled(batch, device)
        logits = network(*inputs).double()
        wrong = (logits.argmax(-1) != targets).sum()
        sums += torch.stack([F.cross_entropy(logits, targets, reduction="sum"), wrong.double()])
        num_images += len(targets)
    loss, error = (sums / num_images).tolist()
    return loss, error, num_images


def _grid(alphas: int | Sequence[float]) -> list[float]:
    if isinstance(alphas, int):
        if alphas < 3:
            raise InputError(f"alphas is {alphas}, expected at least 3 points")
        return [index / (alphas - 1) for index in range(alphas)]
    grid = [float(alpha) for alpha in alphas]
    if len(grid) < 3 or grid[0] != 0 or grid[-1] != 1 or sorted(set(grid)) != grid:
        raise InputError(f"alphas is {grid}, expected at least 3 increasing values from 0 to 1")
    return grid


def _line(
    network: nn.Module,
    state_a: Mapping[str, Tensor],
    state_b: Mapping[str, Tensor],
    correction: Correction,
    batches: Iterable[Any] | None,
) -> Callable[[float], dict[str, Tensor]]:
    """The corrected network's state as a function of alpha."""
    if correction not in get_args(Correction):
        raise InputError(f"correction is {correction!r}, expected one of {', '.join(get_args(Correction))}")
    if correction == "none":
        return lambda alpha: interpolate(state_a, state_b, alpha)
    if batches is None:
        raise InputError(f"correction is {correction!r}, which needs correction_batches: give the training images")
    check_repeatable(batches, "correction_batches")
    if correction == "repair":
        return repaired_line(network, (state_a, state_b), batches)
    return lambda alpha: reset_batchnorm(network, batches, interpolate(state_a, state_b, alpha))
