"""What was known of a study's masks before anything was trained under them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rebasin_lt.experiment.before import KEYS, reading
from rebasin_lt.report.analyses.before import before_columns
from rebasin_lt.report.kit.methods import Methods
from rebasin_lt.report.kit.statistics import Estimate, mean
from rebasin_lt.report.kit.tables import Table, numbers, texts
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.report.study.overlap import masks_by_place


def study_before_table(matches: Iterable[Mapping[str, Any]], methods: Methods | None = None) -> Table:
    """One row per width, matcher and target sparsity of which anything is known: means over seeds, and what they mean.

    What is not known of any has no column. Matches that an earlier release made say nothing of it.
    """
    known = [{**match, "masks": list(filter(_is_known, match["masks"]))} for match in matches]
    keys = [key for key in KEYS if any(mask.get(key) is not None for match in known for mask in match["masks"])]
    rows = [
        [*place, *map(_spread, _columns(masks, keys)), len(masks), _read(masks)]
        for place, masks in masks_by_place(known, methods)
    ]
    columns = [*texts("width", "matcher"), *numbers("sparsity"), *before_columns(keys, spread="std").values()]
    columns += [*numbers("seeds"), *texts("what it means")]
    caption = (
        "Before anything was trained under the masks, mean ± sample standard deviation; signs agree by chance in .5"
    )
    return Table(columns, rows, caption)


def _is_known(mask: Mapping[str, Any]) -> bool:
    return any(mask.get(key) is not None for key in KEYS)


def _columns(masks: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[list[float]]:
    """The values of each of these numbers that are known."""
    return [[mask[key] for mask in masks if mask.get(key) is not None] for key in keys]


def _spread(values: Sequence[float]) -> Estimate | None:
    return spread_of(values) if values else None


def _read(masks: Sequence[Mapping[str, Any]]) -> str | None:
    """What the means of those numbers say that are known."""
    return reading({key: mean(values) for key, values in zip(KEYS, _columns(masks, KEYS), strict=True) if values})
