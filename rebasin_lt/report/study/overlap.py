"""Overlap of a study's masks with B's own one-shot mask, before and after they are permuted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rebasin_lt.experiment.before import KEYS
from rebasin_lt.report.analyses.permute import OVERLAP, OVERLAPS
from rebasin_lt.report.kit.methods import Methods, spelled
from rebasin_lt.report.kit.statistics import sparsity_text
from rebasin_lt.report.kit.tables import Cell, Table, numbers, texts
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.report.study.runs import rows_table


def study_overlap_table(matches: Iterable[Mapping[str, Any]], methods: Methods | None = None) -> Table:
    """One row per width, matcher and target sparsity: intersection over union, mean ± std over seeds."""
    rows = [
        [*place, *(spread_of(mask[kind] for mask in masks) for kind in OVERLAPS), len(masks)]
        for place, masks in masks_by_place(matches, methods)
    ]
    columns = [*texts("width", "matcher"), *numbers("sparsity")]
    columns += [*numbers(*OVERLAPS.values(), decimals=4, spread="std"), *numbers("seeds")]
    return Table(columns, rows, f"{OVERLAP}; mean ± sample standard deviation")


def overlap_runs_table(matches: Iterable[Mapping[str, Any]]) -> Table:
    """One row per mask, for spreadsheets; what was known before training, too, where any of it was."""
    masks = [{**match, **mask, "sparsity": mask["target"]} for match in matches for mask in match["masks"]]
    known = [key for key in KEYS if any(mask.get(key) is not None for mask in masks)]
    return rows_table(["width", "seed", "matcher", "sparsity", *OVERLAPS, *known], masks)


def masks_by_place(
    matches: Iterable[Mapping[str, Any]], methods: Methods | None = None
) -> list[tuple[list[Cell], list[Mapping[str, Any]]]]:
    """The masks of all seeds by what a row begins with: width, matcher and target sparsity, in the order of tables."""
    found: dict[tuple[float, str, float], list[Mapping[str, Any]]] = {}
    for match in matches:
        for mask in match["masks"]:
            found.setdefault((match["width"], match["matcher"], mask["target"]), []).append(mask)
    matchers = [matcher for _, matcher, _ in found]
    order = (methods or Methods.matching(matchers)).in_order(matchers)
    keys = sorted(found, key=lambda key: (key[0], order.index(key[1]), key[2]))
    return [([f"{key[0]:g}", spelled(key[1]), sparsity_text(key[2])], found[key]) for key in keys]
