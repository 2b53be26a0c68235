"""The tables and figures of `benchmarks.signs`, from its results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks._page import DOCS, between
from benchmarks._signs_arms import MASKS, Arm
from rebasin_lt.report.kit.figures import blank_figure, figure_style, save_figures
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.statistics import Estimate, estimate_mean, gap_closure, paired_difference
from rebasin_lt.report.kit.tables import Cell, Column, Table
from rebasin_lt.storage.files import write_text

DIFFERENCES = (
    ("lth+mask", "lth"),
    ("naive+mask", "naive"),
    ("permuted", "naive"),
    ("permuted+mask", "permuted"),
    ("permuted+mask", "naive+mask"),
    ("permuted+mask", "lth"),
    ("permuted+mask", "one_shot"),
    ("permuted+own", "permuted"),
    ("early", "permuted"),
    ("early+mask", "permuted+mask"),
    ("early+mask", "lth"),
    ("one_shot+own", "one_shot"),
    ("random+mask", "naive+mask"),
)
MEASURES = {
    "agreement": "sign agreement with trained B",
    "agreement_rewound": "sign agreement with B at the rewind moment",
    "overlap": "overlap with B's one-shot mask, over chance",
    "memory": "init memory of A's mask, over chance",
}
SMALLEST_GAP = 2.0  # points between LTH and naive: below, a pair's gap closure is noise over noise
Accuracies = Mapping[str, Mapping[int, float]]  # in %, by arm and pair


def write_report(results: Path, docs: Path = DOCS) -> None:
    """Put the tables between their markers in docs/signs.md, and the figures beside the others."""
    settings = json.loads(results.read_text(encoding="utf-8"))
    page = (docs / "signs.md").read_text(encoding="utf-8")
    tables = [table for setting in settings.values() for table in _tables(setting)]
    folders = {setting["folder"]: setting for setting in reversed(settings.values())}  # a pair of networks counts once
    points = {setting["title"]: pair_points(setting) for setting in reversed(folders.values())}
    parts = {
        "signs tables": "\n".join(table.to_markdown(markup=True) for table in tables).strip(),
        "signs ensembles": "\n".join(
            table.to_markdown(markup=True) for setting in settings.values() for table in _ensembles(setting)
        ).strip(),
        "signs prediction": prediction_table(points).to_markdown(markup=True).strip(),
    }
    for marker, text in parts.items():
        page = between(page, marker, text)
    write_text(docs / "signs.md", page)
    figures = {"signs-agreement": agreement_figure(points)}
    save_figures(figures, docs / "images")


def _tables(setting: Mapping[str, Any]) -> Iterable[Table]:
    for rewind in setting["prices"]:
        accuracies = _accuracies(setting["records"], rewind)
        if not accuracies:
            continue  # of no pair yet
        yield arms_table(setting, rewind, accuracies)
        if len(accuracies) > 6:
            yield differences_table(rewind, accuracies)


def _accuracies(records: Iterable[Mapping[str, Any]], rewind: str) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.get("rewind") == rewind and "arm" in record:
            found.setdefault(record["arm"], {})[record["pair"]] = record["accuracy"]
    return found


def arms_table(setting: Mapping[str, Any], rewind: str, accuracies: Accuracies) -> Table:
    """One row per arm: accuracy, gap closure, and the dense epochs that B costs."""
    columns = [
        Column("arm", align="left"),
        Column("pairs", decimals=0),
        Column("accuracy (%)", decimals=2),
        Column("gap closure"),
        Column("dense epochs of B", decimals=0),
    ]
    rows: list[list[Cell]] = []
    for name, values in accuracies.items():
        closure = None if name in ("lth", "naive") else gap_closure(accuracies["lth"], values, accuracies["naive"])
        price = setting["prices"][rewind][name]
        rows.append([Arm(name).label, len(values), estimate_mean(list(values.values())), closure, price])
    caption = f"**{setting['title']}, from {rewind}**: mean ± standard error over pairs. {_before(setting, rewind)}"
    return Table(columns, rows, caption)


def _before(setting: Mapping[str, Any], rewind: str) -> str:
    """What was known before training: dense accuracy, init memory, sign agreement."""
    dense = [accuracy for record in setting["records"] if "dense" in record for accuracy in record["dense"]]
    left = next(record["left"] for record in setting["records"] if "left" in record)
    measures = [r["measures"] for r in setting["records"] if r.get("rewind") == rewind and "measures" in r]
    iou, chance = (_mean([m["memory"][key] for m in measures], 3) for key in ("iou", "chance"))
    said = [
        f"{MASKS[name]} {_mean([100 * m[name]['agreement'] for m in measures], 1)} %"
        for name in ("naive", "permuted", "early")
    ]
    return (
        f"Dense {_mean(dense, 1)} %. Init memory {iou} (by chance {chance}); decay leaves {left:.1g} of the initial "
        f"weights. Kept signs that agree with trained B's: {', '.join(said)}."
    )


def differences_table(rewind: str, accuracies: Accuracies) -> Table:
    """Paired differences in points, each with its 95 % interval (Student's t)."""
    columns = [
        Column("difference", align="left"),
        Column("points", decimals=2, signed=True),
        Column("95 % interval", align="left"),
    ]
    rows: list[list[Cell]] = []
    for first, second in DIFFERENCES:
        if first in accuracies and second in accuracies:
            found = paired_difference(accuracies[first], accuracies[second])
            if found is not None:
                rows.append([f"{Arm(first).label} − {Arm(second).label}", found, _interval(found)])
    return Table(columns, rows, f"Paired differences, from {rewind}:")


def _interval(found: Estimate) -> str:
    if found.count < 2:
        return "–"
    low, high = (f"{value:+.2f}".replace("-", "−") for value in found.interval())
    return f"{low} to {high}"


def _ensembles(setting: Mapping[str, Any]) -> Iterable[Table]:
    groups = [record["ensembles"] for record in setting["records"] if "ensembles" in record]
    for rewind in groups[0] if groups else ():
        columns = [
            Column("ensemble of five", align="left"),
            *(Column(title, decimals=d) for title, d in (("accuracy (%)", 2), ("disagreement", 3))),
            *(Column(title, decimals=d) for title, d in (("over error", 2), ("ensemble (%)", 2))),
        ]
        rows: list[list[Cell]] = []
        for name in groups[0][rewind]:
            found = [group[rewind][name] for group in groups]
            accuracy = [float(np.mean(each["member_accuracy"])) for each in found]
            apart = [each["disagreement"] for each in found]
            over = [value / (1 - mean) for value, mean in zip(apart, accuracy, strict=True)]
            label = {"dense": "dense", "imp": "B's IMP tickets"}.get(name) or Arm(name).label
            values = ([100 * v for v in accuracy], apart, over, [100 * each["ensemble_accuracy"] for each in found])
            rows.append([label, *(estimate_mean(each) for each in values)])
        title = f"**{setting['title']}, from {rewind}**: {len(groups)} groups of five Bs, one A each"
        yield Table(columns, rows, title)


def pair_points(setting: Mapping[str, Any]) -> list[dict[str, float]]:
    """Of every pair, from the first moment: gain and gap of the permuted mask, and what was known before."""
    rewind = next(iter(setting["prices"]))
    accuracies = _accuracies(setting["records"], rewind)
    points = []
    for record in setting["records"]:
        if record.get("rewind") == rewind and "measures" in record:
            pair, known = record["pair"], record["measures"]
            lth, naive, permuted = (accuracies[name][pair] for name in ("lth", "naive", "permuted"))
            points.append({
                "agreement": known["permuted"]["agreement"],
                "agreement_rewound": known["permuted"]["agreement_rewound"],
                "overlap": known["permuted"]["overlap"] / known["permuted"]["chance"],
                "memory": known["memory"]["iou"] / known["memory"]["chance"],
                "gain": permuted - naive,
                "gap": lth - naive,
            })
    return points


def prediction_table(points: Mapping[str, Sequence[Mapping[str, float]]]) -> Table:
    """Rank correlations over all pairs of what is known before training with what the permuted mask brings."""
    every = [point for each in points.values() for point in each]
    wide = [point for point in every if point["gap"] >= SMALLEST_GAP]
    columns = [
        Column("known before training", align="left"),
        Column("gap closure", align="left"),
        Column("points over naive", align="left"),
    ]
    rows: list[list[Cell]] = []
    for key, label in MEASURES.items():
        closures = [point["gain"] / point["gap"] for point in wide]
        first = _correlation([point[key] for point in wide], closures)
        rows.append([label, first, _correlation([point[key] for point in every], [point["gain"] for point in every])])
    caption = (
        f"Spearman's rank correlation with what the permuted mask brings, with its 95 % interval (bootstrap over "
        f"pairs): {len(every)} pairs of {len(points)} settings; gap closure over the {len(wide)} pairs in which LTH is "
        f"at least {SMALLEST_GAP:g} points above naive"
    )
    return Table(columns, rows, caption)


def _correlation(first: Sequence[float], second: Sequence[float]) -> str:
    if len(first) < 4:
        return "–"
    x, y = np.asarray(first), np.asarray(second)
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, len(x), len(x)) for _ in range(2000)]
    values = [spearmanr(x[rows], y[rows]).statistic for rows in drawn if len(set(rows)) > 3]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"{spearmanr(x, y).statistic:+.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−")


def agreement_figure(points: Mapping[str, Sequence[Mapping[str, float]]]) -> Any:
    """Gap closure of the permuted mask against its sign agreement, one point per pair, one marker per setting."""
    with figure_style():
        figure, axes = blank_figure(
            "What signs say beforehand",
            "gap closure (0 naive, 1 LTH)",
            "kept signs of π(ticket) that agree with trained B's",
            right=0.97,
        )
        colours = ("lth", "permuted", "naive", "random_permutation", "shuffled", "other_1", "other_2")
        for (title, own), colour, marker in zip(points.items(), colours, "o^sDvPX", strict=False):
            known = [point for point in own if point["gap"] >= SMALLEST_GAP]
            x = [point["agreement"] for point in known]
            y = [point["gain"] / point["gap"] for point in known]
            axes.plot(x, y, marker, color=COLOURS[colour][0], markersize=5, label=title, alpha=0.8)
        place: Any = {"loc": "lower left", "bbox_to_anchor": (0.13, 0.1)}  # where no point lies; "best" covers one
        axes.legend(fontsize=8, frameon=False, labelcolor=COLOURS["ink"][0], **place)
    return figure


def _mean(values: Sequence[float], decimals: int) -> str:
    return Column("", decimals=decimals).text(estimate_mean(values))
