"""Accuracies of a study as figures: against the rewind moment at every sparsity, or against sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from rebasin_lt.experiment.metrics import COMPARED, METRICS
from rebasin_lt.report.kit.panels import Panel, panel_figure
from rebasin_lt.report.kit.statistics import Estimate, mean, sparsity_text
from rebasin_lt.report.study.accuracy import published_beside, spread_of
from rebasin_lt.report.study.runs import Group, Place
from rebasin_lt.report.study.setting import Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = Mapping[Place, Group]


def accuracy_figures(
    runs: Mapping[float, Cells],
    setting: Setting,
    dense: Mapping[float, Sequence[float]],
    metric: str = COMPARED,
    columns: int = 2,
) -> dict[str, Figure]:
    """The paper's Figures 5, 6 and 8, or with top-5 its Figure 7: by file name, one figure per width.

    A panel per sparsity, accuracy (%) against the rewind moment, mean ± sample standard deviation, dashed: the mean
    dense accuracy, hollow: what the paper published. Where a study has one rewind moment there is one figure instead:
    a panel per width, against sparsity. The study's own axes have a panel for each value. `dense` are accuracies by
    width; `columns`, the panels in a row.
    """
    if not runs:
        return {}
    methods = setting.methods.described(
        chain.from_iterable(group for cells in runs.values() for group in cells.values())
    )
    moments = {place.rewind for cells in runs.values() for place in cells}
    quantity = f"{METRICS[metric].quantity}, {_spread(runs)}"
    if len(moments) <= 1:
        panels = [
            _panel(_titled(f"width {width:g}", axes), own, list(map(_sparsity, own)), width, setting, dense, metric)
            for width, cells in runs.items()
            for axes in dict.fromkeys(place.axes for place in cells)
            for own in [{place: group for place, group in cells.items() if place.axes == axes}]
        ]
        title = f"{METRICS[metric].label.capitalize()} against sparsity, rewind {''.join(moments)}"
        drawn = panel_figure(panels, methods, title=title, x_label="sparsity", quantity=quantity, columns=columns)
        return {METRICS[metric].file: drawn}
    return {
        f"{METRICS[metric].file}-width-{width:g}": panel_figure(
            _by_sparsity(width, cells, setting, dense, metric),
            methods,
            title=f"{METRICS[metric].label.capitalize()} against rewind point, width {width:g}",
            x_label="rewind point (epochs)" if _in_epochs(cells) else "rewind point",
            quantity=quantity,
            columns=columns,
        )
        for width, cells in runs.items()
    }


def _by_sparsity(
    width: float, cells: Cells, setting: Setting, dense: Mapping[float, Sequence[float]], metric: str
) -> list[Panel]:
    panels = []
    for sparsity, axes in dict.fromkeys((place.sparsity, place.axes) for place in cells):
        own = {place: group for place, group in cells.items() if (place.sparsity, place.axes) == (sparsity, axes)}
        moments = [place.rewind.removesuffix("ep") if _in_epochs(cells) else place.rewind for place in own]
        names = ["0" if moment == "0it" and _in_epochs(cells) else moment for moment in moments]
        title = _titled(f"sparsity {sparsity_text(sparsity)}", axes)
        panels.append(_panel(title, own, names, width, setting, dense, metric))
    return panels


def _panel(
    title: str,
    cells: Cells,
    names: Sequence[str],
    width: float,
    setting: Setting,
    dense: Mapping[float, Sequence[float]],
    metric: str,
) -> Panel:
    """One plot of these cells at equal steps."""
    methods, factor = setting.methods.in_order(chain.from_iterable(cells.values())), METRICS[metric].factor
    series: dict[str, dict[float, Estimate | None]] = {
        name: {
            at: spread_of(group[name].values()).scaled(factor) if group.get(name) else None
            for at, group in enumerate(cells.values())
        }
        for name in methods
    }
    marks = {
        name: {
            float(at): factor * number.value
            for at, place in enumerate(cells)
            if (number := published_beside(setting, width, place, name, metric))
        }
        for name in methods
    }
    level = factor * mean(dense[width]) if dense.get(width) else None
    return Panel(title, {float(at): name for at, name in enumerate(names)}, series, marks, level)


def _titled(title: str, axes: str) -> str:
    return f"{title}, {axes}" if axes else title


def _sparsity(place: Place) -> str:
    return sparsity_text(place.sparsity)


def _in_epochs(cells: Cells) -> bool:
    return all(place.rewind.endswith("ep") or place.rewind == "0it" for place in cells)


def _spread(runs: Mapping[float, Cells]) -> str:
    counts = {len(seeds) for cells in runs.values() for group in cells.values() for seeds in group.values()}
    low, high = min(counts, default=0), max(counts, default=0)
    return "one seed" if high <= 1 else f"mean ± sample std of {low if low == high else f'{low}–{high}'} seeds"
