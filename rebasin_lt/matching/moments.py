"""Streaming moments: what activations must be reduced to before two networks' units can be compared.

Everything is a sum over samples, taken about a shift that the first samples fix, so batches may have any size, results
of several processes add up, and a mean of 1e4 beside a standard deviation of 1e-2 costs no digits. Samples are worked
on in blocks that stay in the processor's cache: each is read from memory once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.matching.reduction import largest, summed
from rebasin_lt.precision import full_precision, sum_device, sum_dtype

_CPU_BLOCK = 2**18  # elements: 1 MB of fp32; smaller blocks cost calls, larger ones leave the cache
_GPU_BLOCK = 2**26  # elements; bounds the memory that deviations take
_MATRIX_BLOCK = 2**22  # elements of an n x n matrix that are worked on at a time: 32 MB of fp64 beside the matrix


class UnitMoments:
    """Mean and standard deviation of n units of one network, streamed.

    Accumulators are fp64, on the data's device if it has fp64, else on the CPU.
    """

    def __init__(self, num_units: int) -> None:
        self.count = 0
        self.resolution = 0.0  # relative spacing of the coarsest numbers seen: below it a variation is rounding
        self.shift = torch.zeros(num_units, dtype=torch.float64)
        self.total = torch.zeros_like(self.shift)  # of the deviations from the shift
        self.squares = torch.zeros_like(self.shift)

    def update(self, units: Tensor) -> None:
        """Add samples of shape (..., n): all dimensions but the last are samples."""
        for block in _blocks(units):
            self.add(block)

    def add(self, block: Tensor) -> Tensor:
        """Add a few samples of shape (..., n); returns their deviations from the shift.

        Deviations have shape (n, samples), in fp64 for fp64 and in fp32 else.
        """
        dtype = torch.float64 if block.dtype == torch.float64 else torch.float32
        samples, place = block.flatten(0, -2), sum_device(block.device)
        if self.count == 0:
            mean = samples.mean(0, dtype=sum_dtype(block.device))
            self.shift = mean.to(dtype).to(place).double()  # a number that dtype can hold
            self.total, self.squares = self.total.to(place), self.squares.to(place)
        deviations = _deviations(block, self.shift.to(dtype).to(block.device))
        self.count += len(samples)
        self.resolution = max(self.resolution, torch.finfo(dtype).eps)
        self.total += deviations.sum(1).to(place)
        self.squares += deviations.square().sum(1).to(place)
        return deviations

    def about(self, shift: Tensor) -> UnitMoments:
        """The same samples with their sums taken about another shift, of shape (n,)."""
        moved = UnitMoments(len(self.shift))
        moved.count, moved.resolution, moved.shift = self.count, self.resolution, shift
        step = self.shift - shift
        moved.total = self.total + self.count * step
        moved.squares = self.squares + 2 * step * self.total + self.count * step.square()
        return moved

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> UnitMoments:
        """The moments of the samples of all processes together, as `CrossMoments.all_reduce`."""
        count = summed(torch.tensor(float(self.count)), group)
        # Sums add up only about a common shift. Any will do; the overall mean keeps the most digits.
        shift = summed(self.mean * self.count, group) / count.clamp(min=1).to(self.total.device)
        whole = self.about(shift)
        whole.total, whole.squares = summed(whole.total, group), summed(whole.squares, group)
        whole.count = int(count)
        whole.resolution = largest(self.resolution, group)
        return whole

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

    Holds one n x n matrix in fp64, however many samples there are. Every process may stream its own share, to
    `all_reduce` them.
    """

    def __init__(self, num_units: int) -> None:
        self.source = UnitMoments(num_units)
        self.reference = UnitMoments(num_units)
        self.products = torch.zeros(num_units, num_units, dtype=torch.float64)  # (reference units, source units)

    @property
    def count(self) -> int:
        """Samples so far: images times sites for a convolution."""
        return self.source.count

    def update(self, source: Tensor, reference: Tensor) -> None:
        """Add samples of both networks, each of shape (..., n), sample for sample on the same input.

        All dimensions but the last are samples. Products are taken in fp32, of fp64 inputs in fp64, whatever autocast
        or torch's matmul precision say, and added up in fp64. Raises InputError if shapes differ.
        """
        if source.shape != reference.shape or source.shape[-1:] != self.source.shift.shape or source.dim() < 2:
            raise InputError(
                f"activations have shapes {tuple(source.shape)} and {tuple(reference.shape)}, "
                f"expected twice (samples, {len(self.source.shift)})"
            )
        place = sum_device(source.device)
        self.products = self.products.to(place)
        with full_precision(source.device):
            for ours, theirs in zip(_blocks(source), _blocks(reference), strict=True):
                reference_deviations, source_deviations = self.reference.add(theirs), self.source.add(ours)
                for rows in self._rows():
                    self.products[rows].add_((reference_deviations[rows] @ source_deviations.T).to(place))

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> CrossMoments:
        """The moments of the samples of all processes together, on every process; a new object, where this one lies.

        Every process of the group (default: the world) must call it; some may have no samples. Without
        `torch.distributed` there is one process. Equals one process with all samples, but for fp64 rounding.
        """
        whole = CrossMoments(0)
        whole.source, whole.reference = self.source.all_reduce(group), self.reference.all_reduce(group)
        across, down = (
            own.shift - all_.shift for own, all_ in ((self.source, whole.source), (self.reference, whole.reference))
        )

        def moved(rows: slice) -> Tensor:
            cross = torch.outer(self.reference.total[rows], across) + torch.outer(down[rows], self.source.total)
            return summed(self.products[rows] + cross + self.count * torch.outer(down[rows], across), group)

        whole.products = self._by_rows(moved)
        return whole

    def _by_rows(self, values: Callable[[slice], Tensor]) -> Tensor:
        """An n x n matrix from some of its rows at a time: of matrices as large, wide layers can hold but a few."""
        result = torch.empty_like(self.products)
        for rows in self._rows():
            result[rows] = values(rows)
        return result

    def _rows(self) -> Iterator[slice]:
        step = max(1, _MATRIX_BLOCK // max(1, len(self.products)))
        for start in range(0, len(self.products), step):
            yield slice(start, start + step)

    def covariance(self) -> Tensor:
        """Population covariance, shape (reference units, source units), fp64."""
        return self._by_rows(self._covariance)

    def _covariance(self, rows: slice) -> Tensor:
        count = max(1, self.count)
        return self.products[rows] / count - torch.outer(self.reference.total[rows] / count, self.source.total / count)

    def second_moments(self) -> Tensor:
        """Mean products, not centred, shape (reference units, source units), fp64."""
        return self._by_rows(
            lambda rows: self._covariance(rows) + torch.outer(self.reference.mean[rows], self.source.mean)
        )

    def correlation(self) -> Tensor:
        """Pearson correlation, shape (reference units, source units), fp64; 0 where either unit is dead.

        arXiv 2505.05143, Eq. 1, with pooled standard deviations and no epsilon: scale-free.
        """

        def correlated(rows: slice) -> Tensor:
            scale = torch.outer(self.reference.std[rows], self.source.std)
            live = torch.outer(self.reference.live[rows], self.source.live)
            # NaN activations are not live, and must not pass for dead units: they stay NaN.
            return torch.where(live | ~torch.isfinite(scale), self._covariance(rows) / scale, 0.0)

        return self._by_rows(correlated)


def _blocks(units: Tensor) -> Iterator[Tensor]:
    """Cut samples of shape (..., n) along the first dimension; none of the blocks is empty.

    A block is added to an n x n matrix, so of very many units it is not much smaller than that.
    """
    if units.numel():
        limit = _GPU_BLOCK if units.is_cuda else max(_CPU_BLOCK, units.shape[-1] ** 2 // 4)
        yield from torch.split(units.detach(), max(1, limit * len(units) // units.numel()))


def _deviations(block: Tensor, shift: Tensor) -> Tensor:
    """Samples less the shift; shape (..., n) -> (n, samples), laid out in memory as the samples are."""
    if block.stride(-1) == 1:
        return (block - shift).flatten(0, -2).T
    units = block.movedim(-1, 0)
    deviations = torch.empty(units.shape, dtype=shift.dtype, device=block.device)
    torch.sub(units, shift.reshape(-1, *[1] * (units.dim() - 1)), out=deviations)
    return deviations.flatten(1)
