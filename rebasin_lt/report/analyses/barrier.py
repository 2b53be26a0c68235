"""Loss and error along the line between two networks: table, CSV and figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_lt.connectivity.corrections import correction_label
from rebasin_lt.judging.losses import judged_of_result, measured_on, quantities
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
EXCESS = "Largest excess over the chord (the straight line between the values at both ends)"
"""What a barrier is, as captions say it."""

_DASHES: dict[str, Any] = {"test": "-", "train": (0, (4, 2)), "chord": (0, (1, 2))}
_TEXTS = {"test": "test set", "train": "training set", "chord": "chord"}
_PANEL, _HEAD = (4.1, 2.6), 0.5  # inches


def show_barriers(result: Mapping[str, Any], out: str) -> str:
    """Write the curves and the figure into the folder `out`; returns the table."""
    write_text(Path(out) / "curves.csv", barriers_csv(result))
    save_figures({"barrier": barriers_figure(result)}, out)
    return barriers_table(result).to_text()


def barriers_table(result: Mapping[str, Any]) -> Table:
    """One row per correction, line and set of examples: the barriers over the chord and over the mean of the ends.

    A loss that has no error has no columns of it.
    """
    judged = judged_of_result(result)
    unit = f" ({judged.unit})" if judged.unit else ""
    columns = [
        *texts("statistics", "line", "set"),
        *numbers(f"loss barrier{unit}", f"loss over mean{unit}", decimals=4),
    ]
    if judged.error is not None:
        columns += numbers("error barrier (%)", "error over mean (%)", "error at 1/2 (%)")
    return Table(columns, [_row(curve)[: len(columns)] for curve in result["curves"]], _caption(result))


def _row(curve: Mapping[str, Any]) -> list[Any]:
    has_middle = 0.5 in curve["alphas"] and curve["error"] is not None
    return [
        correction_label(curve["correction"]),
        LINES[curve["alignment"]],
        curve["split"],
        curve["loss_barrier"],
        curve["loss_excess_over_mean"],
        times(100, curve["error_barrier"]),
        times(100, curve["error_excess_over_mean"]),
        times(100, curve["error"][curve["alphas"].index(0.5)] if has_middle else None),
    ]


def _caption(result: Mapping[str, Any]) -> str:
    counts, judged = {curve["split"]: curve["num_images"] for curve in result["curves"]}, judged_of_result(result)
    examples = " and ".join(measured_on(judged, count, split) for split, count in counts.items())
    text = f"{len(result['curves'][0]['alphas'])} points on {examples}"
    if "judged" in result:
        text += f", by {judged.label}{'' if judged.error else ', which has no error'}"
    if result.get("augment"):
        text += "; statistics of augmented images"
    sparsities = {LINES[name]: sparsity for name, sparsity in result["sparsity"].items()}
    if any(sparsities.values()):
        text += "; sparsity of the line: " + ", ".join(f"{name} {value:.4f}" for name, value in sparsities.items())
    return text


def barriers_csv(result: Mapping[str, Any]) -> str:
    """All points, one per row, in full precision: loss as in the table, error as a fraction, if there is one."""
    names = ("correction", "alignment", "split", "alpha", *quantities(judged_of_result(result)))
    return records_table(names, points_of_curves(result["curves"])).to_csv()


def points_of_curves(curves: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A record per point of every curve: what the curve's says, with `alpha`, and the `loss` and `error` there.

    The error is None for a loss that has none.
    """
    return [
        {**curve, "alpha": alpha, "loss": loss, "error": error}
        for curve in curves
        for alpha, loss, error in zip(
            curve["alphas"], curve["loss"], curve["error"] or [None] * len(curve["alphas"]), strict=True
        )
    ]


def barriers_figure(result: Mapping[str, Any]) -> Figure:
    """A row of panels per correction: loss and error from A (α = 0) to B, colour by line, dashes by set of examples.

    The chord, from which the barrier is measured, is drawn for the test set, or for the only set there is. A loss
    that has no error has one panel.
    """
    drawn = quantities(judged_of_result(result))
    corrections = list(dict.fromkeys(curve["correction"] for curve in result["curves"]))
    height = _HEAD + _PANEL[1] * len(corrections)
    with styled_figure(_PANEL[0] * max(2, len(drawn)), height) as figure:
        panels = figure.subplots(len(corrections), len(drawn), squeeze=False)
        figure.subplots_adjust(0.06, 0.5 / height, 0.985, 1 - _HEAD / height - 0.28 / height, 0.16, 0.42)
        for correction, row in zip(corrections, panels, strict=True):
            curves = [curve for curve in result["curves"] if curve["correction"] == correction]
            for (quantity, (title, factor)), axes in zip(drawn.items(), row, strict=True):
                lines = [(curve, factor * np.array(curve[quantity], dtype=float)) for curve in curves]
                _draw_panel(axes, lines, f"{correction_label(correction)}: {title}")
        for axes in panels[-1]:
            axes.set_xlabel("interpolation coefficient α")
        _draw_key(figure, result["curves"])
    return figure


def _draw_panel(axes: Axes, lines: Sequence[tuple[Mapping[str, Any], Any]], title: str) -> None:
    chord_of = "test" if any(curve["split"] == "test" for curve, _ in lines) else "train"
    for curve, values in lines:
        colour = COLOURS[_COLOUR[curve["alignment"]]][0]
        axes.plot(curve["alphas"], values, color=colour, linestyle=_DASHES[curve["split"]], linewidth=1.8)
        if curve["split"] == chord_of:
            axes.plot([0, 1], [values[0], values[-1]], color=COLOURS["muted"][0], linestyle=_DASHES["chord"])
    axes.set_title(title, loc="left", x=0)
    if not any((values < 0).any() for _, values in lines):  # a loss of one's own may be
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
