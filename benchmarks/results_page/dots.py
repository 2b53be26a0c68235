"""A figure with a row per method: every pair as a dot, their mean as a bar, in a panel per study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.results_page.measured import Measured
from rebasin_lt.experiment.methods import Method
from rebasin_lt.report.kit.figures import plain_axes, styled_figure
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.statistics import mean, sparsity_text
from rebasin_lt.report.study.runs import Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _ROW, _HEAD, _BETWEEN, _FOOT = 7.2, 0.26, 0.62, 0.72, 0.5  # inches
_LEFT, _RIGHT = 0.34, 0.975
_FONT = 10.5


class Panel(NamedTuple):
    """One cell of a study, and the methods of it that are shown, best first as a reader would expect."""

    title: str
    measured: Measured
    place: Place
    methods: Sequence[str]


def dots_figure(title: str, panels: Sequence[Panel]) -> Figure:
    """Test accuracies of the methods of each panel, below each other; each panel has its own scale."""
    heights = [_ROW * len(panel.methods) for panel in panels]
    height = _HEAD + sum(heights) + _BETWEEN * (len(panels) - 1) + _FOOT
    with styled_figure(_WIDTH, height) as figure:
        figure.text(0.012, 1 - 0.1 / height, title, va="top", fontsize=12.6, fontweight="bold")
        top = height - _HEAD
        for panel, tall in zip(panels, heights, strict=True):
            axes = figure.add_axes((_LEFT, (top - tall) / height, _RIGHT - _LEFT, tall / height))
            _draw(axes, panel)
            top -= tall + _BETWEEN
        axes.set_xlabel("test accuracy (%); a dot per pair, a bar at their mean", fontsize=_FONT)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    group = panel.measured.cells()[panel.place]
    drawn = panel.measured.setting.methods.described(panel.methods)
    for row, name in enumerate(panel.methods):
        _draw_row(axes, row, drawn[name], [100 * value for value in group[name].values()])
    axes.set_yticks(range(len(panel.methods)), [drawn[name].label for name in panel.methods])
    axes.set_ylim(len(panel.methods) - 0.4, -0.6)
    axes.tick_params(labelsize=_FONT)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    plain_axes(axes)
    seeds = panel.measured.seeds
    text = f"{panel.title}, sparsity {sparsity_text(panel.place.sparsity)} from {panel.place.rewind}"
    axes.set_title(f"{text}, {seeds} pair{'s' if seeds > 1 else ''}", loc="left", x=-0.49, pad=5, fontsize=_FONT)


def _draw_row(axes: Axes, row: int, method: Method, values: Sequence[float]) -> None:
    colour = COLOURS[method.colour][0]
    axes.plot(values, [row] * len(values), "o", color=colour, markersize=5, alpha=0.5, markeredgewidth=0)
    axes.plot([mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.5, solid_capstyle="butt")
