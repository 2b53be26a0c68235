"""The loss along the line between two networks, and how far it rises above the chord."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rebasin_lt.batches import Network, check_repeatable, state_of
from rebasin_lt.connectivity.batchnorm import clone
from rebasin_lt.connectivity.corrections import check_calibrates, corrected_line
from rebasin_lt.connectivity.evaluation import Evaluation, check_judged, evaluate
from rebasin_lt.connectivity.passes import BatchCounter, chunks
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.judging.judge import Chosen, judge_of
from rebasin_lt.judging.losses import BY_CROSS_ENTROPY, CROSS_ENTROPY, Judged


@dataclass(frozen=True)
class BarrierResult:
    """Loss and error at each alpha, from network A (0) to network B (1).

    >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> batches = [(torch.randn(8, 2), torch.tensor([0, 1] * 4))]
    >>> line = rb.loss_barrier(a, a, b, batches, alphas=3)
    >>> len(line.loss), line.num_images, line.loss_barrier >= 0
    (3, 8, True)
    """

    alphas: list[float]
    loss: list[float]  # mean cross entropy per image in nats, or another loss: `judged` says which
    error: list[float] | None  # share of images classified wrongly, in [0, 1]; None for a loss that has no error
    num_images: int  # or of what else the means are over: pixels, tokens, values
    correction: str
    judged: Judged = BY_CROSS_ENTROPY

    @property
    def loss_barrier(self) -> float:
        """Largest excess of the loss over the chord between the ends, at least 0 (arXiv 2505.05143, Eq. 3)."""
        return self._over_chord(self.loss)

    @property
    def error_barrier(self) -> float | None:
        """The same for the error; None where there is none."""
        return None if self.error is None else self._over_chord(self.error)

    @property
    def loss_excess_over_mean(self) -> float:
        """Largest excess of the loss over the mean of the end losses, at least 0: the barrier of much other code."""
        return self._over_mean(self.loss)

    @property
    def error_excess_over_mean(self) -> float | None:
        """The same for the error; None where there is none."""
        return None if self.error is None else self._over_mean(self.error)

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

    def _over_mean(self, values: list[float]) -> float:
        curve = torch.tensor(values, dtype=torch.float64)
        return float(curve.max() - (curve[0] + curve[-1]) / 2)


def loss_barrier(
    network: nn.Module,
    state_a: Network,
    state_b: Network,
    batches: Iterable[Any],
    *,
    alphas: int | Sequence[float] = 25,
    correction: str = "none",
    correction_batches: Iterable[Any] | None = None,
    loss: Chosen = CROSS_ENTROPY,
    progress: Callable[[int, int], None] | None = None,
) -> BarrierResult:
    """Loss and error of (1 - alpha)·A + alpha·B over all images of `batches`, for each alpha.

    `network` gives architecture and device and is not modified; A and B are networks or state dicts. `batches` yields
    inputs with targets, of any form (`read_call`, or `Fed`), any number of times; means are over images, or what else
    the loss counts, whatever the batches' sizes. `loss` is a name of `LOSSES`, a function of output and target, or what
    the module's own validation step logs (`Chosen`). `alphas` is a number of equal steps' ends from 0 to 1, or the
    values themselves, from 0 to 1. `correction` applies to every point, the ends included: "bn_reset" re-estimates
    batch norm statistics (nothing without batch norm), "repair" is `repair`, "closed_form" predicts what that measures,
    "rescale" leaves the means, "temperature" resets as the first, and calibrates cross entropy, not the error; all need
    `correction_batches`, as a rule training images. As many points as fit in memory share each pass. `progress(done,
    total)` counts batches, where their number is known. Raises InputError for arguments that cannot be right, and,
    before anything is computed, for what the loss is not of (`check_judged`).

        >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> batches = [(torch.randn(8, 2), torch.tensor([0, 1] * 4))]
        >>> line = rb.loss_barrier(a, a, b, batches, alphas=5)
        >>> line.alphas, line.loss_barrier  # the loss of one layer is convex
        ([0.0, 0.25, 0.5, 0.75, 1.0], 0.0)
        >>> rb.loss_barrier(a, a, b, [(torch.ones(8, 2), torch.zeros(8, 2))], alphas=3, loss="mse").error is None
        True
    """
    options: dict[str, Any] = {"alphas": alphas, "correction": correction, "correction_batches": correction_batches}
    options |= {"loss": loss, "progress": progress}
    return loss_barriers(network, state_a, state_b, {"batches": batches}, **options)["batches"]


def loss_barriers(
    network: nn.Module,
    state_a: Network,
    state_b: Network,
    splits: Mapping[str, Iterable[Any]],
    *,
    alphas: int | Sequence[float] = 25,
    correction: str = "none",
    correction_batches: Iterable[Any] | None = None,
    loss: Chosen = CROSS_ENTROPY,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, BarrierResult]:
    """`loss_barrier` on several sets of images by name; points are corrected once for all of them. Raises as that."""
    grid, counter, judge = _grid(alphas), BatchCounter(progress), judge_of(loss)
    check_calibrates(correction, judge.judged, judge.calibrates)
    for name, batches in splits.items():
        check_repeatable(batches, name)
        check_judged(network, batches, name, judge)
    if correction_batches is not None:
        check_repeatable(correction_batches, "correction_batches")
        correction_batches = counter.counted(calls_of(correction_batches, network, "correction_batches"))
    sets = {name: counter.counted(judge.read(batches, network, name)) for name, batches in splits.items()}
    line = corrected_line(network, (state_of(state_a), state_of(state_b)), correction, correction_batches)
    groups = chunks(grid, network)
    counter.total = len(groups) * sum(map(len, [*sets.values(), *[correction_batches or []] * line.num_passes]))
    points: dict[str, list[Evaluation]] = {name: [] for name in sets}
    for group in groups:
        workers = [clone(network, state) for state in line.states(group)]
        factors = None if line.factors is None else line.factors(workers)
        for name, images in sets.items():
            points[name] += evaluate(workers, images, factors, judge)
    return {name: _result(grid, found, correction, judge.judged) for name, found in points.items()}


def _result(grid: list[float], points: list[Evaluation], correction: str, judged: Judged) -> BarrierResult:
    losses, errors, counts = zip(*points, strict=True)
    return BarrierResult(
        grid, list(losses), None if judged.error is None else list(errors), counts[0], correction, judged
    )


def _grid(alphas: int | Sequence[float]) -> list[float]:
    if isinstance(alphas, int):
        if alphas < 3:
            raise InputError(f"alphas is {alphas}, expected at least 3 points")
        return [index / (alphas - 1) for index in range(alphas)]
    grid = [float(alpha) for alpha in alphas]
    if len(grid) < 3 or grid[0] != 0 or grid[-1] != 1 or sorted(set(grid)) != grid:
        raise InputError(f"alphas is {grid}, expected at least 3 increasing values from 0 to 1")
    return grid
