"""The statistic of the published ResNet20 matching, for comparison only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.matching.moments import UnitMoments
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
        """Add one batch of both networks, each of shape (rows, n). Raises InputError for fewer than two rows."""
        if len(source) < 2:
            raise InputError(
                f"batches has one with {len(source)} samples, which have no standard deviation: preset 'paper' takes "
                "batches of at least 2 images"
            )
        self.source.update(source)
        self.reference.update(reference)
        sides = torch.stack([source, reference]).detach().double()
        if self.num_batches == 0:
            self.means, self.stds, self.products = (
                total.to(sides.device) for total in (self.means, self.stds, self.products)
            )
        self.num_batches += 1
        self.means += sides.mean(1)
        self.stds += sides.std(1)
        self.products += sides[1].T @ sides[0] / len(source)

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
