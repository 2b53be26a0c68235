"""Streaming moments: what activations must be reduced to before two networks' units can be compared.

Everything is a sum over samples, taken about a shift that the first batch fixes, so batches may have any size, results
of several processes add up, and a mean of 1e4 beside a standard deviation of 1e-2 costs no digits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rebasin_lt.errors import InputError


class UnitMoments:
    """Mean and standard deviation of n units of one network, streamed; accumulators are fp64 on the data's device."""

    def __init__(self, num_units: int) -> None:
        self.count = 0
        self.resolution = 0.0  # relative spacing of the coarsest numbers seen: below it a variation is rounding
        self.shift = torch.zeros(num_units, dtype=torch.float64)
        self.total = torch.zeros_like(self.shift)  # of the deviations from the shift
        self.squares = torch.zeros_like(self.shift)

    def update(self, units: Tensor) -> Tensor:
        """Add samples of shape (rows, n); returns their deviations from the shift, in fp64 for fp64 and fp32 else."""
        dtype = torch.float64 if units.dtype == torch.float64 else torch.float32
        units = units.detach().to(dtype)
        if self.count == 0 and len(units):
            self.shift = units.mean(0, dtype=torch.float64).to(dtype).double()  # a number that dtype can hold
            self.total, self.squares = self.total.to(units.device), self.squares.to(units.device)
        deviations = units - self.shift.to(dtype)
        self.count += len(units)
        self.resolution = max(self.resolution, torch.finfo(dtype).eps)
        self.total += deviations.sum(0)
        self.squares += deviations.square().sum(0)
        return deviations

    def about(self, shift: Tensor) -> UnitMoments:
        """The same samples with their sums taken about another shift, of shape (n,)."""
        moved = UnitMoments(len(self.shift))
        moved.count, moved.resolution, moved.shift = self.count, self.resolution, shift
        step = self.shift - shift
        moved.total = self.total + self.count * step
        moved.squares = self.squares + 2 * step * self.total + self.count * step.square()
        return moved

    def merge(self, other: UnitMoments) -> UnitMoments:
        """The moments of both sets of samples together."""
        if self.count == 0:
            return other.about(other.shift)
        merged, other = self.about(self.shift), other.about(self.shift) if other.count else other
        merged.count += other.count
        merged.resolution = max(merged.resolution, other.resolution)
        merged.total = merged.total + other.total.to(merged.total)
        merged.squares = merged.squares + other.squares.to(merged.squares)
        return merged

    @property
    def mean(self) -> Tensor:
        """Shape (n,), fp64."""
        return self.shift + self.total / max(1, self.count)

    @property
    def std(self) -> Tensor:
        """Population standard deviation, shape (n,), fp64."""
        count = max(1, self.count)
        return (self.squares / count - (self.total / count).square()).clamp(min=0).sqrt()

    @property
    def live(self) -> Tensor:
        """Which units vary by more than the rounding of their inputs, shape (n,), bool; the others are dead."""
        return self.std > self.resolution * self.mean.abs()


class CrossMoments:
    """Moments of n units of a source and of a reference network on the same samples, and those between them.

    Holds one n x n matrix in fp64. Every process may stream its own share, to `merge` or `all_reduce` them.
    """

    def __init__(self, num_units: int) -> None:
        self.source = UnitMoments(num_units)
        self.reference = UnitMoments(num_units)
        self.products = torch.zeros(num_units, num_units, dtype=torch.float64)  # (reference units, source units)

    @property
    def count(self) -> int:
        """Samples so far: rows, so images times sites for a convolution."""
        return self.source.count

    def update(self, source: Tensor, reference: Tensor) -> None:
        """Add samples of both networks, each of shape (rows, n), row for row on the same input.

        Products are taken in fp32, of fp64 inputs in fp64, and added up in fp64. Raises InputError if shapes differ.
        """
        if source.shape != reference.shape or source.shape[1:] != self.source.shift.shape:
            raise InputError(
                f"activations have shapes {tuple(source.shape)} and {tuple(reference.shape)}, "
                f"expected twice (rows, {len(self.source.shift)})"
            )
        ours, theirs = self.source.update(source), self.reference.update(reference)
        self.products = self.products.to(ours.device)
        self.products += theirs.T @ ours

    def about(self, source_shift: Tensor, reference_shift: Tensor) -> CrossMoments:
        """The same samples with all sums taken about other shifts, each of shape (n,)."""
        moved = CrossMoments(len(self.products))
        moved.source, moved.reference = self.source.about(source_shift), self.reference.about(reference_shift)
        across = self.source.shift - source_shift
        down = self.reference.shift - reference_shift
        cross = torch.outer(self.reference.total, across) + torch.outer(down, self.source.total)
        moved.products = self.products + cross + self.count * torch.outer(down, across)
        return moved

    def merge(self, other: CrossMoments) -> CrossMoments:
        """The moments of both sets of samples together; exact but for fp64 rounding, in any order."""
        if self.count == 0 or other.count == 0:
            full = other if self.count == 0 else self
            return full.about(full.source.shift, full.reference.shift)
        merged = CrossMoments(len(self.products))
        merged.source = self.source.merge(other.source)
        merged.reference = self.reference.merge(other.reference)
        moved = other.about(self.source.shift, self.reference.shift)
        merged.products = self.products + moved.products.to(self.products)
        return merged

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> CrossMoments:
        """The moments of the samples of all processes together, on every process; a new object, where this one lies.

        Every process of the group (default: the world) must call it; some may have no samples. Without
        `torch.distributed` there is one process. Equals `merge` over the processes, but for fp64 rounding.
        """
        if not dist.is_initialized():
            return self.about(self.source.shift, self.reference.shift)
        home = self.products.device
        device = torch.device("cuda") if dist.get_backend(group) == "nccl" else torch.device("cpu")

        def reduced(tensor: Tensor, op: Any = dist.ReduceOp.SUM) -> Tensor:
            copy = tensor.to(device, torch.float64, copy=True)
            dist.all_reduce(copy, op=op, group=group)
            return copy.to(home)

        count = reduced(torch.tensor(float(self.count)))
        # Sums add up only about a common shift. Any will do; the overall mean keeps the most digits.
        shifts = [reduced(side.mean * side.count) / count.clamp(min=1) for side in (self.source, self.reference)]
        whole = self.about(*shifts)
        for side in (whole.source, whole.reference):
            side.total, side.squares = reduced(side.total), reduced(side.squares)
            side.resolution = float(reduced(torch.tensor(side.resolution), dist.ReduceOp.MAX))
            side.count = int(count)
        whole.products = reduced(whole.products)
        return whole

    def state(self) -> tuple[Tensor, ...]:
        """The sums: count, totals and squares of source and reference, products.

        They are plain sums over samples wherever two accumulators share their shifts (see `about`), so an all-reduce
        of each tensor is a merge.
        """
        count = torch.tensor(self.count)
        sides = (self.source.total, self.source.squares, self.reference.total, self.reference.squares)
        return (count, *sides, self.products)

    def covariance(self) -> Tensor:
        """Population covariance, shape (reference units, source units), fp64."""
        count = max(1, self.count)
        return self.products / count - torch.outer(self.reference.total / count, self.source.total / count)

    def second_moments(self) -> Tensor:
        """Mean products, not centred, shape (reference units, source units), fp64."""
        return self.covariance() + torch.outer(self.reference.mean, self.source.mean)

    def correlation(self) -> Tensor:
        """Pearson correlation, shape (reference units, source units), fp64; 0 where either unit is dead.

        arXiv 2505.05143, Eq. 1, with pooled standard deviations and no epsilon: scale-free.
        """
        scale = torch.outer(self.reference.std, self.source.std)
        live = torch.outer(self.reference.live, self.source.live)
        # NaN activations are not live, and must not pass for dead units: they stay NaN.
        return torch.where(live | ~torch.isfinite(scale), self.covariance() / scale, 0.0)
