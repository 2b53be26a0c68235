"""Landscapes as figures: contours where the losses are, marked networks, colours that adapt to the dark."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rebasin_lt.analyses.two_weights import two_weights
from rebasin_lt.report.analyses.landscape import plane_table, planes_figure, two_weights_figure, two_weights_table
from rebasin_lt.report.kit.figures import figure_svg
from rebasin_lt.report.kit.methods import COLOURS

X, Y = np.linspace(-2, 12, 9), np.linspace(-1, 9, 7)
LOSSES = (0.1 + (X[None] / 4) ** 2 + (Y[:, None] / 3) ** 2).tolist()
PLANE = {
    "x": X.tolist(), "y": Y.tolist(), "num_images": 500,
    "corners": {"permuted": [0.0, 0.0], "b": [10.0, 0.0], "a": [4.0, 8.0]},
    "loss": {"none": LOSSES, "bn_reset": [[value / 3 for value in row] for row in LOSSES]},
}  # fmt: skip


@pytest.fixture(scope="module")
def story():
    return two_weights(size=21)


def test_plane_figure_has_a_panel_per_correction_with_the_three_networks_at_their_places() -> None:
    figure = planes_figure(PLANE)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "raw: test loss (nats)", "BN reset: test loss (nats)"
    ]  # fmt: skip
    for axes in figure.axes:
        marks = {text.get_text(): text.xy for text in axes.texts if hasattr(text, "xy")}
        assert {name: tuple(marks[name]) for name in ("A", "π(A)", "B")} == {
            "A": (4, 8), "π(A)": (0, 0), "B": (10, 0)
        }  # fmt: skip
        assert axes.get_aspect() == 1


@pytest.mark.parametrize("factor", [1.0, 0.01, 1e4])
def test_contours_have_levels_within_the_losses(factor: float) -> None:
    losses = [[factor * value for value in row] for row in LOSSES]
    axes = planes_figure({**PLANE, "loss": {"none": losses}}).axes[0]
    (lines,) = (each for each in axes.collections if not each.filled)
    assert len(lines.levels) >= 4
    assert np.min(losses) < min(lines.levels) <= max(lines.levels) < np.max(losses)


def test_losses_far_outside_of_the_three_networks_have_no_contours_of_their_own() -> None:
    losses = np.asarray(LOSSES)
    losses[:, :2] += 1e5  # two columns to the left of π(A), where variances would be negative
    inside = losses[1:6, 2:8]
    axes = planes_figure({**PLANE, "loss": {"none": losses.tolist()}}).axes[0]
    (lines,) = (each for each in axes.collections if not each.filled)
    assert len(lines.levels) >= 4
    assert max(lines.levels) < 1.5 * inside.max()


@pytest.mark.parametrize(("inside", "outside"), [(2e-6, 1e4), (0.0, 0.0), (0.3, 0.3)])
def test_losses_without_a_level_between_them_do_not_stop_the_figure(inside: float, outside: float) -> None:
    losses = np.where(np.asarray(LOSSES) > 9, outside, inside)
    (axes,) = planes_figure({**PLANE, "loss": {"none": losses.tolist()}}).axes
    assert bool(axes.collections) is (inside != outside)


def test_losses_of_nothing_but_zero_between_the_three_do_not_stop_the_figure() -> None:
    assert planes_figure({**PLANE, "loss": {"none": np.where(np.asarray(LOSSES) > 9, 5.0, 0.0).tolist()}}).axes


def test_infinite_losses_do_not_stop_the_figure() -> None:
    losses = [[*row[:-1], float("nan")] for row in LOSSES]
    assert planes_figure({**PLANE, "loss": {"none": losses}}).axes


def test_plane_table_tells_range_and_distances() -> None:
    table = plane_table(PLANE)
    assert table.caption == "9 × 7 points on 500 test examples; distances: A to B 10.00, π(A) to B 10.00"
    assert table.rows[0][0] == "raw"
    assert table.rows[0][1:] == pytest.approx([np.min(LOSSES), np.median(LOSSES), np.max(LOSSES)])


def test_two_weights_figure_draws_five_paths_from_their_initialisations(story) -> None:
    axes = two_weights_figure(story).axes[0]
    drawn = [np.column_stack(line.get_data()) for line in axes.lines]
    for path in story["paths"].values():
        assert any(line.shape == np.shape(path) and np.allclose(line, path) for line in drawn)
    assert {text.get_text() for text in axes.texts} >= {"A", "B", "initial A", "initial B"}


def test_two_weights_table_has_a_row_per_run(story) -> None:
    rows = two_weights_table(story).rows
    assert [row[1] for row in rows] == ["1 1", "1 1", "1 0", "1 0", "0 1"]
    assert rows[3][-1] == story["end_loss"]["naive"]


def test_figures_use_colours_that_adapt_to_the_dark(story) -> None:
    known = {light for light, _ in COLOURS.values()}
    for figure in (planes_figure(PLANE), two_weights_figure(story)):
        used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", figure_svg(figure).split("</defs>", 1)[1]))
        assert used <= known
