"""What is said about a handful of seeds: means, paired differences and gap closure, each with its standard error.

Accuracies are fractions in [0, 1] everywhere; percent is a matter of display.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rebasin_lt.errors import InputError


@dataclass(frozen=True)
class Estimate:
    """A number measured over `count` seeds, with its standard error (nan where one seed cannot tell)."""

    value: float
    error: float
    count: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided Student t interval with count - 1 degrees of freedom; nan for one seed, approximate for a ratio."""
        from scipy.special import stdtrit

        if self.count < 2:
            return math.nan, math.nan
        half_width = float(stdtrit(self.count - 1, 0.5 + confidence / 2)) * self.error
        return self.value - half_width, self.value + half_width

    def scaled(self, factor: float) -> Estimate:
        """The same estimate in another unit: 100 makes percent of a fraction."""
        return Estimate(self.value * factor, self.error * abs(factor), self.count)


def times(factor: float, value: float | None) -> float | None:
    """A number in another unit; None, which in a file stands for what is not finite, stays."""
    return None if value is None else factor * value


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return float(np.mean(_checked(values)))


def sample_std(values: Sequence[float]) -> float:
    """Sample standard deviation (ddof = 1, as in the paper's tables); nan for a single value."""
    return float(np.std(_checked(values), ddof=1)) if len(values) > 1 else math.nan


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; nan for a single value."""
    return sample_std(values) / math.sqrt(len(values))


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Mean over seeds with its standard error."""
    return Estimate(mean(values), standard_error(values), len(values))


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate | None:
    """Mean of first - second over the seeds both have; None if they share no seed.

    What varies between seeds alike for both (the data order, network B) cancels, so this is sharper than the
    difference of two means.
    """
    seeds = _shared_seeds(first, second)
    return estimate_mean([first[seed] - second[seed] for seed in seeds]) if seeds else None


def gap_closure(lth: Mapping[int, float], permuted: Mapping[int, float], naive: Mapping[int, float]) -> Estimate | None:
    """G = mean(permuted - naive) / mean(LTH - naive) over the seeds all three have: 0 is naive, 1 is LTH.

    A ratio of means, because a mean of per-seed ratios is ruled by the seed with the smallest gap. Its standard error
    is the delta method's: that of the residuals (permuted - naive) - G (LTH - naive), over the mean gap. Jackknifing
    agrees to first order, but with three seeds it leaves two, whose gap may vanish.

    None where there is no gap to close: no shared seed, or a gap that is not above 0 by 2 standard errors (above 0,
    where one seed cannot tell). A ratio over such a gap has no bounded confidence set (Fieller).
    """
    seeds = _shared_seeds(lth, permuted, naive)
    if not seeds:
        return None
    gaps = np.array([lth[seed] - naive[seed] for seed in seeds])
    gains = np.array([permuted[seed] - naive[seed] for seed in seeds])
    gap = estimate_mean(gaps.tolist())
    if gap.value <= max(1e-9, 0.0 if math.isnan(gap.error) else 2 * gap.error):  # rounding leaves gaps of 1e-17
        return None
    ratio = float(gains.mean() / gap.value)
    return Estimate(ratio, standard_error((gains - ratio * gaps).tolist()) / gap.value, len(seeds))


def group_records(
    records: Iterable[Mapping[str, Any]], are_shares: bool = True
) -> dict[float, dict[str, dict[int, float]]]:
    """A metric by sparsity (ascending), method and seed.

    `records` are {seed, sparsity, method, value}: the target sparsity, any name, of shares a fraction. Other keys are
    ignored; a record that is there twice is refused, because averaging two settings would hide both.
    """
    grouped: dict[float, dict[str, dict[int, float]]] = {}
    for record in records:
        seed, sparsity, method, value = (record[key] for key in ("seed", "sparsity", "method", "value"))
        if are_shares and not (0 <= value <= 1 or math.isnan(value)):
            raise InputError(f"records: value is {value}, expected a fraction from 0 to 1 (not percent)")
        seeds = grouped.setdefault(float(sparsity), {}).setdefault(method, {})
        if seed in seeds:
            raise InputError(
                f"records: seed {seed}, sparsity {sparsity}, method {method!r} is there twice, expected one setting"
            )
        seeds[seed] = float(value)
    return dict(sorted(grouped.items()))


def sparsity_text(sparsity: float) -> str:
    """A sparsity with two decimals, or with as many as it has: 0.90, 0.995."""
    return max(f"{sparsity:.2f}", f"{sparsity:g}", key=len)


def _shared_seeds(*groups: Mapping[int, float]) -> list[int]:
    return [seed for seed in groups[0] if all(seed in group for group in groups)]


def _checked(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    if len(values) == 0:
        raise InputError("values: there are 0, expected at least one")
    return np.asarray(values, dtype=np.float64)
