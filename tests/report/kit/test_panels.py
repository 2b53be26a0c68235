"""Small multiples: lines, bands, gaps, marks, the level across, and the key."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.figures import figure_svg
from rebasin_lt.report.kit.methods import COLOURS, Methods
from rebasin_lt.report.kit.panels import Panel, panel_figure
from rebasin_lt.report.kit.statistics import Estimate

TICKS = {0.0: "1", 1.0: "5", 2.0: "10"}
LTH = {at: Estimate(90 + at, 0.5, 3) for at in TICKS}
NAIVE = {0.0: Estimate(80, 0.5, 3), 1.0: None, 2.0: Estimate(81, math.nan, 1)}
PANEL = Panel("sparsity 0.90", TICKS, {"lth": LTH, "naive": NAIVE}, {"lth": {0.0: 91.5}}, 95.0)
WORDS = {"title": "Title", "quantity": "accuracy (%)", "x_label": "rewind point"}


def draw(*panels: Panel, **changes: object):
    return panel_figure(panels, Methods().described(["lth", "naive", "shuffled"]), **{**WORDS, **changes})


def lines(axes):
    return {line.get_color(): line for line in axes.lines if len(line.get_xdata()) > 2}


def test_panel_draws_means_bands_and_gaps() -> None:
    (axes,) = draw(PANEL).axes
    drawn = lines(axes)
    assert drawn[COLOURS["lth"][0]].get_ydata() == pytest.approx([90, 91, 92])
    assert np.isnan(drawn[COLOURS["naive"][0]].get_ydata()).tolist() == [False, True, False]
    band = axes.collections[-1].get_paths()[0].vertices  # LTH is drawn last, on top
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((89.5, 92.5))
    assert axes.get_title(loc="left") == "sparsity 0.90"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "10"]


def test_panel_draws_marks_hollow_and_the_level_dashed() -> None:
    (axes,) = draw(PANEL).axes
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
    assert [line.get_ydata()[0] for line in hollow] == [91.5]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [95]


def test_key_names_what_is_drawn_only() -> None:
    figure = draw(PANEL)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["LTH", "naive", "dense", "published"]
    bare = draw(Panel("one", TICKS, {"lth": LTH}))
    assert [text.get_text() for text in bare.legends[0].get_texts()] == ["LTH"]


@pytest.mark.parametrize(("count", "labelled"), [(1, 1), (2, 2), (3, 2), (4, 2)])
def test_panels_stand_two_in_a_row_with_labels_below_the_last(count: int, labelled: int) -> None:
    figure = draw(*[PANEL] * count)
    assert len(figure.axes) == count
    assert sum(axes.get_xlabel() == "rewind point" for axes in figure.axes) == labelled
    places = [axes.get_position() for axes in figure.axes]
    assert all(0 <= place.x0 < place.x1 <= 1 and 0 < place.y0 < place.y1 < 1 for place in places)
    assert not any(first.overlaps(second) for index, first in enumerate(places) for second in places[:index])


def test_a_single_point_has_a_bar() -> None:
    (axes,) = draw(Panel("one", {0.0: "1"}, {"lth": {0.0: Estimate(90, 2, 3)}})).axes
    ((low, high),) = (segment[:, 1] for segment in axes.containers[0].lines[2][0].get_segments())
    assert (low, high) == (88, 92)


def test_many_ticks_are_thinned() -> None:
    (axes,) = draw(Panel("one", {float(at): f"{at}00it" for at in range(12)}, {"lth": LTH})).axes
    shown = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    assert shown[:2] == ["000it", "300it"]


def test_no_panel_is_refused() -> None:
    with pytest.raises(InputError, match="panels: there are 0, expected at least one"):
        draw()


def test_equal_panels_are_equal_bytes() -> None:
    assert figure_svg(draw(PANEL, PANEL)) == figure_svg(draw(PANEL, PANEL))
