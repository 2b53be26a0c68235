"""The tables of `benchmarks.quality`, from its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks._page import DOCS, between
from benchmarks._quality_methods import METHODS
from rebasin_lt.report.kit.statistics import Estimate, estimate_mean, gap_closure, paired_difference
from rebasin_lt.report.kit.tables import Cell, Column, Table
from rebasin_lt.storage.files import write_text

DEFAULT = "pruned-weights"  # of masks
_CORRECTED = {"bn_reset": "BN reset", "repair": "REPAIR"}
Records = Mapping[str, Mapping[int, Mapping[str, Any]]]  # by method and pair


def write_report(results: Path, docs: Path = DOCS) -> None:
    """Put the tables between their markers in docs/matching.md."""
    settings = json.loads(results.read_text(encoding="utf-8"))
    page = (docs / "matching.md").read_text(encoding="utf-8")
    tables = [
        quality_table(setting["title"], setting["records"]).to_markdown(markup=True) for setting in settings.values()
    ]
    write_text(docs / "matching.md", between(page, "quality table", "\n".join(tables).strip()))


def quality_table(title: str, records: Iterable[Mapping[str, Any]]) -> Table:
    """One row per method and control: means over pairs with standard errors; differences and closure are paired.

    Columns of the line between the networks are there if it was measured.
    """
    grouped: dict[str, dict[int, Mapping[str, Any]]] = {}
    for record in records:
        grouped.setdefault(record["method"], {})[record["pair"]] = record
    dense = [grouped.pop(method) for method in ("dense a", "dense b")]
    correction = next((key for key in _CORRECTED if key in next(iter(grouped["naive"].values()))), None)
    columns = [Column("method", align="left")]
    if correction is not None:
        columns += [
            Column("barrier, raw", decimals=3),
            Column(f"barrier, {_CORRECTED[correction]}", decimals=3),
            Column(f"midpoint accuracy, {_CORRECTED[correction]} (%)", decimals=1),
        ]
    columns += [
        Column("mask overlap", decimals=4),
        Column("signs agree (%)", decimals=1),
        Column("masked accuracy (%)", decimals=2),
        Column("against the default", decimals=2, signed=True),
        Column("gap closure"),
        Column("seconds"),
    ]
    accuracies = [record["accuracy"] for networks in dense for record in networks.values()]
    caption = (
        f"**{title}**: {len(dense[0])} pairs, mean ± standard error; dense networks "
        f"{Column('', decimals=1).text(estimate_mean(accuracies))} %.{_memory(dense[0])}"
    )
    known = [method for method in [*METHODS, *grouped] if method in grouped]
    return Table(columns, [_row(method, grouped, correction) for method in dict.fromkeys(known)], caption)


def _memory(dense: Mapping[int, Mapping[str, Any]]) -> str:
    """The sentence on what A's mask still holds of its initialisation, where that was measured."""
    known = [record["memory"] for record in dense.values() if "memory" in record]
    if not known:
        return ""
    overlap = Column("", decimals=3)
    iou, chance = (overlap.text(estimate_mean([memory[key] for memory in known])) for key in ("iou", "chance"))
    return (
        f" Init memory: A's mask and that of A's initial weights overlap by {iou} (by chance {chance}); "
        f"decay leaves {known[0]['left']:.1g} of the initial weights."
    )


def _row(method: str, grouped: Records, correction: str | None) -> list[Cell]:
    pairs = grouped[method]
    accuracy = _values(pairs, lambda record: record["accuracy"])
    named = METHODS[method][0] if method in METHODS else method
    line: list[Cell] = []
    if correction is not None:
        line = [
            _mean(_values(pairs, lambda record: record["none"]["loss_barrier"])),
            _mean(_values(pairs, lambda record: record[correction]["loss_barrier"])),
            _mean(_values(pairs, lambda record: 100 * record[correction]["midpoint_accuracy"])),
        ]
    return [
        f"**{named}**" if method == DEFAULT else named,
        *line,
        _mean(_values(pairs, lambda record: record["overlap"])),
        _mean(_values(pairs, lambda record: 100 * record["agreement"])),
        _mean(accuracy),
        None if method == DEFAULT else paired_difference(accuracy, _accuracy(grouped, DEFAULT)),
        _closure(method, grouped),
        _mean(_values(pairs, lambda record: record["seconds"])),
    ]


def _closure(method: str, grouped: Records) -> Estimate | None:
    if method in {"LTH", "naive"}:
        return None
    return gap_closure(*(_accuracy(grouped, name) for name in ("LTH", method, "naive")))


def _accuracy(grouped: Records, method: str) -> dict[int, float]:
    return _values(grouped.get(method, {}), lambda record: record["accuracy"])


def _values(pairs: Mapping[int, Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]) -> dict[int, float]:
    """What is known, by pair."""
    known = {}
    for pair, record in pairs.items():
        try:
            known[pair] = value(record)
        except KeyError:
            continue
    return known


def _mean(values: Mapping[int, float]) -> Estimate | None:
    return estimate_mean(list(values.values())) if values else None
