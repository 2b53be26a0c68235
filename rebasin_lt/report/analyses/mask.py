"""What an analysis of masks found, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_lt.report.analyses.before import before_text
from rebasin_lt.report.kit.figures import blank_figure, figure_style, save_figures
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.tables import Table, numbers, records_table, texts
from rebasin_lt.storage.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DIRECTIONS = {"incoming": ("weights into a unit", "permuted"), "outgoing": ("weights out of a unit", "naive")}
_OTHERS = ("permuted", "naive", "lth", "random_permutation", "shuffled")  # colours of the other masks, in turn
_MARKERS = "os^Dv"


def show_mask(result: Mapping[str, Any], out: str) -> str:
    """Write the tables and the figures into the folder `out`; returns the tables that fit a terminal."""
    tables = {"layers": layers_table(result), "degrees": degrees_table(result)}
    shown = [tables["layers"]]
    if result["overlap"]:
        tables["overlap"] = overlap_layers_table(result)
        shown.append(overlap_table(result))
    if "dead_units" in result:
        tables["dead-units"] = dead_units_table(result)
        shown.append(tables["dead-units"])
    for name, table in tables.items():
        write_text(Path(out) / f"{name}.csv", table.to_csv())
    save_figures(mask_figures(result), out)
    parts = [table.to_text() for table in shown]
    if "before_training" in result:
        found = dict(result["before_training"])
        parts.append(before_text({"the mask": found}, found["missing"]))
    return "\n".join(parts)


def layers_table(result: Mapping[str, Any]) -> Table:
    """One row per layer: weights, kept, sparsity, mean degrees and the share of units without a kept weight."""
    degrees = {(row["name"], row["direction"]): row for row in result["degrees"]}
    rows = []
    for number, layer in enumerate(result["layers"], 1):
        into, out_of = degrees[layer["name"], "incoming"], degrees[layer["name"], "outgoing"]
        shares = [into["mean"], 100 * into["zero"], out_of["mean"], 100 * out_of["zero"]]
        rows.append([number, *(layer[key] for key in ("name", "weights", "kept", "sparsity")), *shares])
    columns = [*numbers("layer"), *texts("weight"), *numbers("weights", "kept"), *numbers("sparsity", decimals=4)]
    columns += numbers("in-degree", "no input (%)", "out-degree", "no output (%)", decimals=1)
    caption = f"{result['kept']:,} of {result['weights']:,} weights kept, sparsity {result['sparsity']:.4f}"
    return Table(columns, rows, caption)


def degrees_table(result: Mapping[str, Any]) -> Table:
    """The degree distribution of every layer and direction; for spreadsheets."""
    return _as_they_are(result["degrees"])


def overlap_table(result: Mapping[str, Any]) -> Table:
    """One row per other mask: overlap (IoU) in total, what independent masks would have, and their ratio."""
    rows = [
        [label, pair["overlap"], pair["expected_overlap"], _ratio(pair)] for label, pair in result["overlap"].items()
    ]
    columns = [*texts("other mask"), *numbers("overlap (IoU)", "if independent", decimals=4), *numbers("ratio")]
    caption = "Overlap of the kept weights; if independent: what chance gives masks with as many weights in each tensor"
    return Table(columns, rows, caption)


def overlap_layers_table(result: Mapping[str, Any]) -> Table:
    """Overlap and expectation by other mask and layer; for spreadsheets."""
    return _as_they_are([
        {"other": label, **row} for label, pair in result["overlap"].items() for row in pair["layers"]
    ])


def dead_units_table(result: Mapping[str, Any]) -> Table:
    """One row per permutation group: units, those without kept weights in or out, and the dead ones."""
    dead = result["dead_units"]
    columns = texts("group")
    columns += numbers("units", "none in", "none out", "unreached", "unread", "dead", "through others")
    caption = (
        f"Without the weights of dead units {dead['effective_kept']:,} of {result['weights']:,} are kept, "
        f"sparsity {dead['effective_sparsity']:.4f}"
    )
    return Table(columns, [list(row.values()) for row in dead["groups"]], caption)


def mask_figures(result: Mapping[str, Any]) -> dict[str, Figure]:
    """`profile`, `degrees`, and `overlap` where there are other masks."""
    figures = {"profile": profile_figure(result["layers"]), "degrees": degrees_figure(result["degrees"])}
    if result["overlap"]:
        figures["overlap"] = overlap_figure(result["overlap"])
    return figures


def profile_figure(layers: Sequence[Mapping[str, Any]], title: str = "Kept weights by layer") -> Figure:
    """Share of the weights kept in each layer (`Mask.report`), dashed: in all of them."""
    total = 100 * sum(layer["kept"] for layer in layers) / max(1, sum(layer["weights"] for layer in layers))
    with figure_style():
        figure, axes = _by_layer(title, "kept weights (%)", len(layers))
        shares = [100 * layer["kept"] / layer["weights"] for layer in layers]
        axes.bar(range(1, len(layers) + 1), shares, width=0.7, color=COLOURS["permuted"][0])
        axes.axhline(total, color=COLOURS["ink"][0], linewidth=1.2, linestyle=(0, (4, 3)))
        _beside(axes, total, f"all layers\n{total:.3g} %", "ink")
        axes.set_ylim(0, 1.08 * max([*shares, total, 1e-9]))
    return figure


def degrees_figure(rows: Sequence[Mapping[str, Any]], title: str = "Degrees of the units by layer") -> Figure:
    """Kept weights of a unit as a share of the dense ones (`degree_report`): median, quartiles, whole range."""
    with figure_style():
        figure, axes = _by_layer(title, "kept weights of a unit (% of dense)", len(rows) // 2)
        for shift, (direction, (label, colour)) in zip((-0.17, 0.17), _DIRECTIONS.items(), strict=True):
            own = [row for row in rows if row["direction"] == direction]
            _draw_boxes(axes, [number + shift for number in range(1, len(own) + 1)], own, COLOURS[colour][0])
            axes.plot([], [], "o", color=COLOURS[colour][0], label=f"{label}: median, quartiles, range")
        _legend(axes)
    return figure


def overlap_figure(overlap: Mapping[str, Mapping[str, Any]], title: str = "Overlap with other masks") -> Figure:
    """Intersection over union in each layer with each other mask; a dash in its colour: for independent masks."""
    count = len(next(iter(overlap.values()))["layers"])
    with figure_style():
        figure, axes = _by_layer(title, "overlap (IoU) of the kept weights", count)
        for index, (label, pair) in enumerate(overlap.items()):
            colour = COLOURS[_OTHERS[index % len(_OTHERS)]][0]
            at = [number + 0.5 * ((index + 1) / (len(overlap) + 1) - 0.5) for number in range(1, count + 1)]
            found = [row["overlap"] for row in pair["layers"]]
            expected = [row["expected_overlap"] for row in pair["layers"]]
            axes.plot(at, found, _MARKERS[index % len(_MARKERS)], color=colour, markersize=5.5, label=label)
            axes.plot(at, expected, "_", color=colour, markersize=11, markeredgewidth=1.8)
        axes.plot([], [], "_", color=COLOURS["muted"][0], markersize=11, label="if the masks were independent")
        _legend(axes)
    return figure


def _by_layer(title: str, y_label: str, count: int) -> tuple[Figure, Axes]:
    figure, axes = blank_figure(title, y_label, "layer, by its number in layers.csv", right=0.82)
    step = max(1, -(-count // 12))
    axes.set_xticks(range(1, count + 1, step))
    axes.set_xlim(0.4, count + 0.6)
    return figure, axes


def _draw_boxes(axes: Axes, at: Sequence[float], rows: Sequence[Mapping[str, Any]], colour: str) -> None:
    marks = {key: [100 * row[key] / row["dense"] for row in rows] for key in ("min", "q25", "median", "q75", "max")}
    axes.vlines(at, marks["min"], marks["max"], color=colour, linewidth=1)
    axes.vlines(at, marks["q25"], marks["q75"], color=colour, linewidth=4)
    axes.plot(at, marks["median"], "o", color=colour, markersize=5)


def _beside(axes: Axes, height: float, text: str, colour: str) -> None:
    axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), va="center", color=COLOURS[colour][0])


def _legend(axes: Axes) -> None:
    """Inside the plot, above everything that is drawn."""
    lines, (_, highest) = len(axes.get_legend_handles_labels()[1]), axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= highest])
    axes.set_ylim(0, highest * (1 + 0.1 * lines))
    axes.legend(loc="upper left", frameon=False, borderpad=0, handletextpad=0.4, labelspacing=0.3)


def _ratio(pair: Mapping[str, float]) -> float | None:
    return pair["overlap"] / pair["expected_overlap"] if pair["expected_overlap"] else None


def _as_they_are(rows: Sequence[Mapping[str, Any]]) -> Table:
    return records_table([*rows[0]] if rows else [], rows)
