"""Overlap of a study's masks with B's own one-shot mask, before and after they are permuted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rebasin_lt.experiment.before import KEYS
from rebasin_lt.report.kit.methods import Methods, spelled
from rebasin_lt.report.kit.statistics import sparsity_text
from rebasin_lt.report.kit.tables import Cell, Column, Table, numbers, texts
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.report.study.runs import with_axes

OVERLAPS = {"permuted": "π(mask)", "unpermuted": "mask as it is", "independent": "independent masks"}


def study_overlap_table(matches: Iterable[Mapping[str, Any]], methods: Methods | None = None) -> Table:
    """One row per width, matcher and target sparsity: intersection over union, mean ± std over seeds."""
    found: dict[tuple[float, str, float], list[Mapping[str, Any]]] = {}
    for match in matches:
        for mask in match["masks"]:
            found.setdefault((match["width"], match["matcher"], mask["target"]), []).append(mask)
    matchers = [matcher for _, matcher, _ in found]
    order = (methods or Methods.matching(matchers)).in_order(matchers)
    rows: list[list[Cell]] = [
        [f"{width:g}", spelled(matcher), sparsity_text(target), *_spreads(masks), len(masks)]
        for (width, matcher, target), masks in sorted(
            found.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2])
        )
    ]
    columns = [*texts("width", "matcher"), *numbers("sparsity")]
    columns += [*numbers(*OVERLAPS.values(), decimals=4, spread="std"), *numbers("seeds")]
    return Table(columns, rows, "Overlap (IoU) with B's own one-shot magnitude mask, mean ± sample standard deviation")


def overlap_runs_table(matches: Iterable[Mapping[str, Any]]) -> Table:
    """One row per mask, for spreadsheets; what was known before training, too, where any of it was."""
    matches = list(matches)
    known = [key for key in KEYS if any(mask.get(key) is not None for match in matches for mask in match["masks"])]
    names = with_axes(["width", "seed", "matcher", "sparsity", *OVERLAPS, *known], matches)
    masks = [{**match, **mask, "sparsity": mask["target"]} for match in matches for mask in match["masks"]]
    rows = [[mask.get(name) for name in names] for mask in masks]
    return Table([Column(name) for name in names], rows)


def _spreads(masks: list[Mapping[str, Any]]) -> list[Cell]:
    return [spread_of(mask[kind] for mask in masks) for kind in OVERLAPS]
