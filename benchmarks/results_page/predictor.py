"""Numbers known of a pair before training against what its permuted mask closes of the gap, over all pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._signs_report import SMALLEST_GAP, pair_points
from benchmarks.results_page.measured import Measured
from benchmarks.results_page.networks import CONTROLS_OF
from rebasin_lt.report.kit.figures import plain_axes, styled_figure
from rebasin_lt.report.kit.methods import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = Mapping[str, float]
"""agreement: share of kept signs that agree with trained B; memory: init memory over chance, NaN where A's
initialisation was not kept; gain and gap: points."""

_PANELS = {
    "memory": "init memory of A's mask, over chance",
    "agreement": "kept signs that agree with trained B's",
}
_WIDTH, _HEAD, _PLOT, _FOOT = 7.2, 0.72, 2.3, 0.62  # inches
_TITLE: Any = {"va": "top", "fontsize": 12.6, "fontweight": "bold"}
_COLOURS = ("lth", "permuted", "naive", "random_permutation", "shuffled", "other_1", "other_2", "b_magnitude")
_MARKERS = "o^sDvPX*"


def all_points(studies: Mapping[str, Measured], signs: Path) -> dict[str, list[Point]]:
    """The pairs of `benchmarks.signs` and of every study whose matches recorded signs that agree, by title.

    Pairs of the signs benchmark that two of its settings share count once.
    """
    settings = json.loads(signs.read_text(encoding="utf-8"))
    by_folder = {setting["folder"]: setting for setting in reversed(settings.values())}
    points: dict[str, list[Point]] = {each["title"]: pair_points(each) for each in reversed(by_folder.values())}
    first = [
        measured for name, measured in studies.items() if name not in CONTROLS_OF.values()
    ]  # not the same pairs twice
    points |= {measured.outcome.title: list(study_points(measured)) for measured in first}
    return {title: own for title, own in points.items() if own}


def study_points(measured: Measured) -> Iterator[Point]:
    """A point per pair and cell that has LTH, naive and permuted, and whose mask was looked at before training."""
    known = _known(measured.outcome.matches)
    for width, cells in measured.runs.items():
        for place, group in cells.items():
            if not {"lth", "naive", "permuted"} <= set(group):
                continue
            for seed, permuted in group["permuted"].items():
                before = known.get((width, seed, place.sparsity))
                if before is None or seed not in group["lth"] or seed not in group["naive"]:
                    continue
                naive = group["naive"][seed]
                kept = "init_memory" in before
                yield {
                    "memory": before["init_memory"] / before["init_memory_chance"] if kept else math.nan,
                    "agreement": before["sign_agreement"],
                    "gain": 100 * (permuted - naive),
                    "gap": 100 * (group["lth"][seed] - naive),
                }


def _known(matches: Sequence[Mapping[str, Any]]) -> dict[tuple[float, int, float], Mapping[str, Any]]:
    """What was known of the permuted masks, by width, seed and sparsity; of earlier releases' matches nothing was."""
    return {
        (match["width"], match["seed"], mask["target"]): mask
        for match in matches
        if match["matcher"] == "permuted"
        for mask in match["masks"]
        if "sign_agreement" in mask
    }


def predictor_figure(points: Mapping[str, Sequence[Point]]) -> Figure:
    """Gap closure against each of the two numbers, a dot per pair, a colour and a shape per study.

    Pairs whose LTH is less than two points above naive are left out: a share of no gap is noise over noise.
    """
    key = 0.22 * len(points)
    height = _HEAD + _PLOT + _FOOT + key
    with styled_figure(_WIDTH, height) as figure:
        top = 1 - 0.1 / height
        figure.text(0.012, top, "Known before training, and what a permutation brings", **_TITLE)
        figure.text(0.012, top - 0.28 / height, "gap closure of the permuted mask (0 naive, 1 LTH)", va="top")
        for index, (name, label) in enumerate(_PANELS.items()):
            axes = figure.add_axes((0.06 + 0.49 * index, (key + _FOOT) / height, 0.43, _PLOT / height))
            _draw(axes, points, name)
            axes.set_xlabel(label)
            axes.margins(0.08)
            plain_axes(axes)
        handles, labels = axes.get_legend_handles_labels()
        style: Any = {"frameon": False, "labelcolor": COLOURS["ink"][0], "labelspacing": 0.25, "borderaxespad": 0}
        figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.01, 0.01), ncols=1, fontsize=10, **style)
    return figure


def _draw(axes: Axes, points: Mapping[str, Sequence[Point]], name: str) -> None:
    for (title, own), colour, marker in zip(points.items(), _COLOURS, _MARKERS, strict=False):
        shown = [point for point in own if point["gap"] >= SMALLEST_GAP]
        closures = [point["gain"] / point["gap"] for point in shown]
        style: Any = {"color": COLOURS[colour][0], "markersize": 5, "alpha": 0.75, "markeredgewidth": 0}
        axes.plot([point[name] for point in shown], closures, marker, label=title, **style)
