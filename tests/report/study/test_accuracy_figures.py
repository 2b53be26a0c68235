"""Accuracy figures: one per width with a panel per sparsity, or one against sparsity."""

from __future__ import annotations

import pytest

from rebasin_lt.report.kit.methods import COLOURS, Methods
from rebasin_lt.report.study.accuracy_figures import accuracy_figures
from rebasin_lt.report.study.runs import group_runs
from rebasin_lt.report.study.setting import Setting

SETTING = Setting("cifar10", "resnet20", ("1ep", "20ep"), 10, Methods({"mine": {}}))


def records(widths=(1, 4), sparsities=(0.9, 0.97), rewinds=("0it", "20ep"), seeds=(0, 1)):
    return [
        {"width": width, "sparsity": sparsity, "rewind": rewind, "seed": seed, "method": method, "top1": top1}
        for width in widths
        for sparsity in sparsities
        for rewind in rewinds
        for seed in seeds
        for method, top1 in (("lth", 0.9 + 0.01 * seed), ("mine", 0.8))
    ]


def draw(dense=None, **grid):
    return accuracy_figures(group_runs(records(**grid)), SETTING, dense or {})


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_each_width_has_a_figure_with_a_panel_per_sparsity() -> None:
    figures = draw({1: [0.9, 0.96]})
    assert list(figures) == ["accuracy-width-1", "accuracy-width-4"]
    first, second = figures.values()
    assert titles(first) == ["sparsity 0.90", "sparsity 0.97"]
    axes = first.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "20"]
    assert axes.get_xlabel() == "rewind point (epochs)"
    lth = next(line for line in axes.lines if line.get_color() == COLOURS["lth"][0])
    assert lth.get_ydata() == pytest.approx([90.5, 90.5])
    level = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert level == pytest.approx([93])
    assert "mean ± sample std of 2 seeds" in [text.get_text() for text in first.texts][1]
    assert not [line for line in second.axes[0].lines if line.get_linestyle() == "--"]


def test_published_means_are_hollow_where_there_are_any() -> None:
    axes = draw()["accuracy-width-1"].axes[0]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
    ((x,), (y,)) = (hollow[0].get_xdata(), hollow[0].get_ydata())
    assert len(hollow) == 1
    assert (x, y) == (1, pytest.approx(91.18))  # 20ep; 0it has none, and the users' own method neither


def test_steps_are_written_out() -> None:
    axes = draw(rewinds=("0it", "500it", "1ep"), widths=(1,))["accuracy-width-1"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0it", "500it", "1ep"]
    assert axes.get_xlabel() == "rewind point"


def test_one_rewind_moment_is_drawn_against_sparsity() -> None:
    figures = draw(rewinds=("1ep",), seeds=(0,))
    (figure,) = figures.values()
    assert list(figures) == ["accuracy"]
    assert titles(figure) == ["width 1", "width 4"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.90", "0.97"]
    assert [text.get_text() for text in figure.texts] == [
        "Test accuracy against sparsity, rewind 1ep",
        "test accuracy (%), one seed",
    ]


def test_top_5_has_names_of_its_own_and_nothing_is_nothing() -> None:
    runs = group_runs([{**record, "top5": 0.99} for record in records()], metric="top5")
    assert list(accuracy_figures(runs, SETTING, {}, "top5")) == ["accuracy-top5-width-1", "accuracy-top5-width-4"]
    assert accuracy_figures({}, SETTING, {}) == {}
