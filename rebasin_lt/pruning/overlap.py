"""The agreement of two masks, against that of two independent masks with the same kept counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import convolve

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask

LOST = 1e-15
"""Probability that all windows together may leave out."""


class Counts(NamedTuple):
    """One tensor of two masks: its weights, and how many each mask keeps."""

    weights: int
    kept: int
    other: int

    @property
    def spread(self) -> int:
        """The n of Hoeffding's bound: the shared weights deviate by w with probability <= 2 exp(-2 w^2 / n)."""
        return min(self.kept, self.other, self.weights - self.kept, self.weights - self.other)


class Law(NamedTuple):
    """The law of a count: `pmf[i]` (float64) is the probability of `start + i`."""

    start: int
    pmf: NDArray[np.float64]


def expected_overlap(mask: Mask, other: Mask) -> float:
    """Expected IoU of two independent masks that keep as many weights of each tensor as these two.

    Per tensor the kept positions are uniform, so the shared weights are hypergeometric; with their sum T over the
    tensors and the total kept counts a and b, this is E[T / (a + b - T)], which is not E[T] / (a + b - E[T]).
    Exact in float64: the laws are convolved on windows that together lose less than 1e-15 of probability (Hoeffding's
    inequality, which holds for drawing without replacement and for sums of such counts). Two empty masks give 0.
    Raises InputError if the masks name different parameters or shapes differ.

        >>> one = rb.Mask({"weight": torch.tensor([True, True, False, False])})
        >>> other = rb.Mask({"weight": torch.tensor([True, False, True, False])})
        >>> round(one.overlap(other), 3), round(rb.expected_overlap(one, other), 3)
        (0.333, 0.389)
    """
    return _expected_iou(_counts(mask, other))


def overlap_report(mask: Mask, other: Mask) -> list[dict[str, str | int | float]]:
    """One row per tensor: name, weights, kept, other_kept, both, overlap (IoU) and expected_overlap.

    Raises InputError if the masks name different parameters or shapes differ.

        >>> one = rb.Mask({"weight": torch.tensor([True, True, False, False])})
        >>> other = rb.Mask({"weight": torch.tensor([True, False, True, False])})
        >>> rb.overlap_report(one, other)[0]["both"]
        1
    """
    rows: list[dict[str, str | int | float]] = []
    for (name, tensor), counts in zip(mask.items(), _counts(mask, other), strict=True):
        both = int((tensor & other[name]).sum())
        rows.append({
            "name": name,
            "weights": counts.weights,
            "kept": counts.kept,
            "other_kept": counts.other,
            "both": both,
            "overlap": both / max(1, counts.kept + counts.other - both),
            "expected_overlap": _expected_iou([counts]),
        })
    return rows


def _counts(mask: Mask, other: Mask) -> list[Counts]:
    if mask.keys() != other.keys():
        raise InputError(f"masks name different parameters: {sorted(mask.keys() ^ other.keys())[:3]}")
    other.check_fits(mask)
    return [Counts(tensor.numel(), int(tensor.sum()), int(other[name].sum())) for name, tensor in mask.items()]


def _expected_iou(counts: Sequence[Counts]) -> float:
    law = _law_of_sum(counts)
    shared = law.start + np.arange(len(law.pmf), dtype=np.float64)
    union = sum(tensor.kept + tensor.other for tensor in counts) - shared
    return float(law.pmf @ (shared / np.maximum(1, union)))


def _law_of_sum(counts: Sequence[Counts]) -> Law:
    """The law of the shared weights of all tensors; cut back to its own window after every convolution."""
    # One window per tensor and one per partial sum, each with two tails.
    log_tails = math.log(4 * max(1, len(counts)) / LOST)

    def add(total: tuple[Law, float, int], tensor: Counts) -> tuple[Law, float, int]:
        law, mean, spread = total
        mean, spread = mean + _mean(tensor), spread + tensor.spread
        single = _hypergeometric(tensor, _half_width(tensor.spread, log_tails))
        both = Law(law.start + single.start, convolve(law.pmf, single.pmf))
        return _cut(both, mean, _half_width(spread, log_tails)), mean, spread

    return reduce(add, counts, (Law(0, np.ones(1)), 0.0, 0))[0]


def _mean(tensor: Counts) -> float:
    return tensor.kept * tensor.other / max(1, tensor.weights)


def _half_width(spread: int, log_tails: float) -> int:
    """Whole numbers to each side of the mean, from 2 exp(-2 w^2 / spread) = lost; one more for the rounded mean."""
    return math.ceil(math.sqrt(spread * log_tails / 2)) + 1


def _hypergeometric(tensor: Counts, half_width: int) -> Law:
    """The law within `half_width` of its mean, from the ratios of neighbouring probabilities.

    Differences of log-gamma at millions of weights would leave ten digits; the ratios are exact integers.
    """
    weights, kept, other = tensor
    middle = round(_mean(tensor))
    lowest = max(0, kept + other - weights, middle - half_width)
    highest = min(kept, other, middle + half_width)
    shared = np.arange(lowest, highest, dtype=np.float64)
    ratios = (kept - shared) * (other - shared) / ((shared + 1) * (weights - kept - other + shared + 1))
    centre = min(max(middle, lowest), highest) - lowest
    up = np.cumprod(ratios[centre:])
    down = np.cumprod(1 / ratios[:centre][::-1])[::-1]
    pmf = np.concatenate([down, np.ones(1), up])
    return Law(lowest, pmf / pmf.sum())


def _cut(law: Law, mean: float, half_width: int) -> Law:
    first = max(0, round(mean) - half_width - law.start)
    pmf = law.pmf[first : round(mean) + half_width + 1 - law.start]
    return Law(law.start + first, pmf / pmf.sum())
