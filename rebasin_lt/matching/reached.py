"""Moments of units that only some samples reach, as those of experts, which see the tokens that were routed to them.

What a unit did says nothing where it was not asked: its mean and standard deviation are of the samples that reach it,
and what it has in common with another is of those that reach both.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from rebasin_lt.matching.moments import UnitMoments
from rebasin_lt.matching.reduction import summed
from rebasin_lt.precision import full_precision, sum_device
from rebasin_lt.symmetry.routes import Reached


class ReachedUnits:
    """Moments of the units of one network, on those samples that reach the outer unit they are in."""

    def __init__(self, num_outer: int, num_inner: int) -> None:
        self.of = [UnitMoments(num_inner) for _ in range(num_outer)]

    def add(self, units: Reached) -> list[tuple[Tensor, Tensor]]:
        """Add samples; returns for each outer unit which reached it, (samples,), and how its units deviate from their
        shift, (units, samples)."""
        found = []
        for outer, moments in enumerate(self.of):
            here = units.outer == outer
            rows = units.rows[here]
            deviations = moments.add(rows) if len(rows) else rows.T
            found.append((units.samples[here], deviations))
        return found

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> ReachedUnits:
        """The moments of the samples of all processes together."""
        whole = ReachedUnits(0, 0)
        whole.of = [moments.all_reduce(group) for moments in self.of]
        return whole

    @property
    def counts(self) -> Tensor:
        """How many samples reach each outer unit, shape (outer units,), fp64."""
        return torch.tensor([moments.count for moments in self.of], dtype=torch.float64)

    @property
    def shift(self) -> Tensor:
        """About which sums are taken, shape (n,), fp64."""
        return torch.cat([moments.shift.cpu() for moments in self.of])

    @property
    def total(self) -> Tensor:
        """Sums of the deviations from the shift, shape (n,), fp64."""
        return torch.cat([moments.total.cpu() for moments in self.of])

    @property
    def squares(self) -> Tensor:
        """Sums of their squares, shape (n,), fp64."""
        return torch.cat([moments.squares.cpu() for moments in self.of])

    @property
    def mean(self) -> Tensor:
        """Shape (n,), fp64; 0 of units that no sample reaches."""
        return torch.cat([moments.mean.cpu() for moments in self.of])

    @property
    def std(self) -> Tensor:
        """Population standard deviation, shape (n,), fp64."""
        return torch.cat([moments.std.cpu() for moments in self.of])

    @property
    def live(self) -> Tensor:
        """Which units vary on the samples that reach them, shape (n,), bool; the others are dead."""
        return torch.cat([moments.live.cpu() for moments in self.of])


class ReachedMoments:
    """`CrossMoments` of n units, those of one outer unit after another, each on the samples that reach its outer unit.

    Two units have in common what they did on the samples that reach both. These count by their share: how many they are
    over the geometric mean of how many reach either. So a correlation is at most 1, and that of two that see different
    samples is 0. Holds one n x n matrix in fp64, on the CPU.
    """

    def __init__(self, num_units: int, num_outer: int) -> None:
        self.num_outer = num_outer
        self.source = ReachedUnits(num_outer, num_units // num_outer)
        self.reference = ReachedUnits(num_outer, num_units // num_outer)
        self.products = torch.zeros(num_units, num_units, dtype=torch.float64)  # (reference units, source units)
        self.shared = torch.zeros(num_outer, num_outer, dtype=torch.float64)  # samples that reach both
        self.source_totals = torch.zeros(num_outer, num_units, dtype=torch.float64)  # sums over these, by reference
        self.reference_totals = torch.zeros(num_units, num_outer, dtype=torch.float64)  # and by source

    def update(self, source: Reached, reference: Reached) -> None:
        """Add what units of both networks did on the same samples; products as those of `CrossMoments`."""
        with full_precision(source.rows.device):
            theirs, ours = self.reference.add(reference), self.source.add(source)
            last = max((int(units.samples.max()) for units in (source, reference) if len(units.rows)), default=0)
            for i, (samples, deviations) in enumerate(theirs):
                place = samples.new_full((last + 1,), -1)
                place[samples] = torch.arange(len(samples), device=samples.device)
                for j, (others, other_deviations) in enumerate(ours):
                    at = place[others]
                    both = at >= 0
                    self._add(i, j, deviations[:, at[both]], other_deviations[:, both])

    def _add(self, i: int, j: int, reference: Tensor, source: Tensor) -> None:
        """Deviations of the units of two outer units on samples that reach both, each of shape (units, samples)."""
        down, across = self._units(i), self._units(j)
        place = sum_device(reference.device)
        self.shared[i, j] += reference.shape[1]
        self.products[down, across] += (reference @ source.T).to(place).cpu()
        self.reference_totals[down, j] += reference.to(place).double().sum(1).cpu()
        self.source_totals[i, across] += source.to(place).double().sum(1).cpu()

    def _units(self, outer: int) -> slice:
        return slice(outer * self._size, (outer + 1) * self._size)

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> ReachedMoments:
        """The moments of the samples of all processes together, as `CrossMoments.all_reduce`."""
        whole = ReachedMoments(0, self.num_outer)
        whole.source, whole.reference = self.source.all_reduce(group), self.reference.all_reduce(group)
        across, down = self.source.shift - whole.source.shift, self.reference.shift - whole.reference.shift
        whole.products = torch.zeros_like(self.products)
        for i in range(self.num_outer):
            rows, shared, totals = self._of(i)
            moved = totals * across + torch.outer(down[rows], self.source_totals[i] + shared * across)
            whole.products[rows] = summed(self.products[rows] + moved, group)
        shared = self.shared.repeat_interleave(self._size, dim=1)
        whole.source_totals = summed(self.source_totals + shared * across, group)
        shared = self.shared.repeat_interleave(self._size, dim=0)
        whole.reference_totals = summed(self.reference_totals + shared * down[:, None], group)
        whole.shared = summed(self.shared, group)
        return whole

    def _of(self, outer: int) -> tuple[slice, Tensor, Tensor]:
        """The units of an outer unit of the reference; of its samples, how many each source unit has, and their sums.

        Shapes (n,) and (units of the outer unit, n).
        """
        rows = self._units(outer)
        shared = self.shared[outer].repeat_interleave(self._size)
        return rows, shared, self.reference_totals[rows].repeat_interleave(self._size, dim=1)

    @property
    def _size(self) -> int:
        return len(self.products) // max(1, self.num_outer)

    def covariance(self) -> Tensor:
        """Covariance on the samples that two units share, times their share; (reference units, source units), fp64."""
        result = torch.empty_like(self.products)
        for i in range(self.num_outer):
            rows, shared, totals = self._of(i)
            result[rows] = self.products[rows] - totals * self.source_totals[i] / shared.clamp(min=1)
        return result / self._root()

    def second_moments(self) -> Tensor:
        """Mean products on the samples that two units share, times their share; (reference units, source units)."""
        result, across, down = torch.empty_like(self.products), self.source.shift, self.reference.shift
        for i in range(self.num_outer):
            rows, shared, totals = self._of(i)
            shift = torch.outer(down[rows], self.source_totals[i] + shared * across)
            result[rows] = self.products[rows] + totals * across + shift
        return result / self._root()

    def correlation(self) -> Tensor:
        """`covariance` over the standard deviations, from -1 to 1; 0 where either unit is dead."""
        scale = torch.outer(self.reference.std, self.source.std)
        live = torch.outer(self.reference.live, self.source.live)
        return torch.where(live | ~torch.isfinite(scale), self.covariance() / scale, 0.0)

    def _root(self) -> Tensor:
        """The root of how many samples reach both of two units, multiplied; at least 1."""
        counts = torch.outer(self.reference.counts, self.source.counts).sqrt().clamp(min=1)
        return counts.repeat_interleave(self._size, 0).repeat_interleave(self._size, 1)
