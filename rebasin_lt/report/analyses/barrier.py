"""Loss and error along the line between two networks: table, CSV and figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_lt.connectivity.corrections import correction_label
from rebasin_lt.report.kit.figures import alpha_axis, plain_axes, save_figures, styled_figure
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.statistics import times
from rebasin_lt.report.kit.tables import Table, numbers, records_table, texts
from rebasin_lt.storage.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {"before": "A to B", "after": "π(A) to B"}
_COLOUR = {"before": "naive", "after": "permuted"}
_DASHES: dict[str, Any] = {"test": "-", "train": (0, (4, 2)), "chord": (0, (1, 2))}
_TEXTS = {"test": "test images", "train": "training images", "chord": "chord"}
_QUANTITIES = {"loss": ("loss (nats)", 1), "error": ("error (%)", 100)}
_PANEL, _HEAD = (4.1, 2.6), 0.5  # inches


def show_barriers(result: Mapping[str, Any], out: str) -> str:
    """Write the curves and the figure into the folder `out`; returns the table."""
    write_text(Path(out) / "curves.csv", barriers_csv(result))
    save_figures({"barrier": barriers_figure(result)}, out)
    return barriers_table(result).to_text()


def barriers_table(result: Mapping[str, Any]) -> Table:
    """One row per correction, line and set of images: the barriers over the chord and over the mean of the ends."""
    columns = [
        *texts("statistics", "line", "images"),
        *numbers("loss barrier (nats)", "loss over mean (nats)", decimals=4),
        *numbers("error barrier (%)", "error over mean (%)", "error at 1/2 (%)"),
    ]
    return Table(columns, [_row(curve) for curve in result["curves"]], _caption(result))


def _row(curve: Mapping[str, Any]) -> list[Any]:
    middle = curve["error"][curve["alphas"].index(0.5)] if 0.5 in curve["alphas"] else None
    return [
        correction_label(curve["correction"]),
        LINES[curve["alignment"]],
        curve["split"],
        curve["loss_barrier"],
        curve["loss_excess_over_mean"],
        times(100, curve["error_barrier"]),
        times(100, curve["error_excess_over_mean"]),
        times(100, middle),
    ]


def _caption(result: Mapping[str, Any]) -> str:
    counts = {curve["split"]: curve["num_images"] for curve in result["curves"]}
    images = " and ".join(f"{count:,} {split} images" for split, count in counts.items())
    text = f"{len(result['curves'][0]['alphas'])} points on {images}"
    sparsities = {LINES[name]: sparsity for name, sparsity in result["sparsity"].items()}
    if any(sparsities.values()):
        text += "; sparsity of the line: " + ", ".join(f"{name} {value:.4f}" for name, value in sparsities.items())
    return text


def barriers_csv(result: Mapping[str, Any]) -> str:
    """All points, one per row, in full precision: loss in nats, error as a fraction."""
    names = ("correction", "alignment", "split", "alpha", "loss", "error")
    return records_table(names, points_of_curves(result["curves"])).to_csv()


def points_of_curves(curves: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A record per point of every curve: what the curve's says, with `alpha`, and the `loss` and `error` there."""
    return [
        {**curve, "alpha": alpha, "loss": loss, "error": error}
        for curve in curves
        for alpha, loss, error in zip(curve["alphas"], curve["loss"], curve["error"], strict=True)
    ]


def barriers_figure(result: Mapping[str, Any]) -> Figure:
    """A row of panels per correction: loss and error from A (α = 0) to B, colour by line, dashes by set of images.

    The chord, from which the barrier is measured, is drawn for the test images, or for the only set there is.
    """
    corrections = list(dict.fromkeys(curve["correction"] for curve in result["curves"]))
    height = _HEAD + _PANEL[1] * len(corrections)
    with styled_figure(2 * _PANEL[0], height) as figure:
        panels = figure.subplots(len(corrections), 2, squeeze=False)
        figure.subplots_adjust(0.06, 0.5 / height, 0.985, 1 - _HEAD / height - 0.28 / height, 0.16, 0.42)
        for correction, row in zip(corrections, panels, strict=True):
            curves = [curve for curve in result["curves"] if curve["correction"] == correction]
            for quantity, axes in zip(_QUANTITIES, row, strict=True):
                _draw_panel(axes, curves, quantity, correction_label(correction))
        for axes in panels[-1]:
            axes.set_xlabel("interpolation coefficient α")
        _draw_key(figure, result["curves"])
    return figure


def _draw_panel(axes: Axes, curves: Sequence[Mapping[str, Any]], quantity: str, name: str) -> None:
    title, factor = _QUANTITIES[quantity]
    chord_of = "test" if any(curve["split"] == "test" for curve in curves) else "train"
    for curve in curves:
        colour = COLOURS[_COLOUR[curve["alignment"]]][0]
        values = factor * np.array(curve[quantity], dtype=float)
        axes.plot(curve["alphas"], values, color=colour, linestyle=_DASHES[curve["split"]], linewidth=1.8)
        if curve["split"] == chord_of:
            axes.plot([0, 1], [values[0], values[-1]], color=COLOURS["muted"][0], linestyle=_DASHES["chord"])
    axes.set_title(f"{name}: {title}", loc="left", x=0)
    axes.set_ylim(bottom=0)
    alpha_axis(axes)
    plain_axes(axes)


def _draw_key(figure: Figure, curves: Sequence[Mapping[str, Any]]) -> None:
    """Which colour and which dash means what, above the panels."""
    from matplotlib.lines import Line2D

    lines = dict.fromkeys(curve["alignment"] for curve in curves)
    splits = dict.fromkeys(curve["split"] for curve in curves)
    handles = [Line2D([], [], color=COLOURS[_COLOUR[name]][0], linewidth=3, label=LINES[name]) for name in lines]
    handles += [
        Line2D([], [], color=COLOURS["muted"][0], linestyle=_DASHES[name], linewidth=1.8, label=_TEXTS[name])
        for name in [*sorted(splits), "chord"]
    ]
    figure.legend(handles=handles, loc="upper left", ncols=len(handles), frameon=False, bbox_to_anchor=(0.04, 1))
