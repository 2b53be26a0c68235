"""Paired differences, their intervals, and the headline."""

from __future__ import annotations

import csv
import io

import pytest
import scipy.stats

from rebasin_lt.report.kit.methods import Methods
from rebasin_lt.report.kit.statistics import Estimate, gap_closure
from rebasin_lt.report.study.paired import closure_table, difference_table, headline, headline_table, pairs_table
from rebasin_lt.report.study.runs import Place

NAIVE, PERMUTED, LTH = ([0.80, 0.82, 0.81], [0.85, 0.86, 0.87], [0.90, 0.91, 0.93])


def seeds(values):
    return dict(enumerate(values))


GROUP = {"lth": seeds(LTH), "permuted": seeds(PERMUTED), "naive": seeds(NAIVE)}
LATER = {name: {seed: value + 0.01 * (name != "naive") for seed, value in own.items()} for name, own in GROUP.items()}
CELLS = {Place(0.9, "1ep"): GROUP, Place(0.97, "1ep"): GROUP, Place(0.97, "20ep"): LATER}


def test_difference_has_students_interval() -> None:
    interval = scipy.stats.ttest_rel(PERMUTED, NAIVE).confidence_interval()
    table = difference_table(4, CELLS, "naive")
    assert [column.title for column in table.columns] == ["sparsity · rewind", "LTH", "permuted"]
    assert table.rows[0][0] == "0.90 · 1ep"
    assert table.rows[0][2] == f"+5.00 [+{100 * interval.low:.2f}, +{100 * interval.high:.2f}]"
    assert table.caption.startswith("Width 4: accuracy minus that of naive in percentage points")


def test_one_seed_has_a_difference_without_interval_and_a_missing_method_none() -> None:
    cells = {Place(0.9, "1ep"): {"lth": {0: 0.9}, "naive": {0: 0.8, 1: 0.7}, "mine": {1: 0.6}}}
    mine = Methods({"mine": {}})
    assert difference_table(1, cells, "lth", mine).rows == [["0.90 · 1ep", None, "−10.00"]]
    assert difference_table(1, cells, "naive", mine).rows == [["0.90 · 1ep", "+10.00", "−10.00"]]


def test_closure_is_that_of_statistics() -> None:
    table = closure_table(1, CELLS)
    assert [column.title for column in table.columns] == ["sparsity · rewind", "permuted"]
    expected = gap_closure(GROUP["lth"], GROUP["permuted"], GROUP["naive"])
    assert expected is not None
    assert table.rows[0][1] == Estimate(pytest.approx(expected.value), pytest.approx(expected.error), 3)


def test_headline_is_over_all_rewind_points_of_the_highest_sparsity() -> None:
    gain = [100 * (high - low) + 0.5 for high, low in zip(PERMUTED, NAIVE, strict=True)]  # half of the later 0.01
    low, high = scipy.stats.ttest_1samp(gain, 0).confidence_interval()
    sentence = headline({1: CELLS, 4: CELLS})
    assert sentence.startswith(
        "At width 4 and sparsity 0.97, training under the permuted mask is 5.50 percentage points better than under "
        f"the unpermuted one (95 % interval +{low:.2f} to +{high:.2f}, 3 seeds, mean over 2 rewind points), and closes "
    )
    (row, _) = headline_table({1: CELLS, 4: CELLS}).rows
    assert row[:4] == ["1", "0.97", "permuted", f"+5.50 [+{low:.2f}, +{high:.2f}]"]
    assert row[-2:] == [2, 3]


def test_headline_says_worse_and_one_seed() -> None:
    cells = {Place(0.9, "1ep"): {"permuted": {0: 0.7}, "naive": {0: 0.8}}}
    assert headline({1: cells}) == (
        "At width 1 and sparsity 0.90, training under the permuted mask is 10.00 percentage points worse than under "
        "the unpermuted one (one seed, so no interval)."
    )


def test_headline_is_of_what_can_be_compared() -> None:
    half = {Place(0.9, "1ep"): GROUP, Place(0.97, "1ep"): {"permuted": {0: 0.8}}}
    assert headline({1: half, 4: {Place(0.97, "1ep"): {"permuted": {0: 0.8}}}}).startswith(
        "At width 1 and sparsity 0.90, "
    )
    assert headline({}) == "No mask has been trained both permuted and unpermuted yet: there is nothing to compare."


def test_headline_has_a_row_for_every_way_to_match() -> None:
    cells = {Place(0.9, "1ep"): {**GROUP, "by_weights": seeds(NAIVE)}}
    both = Methods({"permuted": {}, "by_weights": {"method": "frank_wolfe"}})
    assert [row[2] for row in headline_table({1: cells}, both).rows] == ["permuted", "by weights"]
    assert "permuted mask" in headline({1: cells}, both)
    only = {Place(0.9, "1ep"): {"naive": seeds(NAIVE), "by_weights": seeds(PERMUTED)}}
    assert "by weights mask" in headline({1: only}, both)


def test_pairs_are_fractions_with_a_mean_over_rewinds() -> None:
    rows = list(csv.DictReader(io.StringIO(pairs_table({4: CELLS}).to_csv())))
    pick = {(row["sparsity"], row["rewind"], row["method"], row["against"]): row for row in rows}
    assert len(pick) == len(rows) == 4 * 4  # places and a mean; three methods against two others
    row = pick["0.97", "mean", "permuted", "naive"]
    assert float(row["difference"]) == pytest.approx(0.055)
    assert float(row["low"]) < 0.055 < float(row["high"])
    assert row["n"] == "3"
    assert float(row["gap_closure"]) == pytest.approx((0.055) / (0.1033333 + 0.005), rel=1e-4)
    assert pick["0.97", "mean", "permuted", "lth"]["gap_closure"] == ""
    assert ("0.9", "mean", "permuted", "naive") not in pick
