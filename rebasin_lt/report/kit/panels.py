"""Small multiples: panels of the same lines over one kind of axis, with one key above them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.methods import Method
from rebasin_lt.report.kit.figures import figure_style, plain_axes
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_WIDTH, _PANEL, _GAP, _FOOT, _LINE = 5.0, 1.75, 0.52, 0.5, 0.2  # inches; _LINE: of text
_WIDE = 4  # panels in a row from which a figure is as wide as a page
_SMALL = 10.0  # pt: a page of 400 pixels shows an inch of a figure on 72 of them, so no text is below 10
_DENSE: Any = {"color": COLOURS["ink"][0], "linewidth": 1.2, "linestyle": (0, (4, 3))}
_HOLLOW: Any = {"linestyle": "none", "markerfacecolor": "none", "markersize": 7, "markeredgewidth": 1.1}


@dataclass(frozen=True)
class Panel:
    """One plot: estimates by series and position, marks without a line, and a level across it; all in display units.

    `ticks` name positions. An estimate of None, or a position without one, leaves a gap in the line.
    """

    title: str
    ticks: Mapping[float, str]
    series: Mapping[str, Mapping[float, Estimate | None]]
    marks: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    level: float | None = None


def panel_figure(
    panels: Sequence[Panel],
    methods: Mapping[str, Method],
    *,
    title: str,
    quantity: str,
    x_label: str,
    from_zero: bool = False,
    columns: int = 2,
) -> Figure:
    """So many panels to a row, each with its own scale; bands are ± the errors of the estimates.

    `methods` say how each series is drawn and called; the key calls marks published, and the level dense. Raises
    InputError if there is no panel.
    """
    if not panels:
        raise InputError("panels: there are 0, expected at least one")
    drawn = {name: method for name, method in methods.items() if any(name in panel.series for panel in panels)}
    with figure_style():
        handles = _handles(drawn, panels)
        figure, plots = panel_grid([panel.title for panel in panels], handles, title, quantity, x_label, columns)
        for axes, panel in zip(plots, panels, strict=True):
            _draw_panel(axes, panel, drawn, from_zero)
    return figure


def panel_grid(
    titles: Sequence[str], handles: Sequence[Line2D], title: str, quantity: str, x_label: str, columns: int = 2
) -> tuple[Figure, list[Axes]]:
    """An empty figure, within `figure_style`: its heading and key, and so many panels to a row with these titles.

    With 4 it is twice as wide.
    """
    from matplotlib.figure import Figure

    stretch = 2 if columns >= _WIDE else 1
    width, columns = _WIDTH * stretch, min(columns, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(width, 1.0))
    head = 0.78 + _LINE * _draw_key(figure, handles, stretch)
    tall = _PANEL if stretch == 1 and len(titles) > 1 else 1.4 * _PANEL
    height = head + rows * tall + (rows - 1) * _GAP + _FOOT
    figure.set_size_inches(width, height)
    figure.text(0.02 / stretch, 1 - 0.1 / height, title, va="top", fontsize=12.6, fontweight="bold")
    figure.text(0.02 / stretch, 1 - 0.34 / height, quantity, va="top", fontsize=_SMALL, color=COLOURS["muted"][0])
    figure.legends[0].set_bbox_to_anchor((0.012 / stretch, 1 - 0.54 / height))
    right, apart = 1 - 0.015 / stretch, 0.2 if stretch == 1 else 0.16
    figure.subplots_adjust(0.085 / stretch, _FOOT / height, right, 1 - head / height, apart, _GAP / tall)
    plots = []
    for index, name in enumerate(titles):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_title(name, loc="left", x=0, pad=4, fontsize=_SMALL)
        axes.tick_params(labelsize=_SMALL)
        plain_axes(axes)
        if index + columns >= len(titles):
            axes.set_xlabel(x_label, fontsize=_SMALL)
        plots.append(axes)
    return figure, plots


def _draw_panel(axes: Axes, panel: Panel, methods: Mapping[str, Method], from_zero: bool) -> None:
    if panel.level is not None:
        axes.axhline(panel.level, **_DENSE)
    for name, method in reversed(list(methods.items())):  # the first lies on top
        _draw_series(axes, panel.series.get(name, {}), method)
        hollow = panel.marks.get(name, {})
        style = {"marker": method.marker, "markeredgecolor": COLOURS[method.colour][0], **_HOLLOW}
        axes.plot(list(hollow), list(hollow.values()), **style)
    axes.set_xticks(list(panel.ticks), _thinned(list(panel.ticks.values())))
    if len(panel.ticks) == 1:
        axes.set_xlim(min(panel.ticks) - 1, min(panel.ticks) + 1)
    if from_zero:
        axes.set_ylim(bottom=0)


def inside(method: Method) -> dict[str, Any]:
    """How the inside of a method's marker is drawn: those of methods with signs are not full."""
    return {} if method.fill == "full" else {"fillstyle": method.fill}


def _draw_series(axes: Axes, series: Mapping[float, Estimate | None], method: Method) -> None:
    colour = COLOURS[method.colour][0]
    values = [math.nan if estimate is None else estimate.value for estimate in series.values()]
    errors = [math.nan if estimate is None else estimate.error for estimate in series.values()]
    axes.plot(list(series), values, color=colour, markersize=4, linewidth=1.5, **_shape(method))
    known = [0.0 if math.isnan(error) else error for error in errors]
    if len(series) == 1:
        axes.errorbar(list(series), values, yerr=known, color=colour, linestyle="none", elinewidth=1.3, capsize=3)
    else:
        low, high = ([value + sign * error for value, error in zip(values, known, strict=True)] for sign in (-1, 1))
        axes.fill_between(list(series), low, high, color=colour, alpha=0.15, linewidth=0)


def _shape(method: Method) -> Any:
    return {"marker": method.marker, "linestyle": method.line, **inside(method)}


def _handles(methods: Mapping[str, Method], panels: Sequence[Panel]) -> list[Line2D]:
    """What the lines and marks are."""
    from matplotlib.lines import Line2D

    muted = COLOURS["muted"][0]
    handles = [
        Line2D(
            [], [], color=COLOURS[method.colour][0], markersize=5, linewidth=1.8, label=method.label, **_shape(method)
        )
        for method in methods.values()
    ]
    if any(panel.level is not None for panel in panels):
        handles.append(Line2D([], [], **_DENSE, label="dense"))
    if any(panel.marks.get(name) for panel in panels for name in methods):
        handles.append(Line2D([], [], marker="o", markeredgecolor=muted, **_HOLLOW, label="published"))
    return handles


def _draw_key(figure: Figure, handles: Sequence[Line2D], stretch: int = 1) -> int:
    """Draw the key; returns the lines of text that it takes."""
    most = (3 if max(len(str(handle.get_label())) for handle in handles) <= 16 else 2) * stretch
    columns = min(most, -(-len(handles) // 2))
    figure.legend(
        handles=list(handles),
        loc="upper left",
        ncols=columns,
        frameon=False,
        fontsize=_SMALL,
        borderpad=0,
        borderaxespad=0,
        handlelength=2.0,
        columnspacing=1.0,
        labelspacing=0.35,
    )
    return -(-len(handles) // columns)


def _thinned(labels: Sequence[str]) -> list[str]:
    """Every label, or so few of them, evenly, that they do not run into each other."""
    step = -(-sum(len(label) + 1 for label in labels) // 28)
    return [label if index % step == 0 else "" for index, label in enumerate(labels)]
