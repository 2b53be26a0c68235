"""Means over seeds, paired differences and gap closure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.statistics import (
    Estimate,
    estimate_mean,
    gap_closure,
    group_records,
    mean,
    paired_difference,
    sample_std,
    sparsity_text,
    standard_error,
)

VALUES = [0.91, 0.88, 0.93, 0.90]


def by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_mean_and_spread_equal_numpy_and_scipy() -> None:
    assert mean(VALUES) == pytest.approx(np.mean(VALUES))
    assert sample_std(VALUES) == pytest.approx(np.std(VALUES, ddof=1))
    assert standard_error(VALUES) == pytest.approx(scipy.stats.sem(VALUES))


def test_one_seed_has_a_mean_and_no_spread() -> None:
    estimate = estimate_mean([0.9])
    assert estimate.value == 0.9
    assert math.isnan(sample_std([0.9]))
    assert math.isnan(estimate.error)
    assert all(math.isnan(end) for end in estimate.interval())


def test_no_values_are_rejected() -> None:
    with pytest.raises(InputError, match="values: there are 0, expected at least one"):
        mean([])


def test_interval_is_students() -> None:
    expected = scipy.stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.9)
    assert estimate_mean(VALUES).interval(0.9) == pytest.approx((expected.low, expected.high))


def test_scaling_keeps_the_relative_error() -> None:
    assert Estimate(0.5, 0.1, 3).scaled(-100) == Estimate(-50.0, 10.0, 3)


def test_paired_difference_is_the_paired_t_test() -> None:
    other = [0.80, 0.79, 0.85, 0.78]
    difference = paired_difference(by_seed(VALUES), by_seed(other))
    expected = scipy.stats.ttest_rel(VALUES, other).confidence_interval()
    assert difference is not None
    assert difference.interval() == pytest.approx((expected.low, expected.high))


def test_paired_difference_removes_what_seeds_share() -> None:
    first = by_seed(VALUES)
    difference = paired_difference(first, {seed: value - 0.1 for seed, value in first.items()})
    assert difference is not None
    assert difference.value == pytest.approx(0.1)
    assert difference.error == pytest.approx(0, abs=1e-12)


def test_paired_difference_uses_shared_seeds_only() -> None:
    assert paired_difference({0: 0.9, 1: 0.8, 2: 0.1}, {1: 0.5, 0: 0.6}) == estimate_mean([0.9 - 0.6, 0.8 - 0.5])
    assert paired_difference({0: 0.9}, {1: 0.5}) is None


@pytest.mark.parametrize(("share", "closed"), [(0.0, 0.0), (1.0, 1.0), (0.28, 0.28), (-0.5, -0.5)])
def test_gap_closure_is_0_at_naive_and_1_at_lth(share: float, closed: float) -> None:
    naive, lth = np.array([0.5, 0.6, 0.55]), np.array([0.9, 0.95, 0.92])
    result = gap_closure(by_seed(lth), by_seed(naive + share * (lth - naive)), by_seed(naive))
    assert result is not None
    assert result.value == pytest.approx(closed)
    assert result.error == pytest.approx(0, abs=1e-12)


def test_gap_closure_is_a_ratio_of_means() -> None:
    result = gap_closure({0: 0.9, 1: 0.9}, {0: 0.8, 1: 0.9}, {0: 0.5, 1: 0.7})
    assert result is not None
    assert result.value == pytest.approx((0.3 + 0.2) / (0.4 + 0.2))


def test_gap_closure_error_matches_repeated_experiments() -> None:
    generator = np.random.default_rng(0)
    naive = generator.normal(0.5, 0.03, (4000, 12))
    lth = naive + generator.normal(0.4, 0.03, naive.shape)
    permuted = naive + generator.normal(0.3, 0.03, naive.shape)
    results = [gap_closure(*map(by_seed, rows)) for rows in zip(lth, permuted, naive, strict=True)]
    ratios, errors = np.array([(result.value, result.error) for result in results if result]).T
    assert len(ratios) == 4000
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(ratios.std(), rel=0.05)


@pytest.mark.parametrize(
    "lth",
    [
        pytest.param({0: 0.5, 1: 0.6, 2: 0.55}, id="no gap"),
        pytest.param({0: 0.9, 1: 0.3, 2: 0.6}, id="a gap within two standard errors of 0"),
        pytest.param({0: 0.4, 1: 0.5, 2: 0.45}, id="a gap below 0"),
        pytest.param({3: 0.9}, id="no shared seed"),
    ],
)
def test_gap_closure_of_no_gap_is_none(lth: dict[int, float]) -> None:
    naive = {0: 0.5, 1: 0.6, 2: 0.55}
    assert gap_closure(lth, naive, naive) is None


@pytest.mark.parametrize(("gap", "known"), [(0.19, False), (0.21, True)])
def test_a_gap_counts_from_two_standard_errors(gap: float, known: bool) -> None:
    lth = {0: 0.5 + gap - 0.1, 1: 0.5 + gap + 0.1}  # standard error of the gap: 0.1
    assert (gap_closure(lth, lth, {0: 0.5, 1: 0.5}) is not None) == known


def test_gap_closure_of_one_seed_has_no_error() -> None:
    result = gap_closure({7: 0.9}, {7: 0.8}, {7: 0.5})
    assert result is not None
    assert result.value == pytest.approx(0.75)
    assert math.isnan(result.error)


def record(**changes: object) -> dict[str, object]:
    return {"seed": 0, "sparsity": 0.9, "method": "lth", "value": 0.95} | changes


def test_records_are_grouped_by_ascending_sparsity() -> None:
    grouped = group_records([record(sparsity=0.98), record(), record(seed=1, value=0.9), record(method="naive")])
    assert list(grouped) == [0.9, 0.98]
    assert grouped[0.9] == {"lth": {0: 0.95, 1: 0.9}, "naive": {0: 0.95}}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(value=95.0)], r"value is 95.0, expected a fraction from 0 to 1 \(not percent\)"),
        ([record(), record(value=0.9)], "seed 0, sparsity 0.9, method 'lth' is there twice"),
    ],
)
def test_records_reject_what_would_mislead(records: list[dict[str, object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        group_records(records)


@pytest.mark.parametrize(("sparsity", "text"), [(0.9, "0.90"), (0.98, "0.98"), (0.995, "0.995"), (0.0, "0.00")])
def test_sparsity_is_never_rounded_away(sparsity: float, text: str) -> None:
    assert sparsity_text(sparsity) == text
