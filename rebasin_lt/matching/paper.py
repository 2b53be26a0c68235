"""The statistic of the published ResNet20 matching, for comparison only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.matching.moments import CrossMoments, UnitMoments
from rebasin_lt.matching.reduction import summed
from rebasin_lt.precision import sum_device
from rebasin_lt.symmetry.trace import Symmetry

_EPSILON = 1e-4


class PaperMoments:
    """Correlation as the code of arXiv 2505.05143 (and REPAIR's, 2211.08403) computes it for ResNet20.

    Unlike Eq. 1, and unlike `CrossMoments.correlation`: every batch has equal weight, whatever its size; the standard
    deviation is the mean of those within batches (with Bessel's correction), which is at most the pooled one, so that
    values can exceed 1; and 1e-4 is added to the product of standard deviations, so that units of small activations
    count less. All in fp64.
    """

    def __init__(self, num_units: int) -> None:
        self.source = UnitMoments(num_units)  # they say which units are live
        self.reference = UnitMoments(num_units)
        self.num_batches = 0
        self.means = torch.zeros(2, num_units, dtype=torch.float64)  # sums over batches; source, reference
        self.stds = torch.zeros_like(self.means)
        self.products = torch.zeros(num_units, num_units, dtype=torch.float64)  # (reference units, source units)

    def update(self, source: Tensor, reference: Tensor) -> None:
        """Add one batch of both networks, each of shape (..., n). Raises InputError for fewer than two samples."""
        self.source.update(source)
        self.reference.update(reference)
        batch = CrossMoments(len(self.products))
        place = sum_device(source.device)
        batch.update(source.to(place).double(), reference.to(place).double())
        if batch.count < 2:
            raise InputError(
                f"batches has one with {batch.count} samples, which have no standard deviation: preset 'paper' takes "
                "batches of at least 2 images"
            )
        self.num_batches += 1
        sides, bessel = (batch.source, batch.reference), batch.count / (batch.count - 1)
        self.means = self.means.to(place) + torch.stack([side.mean for side in sides])
        self.stds = self.stds.to(place) + torch.stack([side.std for side in sides]) * bessel**0.5
        self.products = self.products.to(place) + batch.second_moments()

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> PaperMoments:
        """Those of the batches of all processes together, on every process, as `CrossMoments.all_reduce`."""
        whole = PaperMoments(len(self.products))
        whole.source, whole.reference = self.source.all_reduce(group), self.reference.all_reduce(group)
        whole.num_batches = int(summed(torch.tensor(self.num_batches), group))
        whole.means, whole.stds, whole.products = (
            summed(total, group) for total in (self.means, self.stds, self.products)
        )
        return whole

    def correlation(self) -> Tensor:
        """Shape (reference units, source units), fp64; 0 where either unit is constant."""
        count = max(1, self.num_batches)
        (source, reference), stds = self.means / count, self.stds / count
        covariance = self.products / count - torch.outer(reference, source)
        live = torch.outer(self.reference.live, self.source.live)
        values = covariance / (torch.outer(stds[1], stds[0]) + _EPSILON)
        return torch.where(live | ~torch.isfinite(values), values, 0.0)


def paper_points(symmetry: Symmetry) -> Mapping[str, range]:
    """The one observation of every group that counts: the last, but of the last residual stream the one before.

    The published code means to observe each stream at its last block, but its third index is off by one
    (`kk=[3,6,8]`): ResNet20's last stage is observed one block early. In general words, that is the observation before
    the last of the last group, in the order of execution, that is observed more than once.
    """
    counts = {group: len(symmetry.observations.get(group, ())) for group in symmetry.groups}
    last = {group: count - 1 for group, count in counts.items()}
    streams = [group for group, count in counts.items() if count > 1]
    if streams:
        last[streams[-1]] -= 1
    return {group: range(max(0, point), point + 1) for group, point in last.items()}
