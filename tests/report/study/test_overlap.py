"""Mask overlap over seeds."""

from __future__ import annotations

import pytest

from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.study.overlap import overlap_runs_table, study_overlap_table


def match(width: float, seed: int, matcher: str, permuted: float) -> dict[str, object]:
    masks = [{"target": target, "permuted": permuted, "unpermuted": 0.2, "independent": 0.1} for target in (0.97, 0.9)]
    return {"width": width, "seed": seed, "matcher": matcher, "masks": masks}


MATCHES = [match(4, 0, "permuted", 0.3), match(1, 0, "by_weights", 0.5), match(1, 0, "permuted", 0.3)]
MATCHES += [match(1, 1, "permuted", 0.5)]


def test_overlap_is_averaged_over_seeds_in_order() -> None:
    rows = study_overlap_table(MATCHES).rows
    places = [tuple(row[:3]) for row in rows]
    assert places == [
        *(("1", matcher, target) for matcher in ("permuted", "by weights") for target in ("0.90", "0.97")),
        ("4", "permuted", "0.90"),
        ("4", "permuted", "0.97"),
    ]
    assert rows[0][3] == Estimate(pytest.approx(0.4), pytest.approx(0.1 * 2**0.5), 2)
    assert (rows[0][-1], rows[2][-1]) == (2, 1)
    assert study_overlap_table([]).rows == []


def test_overlap_runs_have_a_row_per_mask() -> None:
    table = overlap_runs_table(MATCHES)
    assert len(table.rows) == 8
    assert table.rows[0] == [4, 0, "permuted", 0.97, 0.3, 0.2, 0.1]
