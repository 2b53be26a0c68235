"""The barrier's table, CSV and figure say what was measured."""

from __future__ import annotations

import csv
import io
from itertools import product

import pytest

from rebasin_lt.report.analyses.barrier import barriers_csv, barriers_figure, barriers_table
from rebasin_lt.report.kit.figures import figure_svg
from rebasin_lt.report.kit.methods import COLOURS

ALPHAS = [0, 0.25, 0.5, 0.75, 1]


def curve(correction: str, alignment: str, split: str, height: float) -> dict:
    values = [0.1 + height * alpha * (1 - alpha) for alpha in ALPHAS]
    derived = ("loss_barrier", "loss_excess_over_mean", "error_barrier", "error_excess_over_mean")
    return {
        "correction": correction, "alignment": alignment, "split": split, "num_images": 1500, "alphas": ALPHAS,
        "loss": values, "error": values, **{name: height / 4 + index for index, name in enumerate(derived)},
    }  # fmt: skip


KINDS = list(product(("none", "bn_reset"), ("before", "after"), ("train", "test")))
RESULT = {
    "sparsity": {"before": 0.0, "after": 0.0},
    "curves": [curve(*kind, height) for height, kind in enumerate(KINDS)],
}


def test_table_has_a_row_per_curve_with_both_barriers_in_nats_and_percent() -> None:
    table = barriers_table(RESULT)
    assert [row[:3] for row in table.rows][:3] == [
        ["raw", "A to B", "train"], ["raw", "A to B", "test"], ["raw", "π(A) to B", "train"]
    ]  # fmt: skip
    assert table.rows[4][3:] == pytest.approx([1, 2, 300, 400, 110])
    assert table.caption == "5 points on 1,500 train examples and 1,500 test examples"


def test_table_tells_the_sparsity_of_the_lines_and_lacks_a_midpoint_that_was_not_measured() -> None:
    curves = [{**RESULT["curves"][0], "alphas": [0, 0.2, 0.6, 0.7, 1]}]
    table = barriers_table({"sparsity": {"before": 0.75}, "curves": curves})
    assert table.caption.endswith("; sparsity of the line: A to B 0.7500")
    assert table.rows[0][-1] is None


def test_csv_has_a_row_per_point_in_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(barriers_csv(RESULT))))
    assert len(rows) == 8 * 5
    assert rows[7]["alpha"] == "0.5"
    assert float(rows[7]["loss"]) == RESULT["curves"][1]["loss"][2]
    assert (rows[-1]["correction"], rows[-1]["alignment"], rows[-1]["split"]) == ("bn_reset", "after", "test")


def test_figure_draws_every_curve_with_a_chord_for_the_test_images() -> None:
    figure = barriers_figure(RESULT)
    assert len(figure.axes) == 4
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["raw: loss (nats)", "raw: error (%)", "BN reset: loss (nats)", "BN reset: error (%)"]
    lines = figure.axes[1].lines
    assert len(lines) == 4 + 2
    assert max(lines[1].get_ydata()) == pytest.approx(100 * (0.1 + 1 / 4))
    chord = lines[2]
    assert chord.get_ydata() == pytest.approx([10, 10])
    assert lines[0].get_color() == lines[1].get_color() != lines[3].get_color()
    assert lines[0].get_linestyle() != lines[1].get_linestyle()
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [
        "A to B", "π(A) to B", "test set", "training set", "chord"
    ]  # fmt: skip


def test_figure_of_training_images_alone_has_their_chord() -> None:
    figure = barriers_figure({"sparsity": {}, "curves": [curve("none", "before", "train", 1.0)]})
    assert len(figure.axes[0].lines) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A to B", "training set", "chord"]


def test_figure_uses_colours_that_adapt_to_the_dark() -> None:
    svg = figure_svg(barriers_figure(RESULT))
    known = {light for light, _ in COLOURS.values()}
    assert {f"#{part[:6]}" for part in svg.split("stroke: #")[1:]} <= known
