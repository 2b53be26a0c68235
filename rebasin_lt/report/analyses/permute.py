"""What matching found: groups and barriers, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_lt.connectivity.corrections import correction_label
from rebasin_lt.judging.losses import BY_CROSS_ENTROPY, Judged, judged_of_result, quantities
from rebasin_lt.report.analyses.barrier import EXCESS
from rebasin_lt.report.analyses.before import before_text
from rebasin_lt.report.kit.figures import barrier_figure, save_figures
from rebasin_lt.report.kit.statistics import times
from rebasin_lt.report.kit.tables import Cell, Table, numbers, texts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IN_OVERLAPS = ("own_overlap", "own_overlap_chance")
"""What is known before training that the table of overlaps has too."""

OVERLAPS = {"permuted": "π(mask)", "unpermuted": "mask as it is", "independent": "independent masks"}
"""What a mask overlaps, of its own: B's one-shot mask, by the names of results and of tables."""

OVERLAP = "Overlap (IoU) with B's own one-shot magnitude mask; of independent masks: what chance gives masks as large"
"""What the overlaps are, as captions say it."""


def show_permuted(result: Mapping[str, Any], out: str) -> str:
    """Draw the barriers into the folder `out`, if they were measured; returns the tables."""
    parts = [groups_table(result).to_text()]
    if result["masks"]:
        parts.append(masks_table(result["masks"]).to_text())
    if "before_training" in result:
        parts.append(before_text(**result["before_training"], elsewhere=_IN_OVERLAPS if result["masks"] else ()))
    if "barrier" in result:
        parts.append(barrier_table(result["barrier"], judged_of_result(result)).to_text())
        save_figures(barrier_figures(result), out)
    return "\n".join(parts)


def groups_table(result: Mapping[str, Any]) -> Table:
    """One row per permutation group: units, and the objective that matching reached."""
    rows: list[list[Cell]] = [[group, size, result["objective"].get(group)] for group, size in result["sizes"].items()]
    columns = [*texts("group"), *numbers("units"), *numbers(result["measure"], decimals=4)]
    examples = f" of {result['num_samples']:,} examples" if result["num_samples"] else ""
    return Table(columns, rows, f"Matched by {result['method'].replace('_', ' ')}{examples}")


def masks_table(masks: Mapping[str, Mapping[str, float]]) -> Table:
    """One row per mask: sparsity, and overlap with B's own one-shot magnitude mask of as many weights."""
    rows: list[list[Cell]] = [[name, *map(found.get, ("sparsity", *OVERLAPS))] for name, found in masks.items()]
    columns = [*texts("mask"), *numbers("sparsity", *OVERLAPS.values(), decimals=4)]
    return Table(columns, rows, OVERLAP)


def barrier_table(barriers: Mapping[str, Mapping[str, Mapping[str, Any]]], judged: Judged = BY_CROSS_ENTROPY) -> Table:
    """Loss barrier, and error barrier if there is one, between A and B, before and after alignment, by correction."""
    unit = f" ({judged.unit})" if judged.unit else ""
    columns = [*texts("statistics", "A to B"), *numbers(f"loss barrier{unit}", decimals=4)]
    columns += [] if judged.error is None else numbers("error barrier (%)")
    rows = []
    for correction, curves in barriers.items():
        for name, curve in curves.items():
            found = [curve["loss_barrier"], times(100, curve["error_barrier"])]
            rows.append([correction_label(correction), f"{name} alignment", *found][: len(columns)])
    by = "" if judged == BY_CROSS_ENTROPY else f", by {judged.label}"
    return Table(columns, rows, f"{EXCESS}, on the test set{by}")


def barrier_figures(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Loss and error along the line from A to B: `barrier-loss` and `barrier-error`.

    There is no second figure for a loss that has no error.
    """
    return {
        f"barrier-{name}": barrier_figure(
            _curves(result, name, factor), title=f"{name.capitalize()} between A and B", quantity=f"test {title}"
        )
        for name, (title, factor) in quantities(judged_of_result(result)).items()
    }


def _curves(result: Mapping[str, Any], quantity: str, factor: float) -> dict[str, Any]:
    """The curves by label, as `barrier_figure` takes them."""
    curves = {}
    for correction, pair in result["barrier"].items():
        for name, curve in pair.items():
            label = f"{name} alignment" + ("" if correction == "none" else f", {correction_label(correction)}")
            curves[label] = (curve["alphas"], factor * np.array(curve[quantity], dtype=float))
    return curves
