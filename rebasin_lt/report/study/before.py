"""What was known of a study's masks before anything was trained under them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rebasin_lt.experiment.before import KEYS, reading
from rebasin_lt.report.analyses.before import before_columns
from rebasin_lt.report.kit.methods import Methods, spelled
from rebasin_lt.report.kit.statistics import Estimate, mean, sparsity_text
from rebasin_lt.report.kit.tables import Cell, Column, Table
from rebasin_lt.report.study.accuracy import spread_of


def study_before_table(matches: Iterable[Mapping[str, Any]], methods: Methods | None = None) -> Table:
    """One row per width, matcher and target sparsity of which anything is known: means over seeds, and what they mean.

    Matches that an earlier release made say nothing of it.
    """
    found: dict[tuple[float, str, float], list[Mapping[str, Any]]] = {}
    for match in matches:
        for mask in match["masks"]:
            if any(mask.get(key) is not None for key in KEYS):
                found.setdefault((match["width"], match["matcher"], mask["target"]), []).append(mask)
    matchers = [matcher for _, matcher, _ in found]
    order = (methods or Methods.matching(matchers)).in_order(matchers)
    rows: list[list[Cell]] = [
        [
            f"{width:g}",
            spelled(matcher),
            sparsity_text(target),
            *map(_spread, _columns(masks)),
            len(masks),
            _read(masks),
        ]
        for (width, matcher, target), masks in sorted(
            found.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2])
        )
    ]
    columns = [Column("width", align="left"), Column("matcher", align="left"), Column("sparsity")]
    columns += before_columns(KEYS, spread="std").values()
    columns += [Column("seeds"), Column("what it means", align="left")]
    caption = (
        "Before anything was trained under the masks, mean ± sample standard deviation; signs agree by chance in .5"
    )
    return Table(columns, rows, caption)


def _columns(masks: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """The values of each number that are known."""
    return [[mask[key] for mask in masks if mask.get(key) is not None] for key in KEYS]


def _spread(values: Sequence[float]) -> Estimate | None:
    return spread_of(values) if values else None


def _read(masks: Sequence[Mapping[str, Any]]) -> str | None:
    """What the means of those numbers say that are known."""
    return reading({key: mean(values) for key, values in zip(KEYS, _columns(masks), strict=True) if values})
