"""Losses over two dimensions of weight space, as contours for light and dark: one colour, more of it uphill."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_lt.connectivity.corrections import correction_label
from rebasin_lt.judging.losses import judged_of_result, measured_on, quantities
from rebasin_lt.report.kit.figures import save_figures, styled_figure
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.tables import Cell, Table, numbers, texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RUNS = {
    "A": ("A, dense", "ink"),
    "B": ("B, dense", "ink"),
    "lth": ("A under its mask (LTH)", "lth"),
    "naive": ("B under A's mask (naive)", "naive"),
    "permuted": ("B under the permuted mask", "permuted"),
}
_LEVELS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_SIDE = 4.2  # inches


def show_landscape(result: Mapping[str, Any], out: str) -> str:
    """Draw the landscape of a plane, or of two weights, into the folder `out`; returns the table."""
    table, draw = (two_weights_table, two_weights_figure) if "paths" in result else (plane_table, planes_figure)
    save_figures({"landscape": draw(result)}, out)
    return table(result).to_text()


def two_weights_table(result: Mapping[str, Any]) -> Table:
    """One row per training run: where it began, where it ended, and the loss there."""
    columns = [*texts("run"), *numbers("mask", "initial w1", "initial w2", "final w1", "final w2")]
    columns += numbers("final loss", decimals=4)
    rows = [
        [label, _bits(result["masks"].get(name)), *result["initial"][name], *result["paths"][name][-1],
         result["end_loss"][name]]
        for name, (label, _) in _RUNS.items()
    ]  # fmt: skip
    return Table(columns, rows, "f(x) = relu(w1 x) + relu(w2 x), mean squared error")


def _bits(mask: Sequence[bool] | None) -> str:
    return "1 1" if mask is None else " ".join(str(int(kept)) for kept in mask)


def two_weights_figure(result: Mapping[str, Any]) -> Figure:
    """The loss over both weights, the two minima, what each mask leaves, and the paths of gradient descent."""
    with styled_figure(6.2, 6.5) as figure:
        axes = figure.add_axes((0.09, 0.075, 0.77, 0.735))
        _contours(axes, result["ticks"], result["ticks"], np.asarray(result["loss"]), _LEVELS)
        _draw_subspaces(axes)
        for name, (_, colour) in _RUNS.items():
            _draw_path(axes, result["initial"][name], result["paths"][name], COLOURS[colour][0])
        for name in ("A", "B"):
            _mark(axes, result["paths"][name][-1], name)
            _mark(axes, result["initial"][name], f"initial {name}", marker="D", offset=(-2, -15))
        figure.text(0.09, 0.98, "Loss of a network with two weights", fontsize=13, fontweight="bold", va="top")
        axes.set_xlabel("weight w1")
        axes.set_ylabel("weight w2", labelpad=2)
        _draw_key(figure)
    return figure


def _draw_key(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    labels = {"ink": "A and B, dense", **{colour: label for label, colour in _RUNS.values() if colour != "ink"}}
    handles = [Line2D([], [], color=COLOURS[colour][0], linewidth=3, label=label) for colour, label in labels.items()]
    figure.legend(handles=handles, loc="upper left", ncols=2, frameon=False, bbox_to_anchor=(0.075, 0.945))


def _draw_subspaces(axes: Axes) -> None:
    """The lines to which the masks bind the weights."""
    axes.axhline(0, color=COLOURS["muted"][0], linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    axes.axvline(0, color=COLOURS["muted"][0], linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    style: Any = {"color": COLOURS["muted"][0], "fontsize": 9}
    axes.text(3.06, 0, "mask of A:\nw2 = 0", ha="left", va="center", **style)
    axes.text(0, 3.06, "permuted mask: w1 = 0", ha="center", va="bottom", **style)


def _draw_path(axes: Axes, initial: Sequence[float], path: Sequence[Sequence[float]], colour: str) -> None:
    first, second = np.asarray(path).T
    axes.plot([initial[0], first[0]], [initial[1], second[0]], color=colour, linewidth=1.2, linestyle=(0, (1, 2)))
    axes.plot(first, second, color=colour, linewidth=2.4, solid_capstyle="round")
    axes.plot(first[-1], second[-1], marker="s", markersize=6, color=colour, linestyle="")


def planes_figure(result: Mapping[str, Any]) -> Figure:
    """Test loss on the plane through π(A), B and A, one panel raw and one with batch norm reset."""
    panels, (title, _) = result["loss"], quantities(judged_of_result(result))["loss"]
    width = 0.35 + _SIDE * len(panels)
    across, up = np.ptp(result["x"]), np.ptp(result["y"])
    height = _SIDE * 0.9 * up / across + 1.0
    with styled_figure(width, height) as figure:
        for index, (correction, values) in enumerate(panels.items()):
            losses = np.asarray(values, dtype=float)
            levels = _levels(losses, 1.5 * _largest_between(result, losses)) or _levels(losses)
            left = (0.45 + _SIDE * index) / width
            axes = figure.add_axes((left, 0.5 / height, 0.9 * _SIDE / width, (height - 1) / height))
            _contours(axes, result["x"], result["y"], losses, levels)
            _draw_corners(axes, result["corners"])
            axes.set_title(f"{correction_label(correction)}: test {title}", loc="left", x=0)
            axes.set_xlabel("distance in weight space")
    return figure


def _draw_corners(axes: Axes, corners: Mapping[str, Sequence[float]]) -> None:
    for name in ("permuted", "a"):
        first, second = zip(corners[name], corners["b"], strict=True)
        axes.plot(first, second, color=COLOURS["ink"][0], linewidth=1, linestyle=(0, (1, 2)))
    for name, label in (("a", "A"), ("permuted", "π(A)"), ("b", "B")):
        _mark(axes, corners[name], label)


def _largest_between(result: Mapping[str, Any], losses: np.ndarray) -> float:
    """The largest finite loss in the triangle of the three networks; infinite where the grid has none there, or only 0.

    Beyond it, where weights and variances are extrapolated, losses may be millions.
    """
    b = np.asarray(result["corners"]["b"])
    edges = np.stack([np.asarray(result["corners"][name]) - b for name in ("a", "permuted")], axis=1)
    points = np.stack(np.meshgrid(result["x"], result["y"]), axis=-1) - b  # shape: (rows, columns, 2)
    shares = np.linalg.solve(edges, points.reshape(-1, 2).T).reshape(2, *losses.shape)
    inside = (shares >= -1e-9).all(axis=0) & (shares.sum(axis=0) <= 1 + 1e-9) & np.isfinite(losses)
    return float(losses[inside].max(initial=0)) or math.inf


def _levels(losses: np.ndarray, most: float = math.inf) -> list[float]:
    """Round levels within the losses and up to `most`, some five at least: 1, 2, 5, or finer where they are few."""
    finite = losses[np.isfinite(losses)]
    low, high = float(finite.min()), min(most, float(np.quantile(finite, 0.98)))
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(np.arange(1, 10, 0.5)), tuple(np.arange(1, 10, 0.1))):
        levels = [float(f"{digit}e{power}") for power in range(-4, 5) for digit in np.round(digits, 1)]
        inside = [level for level in levels if low < level < high]
        if len(inside) >= 5:
            return inside
    return inside


def _contours(axes: Axes, x: Sequence[float], y: Sequence[float], losses: np.ndarray, levels: Sequence[float]) -> None:
    """Lines with their values, over one colour whose opacity grows with the loss."""
    from matplotlib.colors import to_rgba

    if levels:  # a plane of one loss has none
        shades = [to_rgba(COLOURS["muted"][0], 0.36 * index / len(levels)) for index in range(len(levels) + 1)]
        axes.contourf(x, y, losses, [-np.inf, *levels, np.inf], colors=shades)
        lines = axes.contour(x, y, losses, levels, colors=COLOURS["muted"][0], linewidths=0.8)
        axes.clabel(lines, fontsize=8, fmt="%g", colors=COLOURS["ink"][0])
    axes.set_aspect("equal")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _mark(
    axes: Axes, point: Sequence[float], label: str, marker: str = "o", offset: tuple[float, float] = (6, 6)
) -> None:
    colour = COLOURS["ink"][0]
    axes.plot(*point, marker=marker, markersize=7, color=colour, linestyle="", zorder=5)
    weight = "bold" if marker == "o" else "normal"
    axes.annotate(label, (point[0], point[1]), offset, textcoords="offset points", color=colour, fontweight=weight)


def plane_table(result: Mapping[str, Any]) -> Table:
    """Smallest, median and largest loss on the grid, by correction."""
    rows: list[list[Cell]] = [
        [correction_label(name), *(float(quantile) for quantile in np.quantile(losses, [0, 0.5, 1]))]
        for name, losses in result["loss"].items()
    ]
    corners = result["corners"]
    lengths = {
        label: float(np.hypot(*np.subtract(corners[first], corners["b"])))
        for label, first in (("A", "a"), ("π(A)", "permuted"))
    }
    distances = ", ".join(f"{label} to B {length:.2f}" for label, length in lengths.items())
    columns = [*texts("statistics"), *numbers("smallest loss", "median loss", "largest loss", decimals=4)]
    judged = judged_of_result(result)
    size = f"{len(result['x'])} × {len(result['y'])} points on {measured_on(judged, result['num_images'], 'test')}"
    size += f", by {judged.label}" if "judged" in result else ""
    return Table(columns, rows, f"{size}; distances: {distances}")
