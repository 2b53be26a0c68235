"""Barriers of a study by width, and the mean curves."""

from __future__ import annotations

from itertools import product

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.study.barriers import (
    barrier_runs_table,
    curves_table,
    study_barrier_figures,
    study_barriers_table,
)

HEIGHTS = {("before", "none"): 2.0, ("before", "repair"): 1.0, ("after", "none"): 0.5, ("after", "repair"): 0.25}


def line(width, seed, split, when, correction, matcher="permuted"):
    height = HEIGHTS[when, correction] / width + 0.1 * seed
    key = {"width": width, "seed": seed, "matcher": matcher, "split": split, "correction": correction, "when": when}
    curves = {"alphas": [0.0, 0.5, 1.0], "loss": [0.2, 0.2 + height, 0.2], "error": [0.1, 0.1 + height / 10, 0.1]}
    return {**key, **curves, "loss_barrier": height, "error_barrier": height / 10}


RECORDS = [line(*key) for key in product((4, 1), (0, 1), ("train", "test"), ("before", "after"), ("repair", "none"))]


def test_table_has_before_and_after_in_one_row() -> None:
    rows = study_barriers_table(RECORDS).rows
    assert [tuple(row[:4]) for row in rows] == [
        (width, split, statistics, "permuted")
        for width, split, statistics in product("14", ("test", "train"), ("raw", "REPAIR"))
    ]
    spread = pytest.approx(0.1 / 2**0.5)
    assert rows[0][4:6] == [Estimate(pytest.approx(2.05), spread, 2), Estimate(pytest.approx(0.55), spread, 2)]
    assert rows[0][6].value == pytest.approx(20.5)
    assert rows[0][-1] == 2


def test_before_is_one_line_for_all_matchers() -> None:
    more = [line(1, 0, "test", "after", "none", "by_weights")]
    rows = study_barriers_table([*RECORDS, *more]).rows
    row = next(row for row in rows if row[3] == "by weights")
    assert row[4].count == 2
    assert (row[5].value, row[-1]) == (0.5, 1)


def test_a_barrier_that_has_no_after_yet_is_shown() -> None:
    (row,) = study_barriers_table([line(1, 0, "test", "before", "none")]).rows
    assert row[3:] == ["–", Estimate(2, pytest.approx(float("nan"), nan_ok=True), 1), None, row[6], None, 1]
    assert row[6].value == pytest.approx(20)


def test_unknown_corrections_are_refused() -> None:
    with pytest.raises(InputError, match="barriers: correction is 'bn', expected one of none, bn_reset, repair"):
        study_barriers_table([{**RECORDS[0], "correction": "bn"}])


def test_csv_has_every_line_and_every_point() -> None:
    assert len(barrier_runs_table(RECORDS).rows) == len(RECORDS)
    points = curves_table(RECORDS)
    assert len(points.rows) == 3 * len(RECORDS)
    assert points.rows[1] == [4, 0, "permuted", "train", "repair", "before", 0.5, 0.45, 0.125]


def test_figures_are_of_test_images_by_width_and_along_the_line() -> None:
    figures = study_barrier_figures(RECORDS)
    assert list(figures) == ["barriers", "curves-loss", "curves-error"]
    loss, error = figures["barriers"].axes
    assert [label.get_text() for label in loss.get_xticklabels()] == ["1", "4"]
    drawn = [line.get_ydata().tolist() for line in loss.lines if line.get_color() == COLOURS["naive"][0]]
    assert pytest.approx([2.05, 0.55]) in drawn
    assert error.get_title(loc="left") == "error barrier (%)"
    curves = figures["curves-error"].axes[0]
    assert any(line.get_ydata().tolist() == pytest.approx([10, 30.5, 10]) for line in curves.lines)
    assert "test error (%)" in figures["curves-error"].texts[1].get_text()
    legend = [text.get_text() for text in figures["curves-loss"].legends[0].get_texts()]
    assert legend == ["before, raw", "after, raw", "before, REPAIR", "after, REPAIR"]


def test_one_width_has_curves_alone_and_no_records_nothing() -> None:
    own = [record for record in RECORDS if record["width"] == 1 and record["split"] == "train"]
    figures = study_barrier_figures(own)
    assert list(figures) == ["curves-loss", "curves-error"]
    assert "train loss (nats)" in figures["curves-loss"].texts[1].get_text()
    assert study_barrier_figures([]) == {}


def test_several_matchers_are_told_apart() -> None:
    more = [line(1, 0, "test", "after", "none", "by_weights")]
    legend = study_barrier_figures([*RECORDS, *more])["curves-loss"].legends[0].get_texts()
    assert {"after permuted, raw", "after by weights, raw", "before, raw"} <= {text.get_text() for text in legend}


def test_captions_say_what_the_chord_and_independent_masks_are():
    from rebasin_lt.report.analyses.permute import barrier_table, masks_table
    from rebasin_lt.report.study.overlap import study_overlap_table

    for table in (study_barriers_table([]), barrier_table({})):
        assert "(the straight line between the values at both ends)" in table.caption
    for table in (study_overlap_table([]), masks_table({})):
        assert "of independent masks: what chance gives" in table.caption
