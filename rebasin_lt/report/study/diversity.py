"""Diversity of a study's networks, as the paper's Table 1 and with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rebasin_lt.report.kit.statistics import Estimate, sparsity_text
from rebasin_lt.report.kit.tables import Cell, Table, numbers, texts
from rebasin_lt.report.study.runs import axes_of, rows_table
from rebasin_lt.report.study.setting import Setting

_ORDER = ("dense", "imp", "lth", "permuted", "naive")
_NAMES = "width sparsity rewind setting members accuracy accuracy_std ensemble disagreement kl js"


def study_diversity_table(records: Sequence[Mapping[str, Any]], setting: Setting) -> Table:
    """One row per width, place and setting, as Table 1 of the paper, and under it the paper's own row if it has one.

    The paper does not state the rewind moment of its Table 1.
    """
    columns = texts("width · sparsity · rewind", "setting")
    columns += numbers("members", "member accuracy (%)", "ensemble accuracy (%)", spread="std")
    columns += numbers("disagreement", "KL (nats)", "JS (nats)", decimals=3)
    rows = []
    for record in sorted(records, key=_place):
        rows.append(_row(record, setting))
        theirs = _published(record, setting)
        rows += [theirs] if theirs else []
    return Table(columns, rows, "Members: mean ± sample standard deviation; pairs of members: means")


def diversity_runs_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """The records as they are, for spreadsheets; accuracies as fractions."""
    spreads = ["disagreement_std"] * any("disagreement_std" in record for record in records)
    return rows_table([*_NAMES.split(), *spreads], records)


def _place(record: Mapping[str, Any]) -> tuple[Any, ...]:
    base = record["setting"].partition("+")[0]  # one with signs stands behind the same without
    known = _ORDER.index(base) if base in _ORDER else len(_ORDER)
    return record["width"], record["sparsity"] or 0, str(record["rewind"]), axes_of(record), known, record["setting"]


def _where(record: Mapping[str, Any]) -> str:
    where = f"{record['width']:g} · {sparsity_text(record['sparsity'] or 0)} · {record['rewind'] or '–'}"
    return " · ".join([where, *([axes_of(record)] if axes_of(record) else [])])


def _row(record: Mapping[str, Any], setting: Setting) -> list[Cell]:
    std = record["accuracy_std"]
    accuracy = Estimate(record["accuracy"], float("nan") if std is None else std, record["members"]).scaled(100)
    ensemble = record["ensemble"]
    pairs = [record[name] for name in ("disagreement", "kl", "js")]
    label = setting.methods.label(record["setting"])
    return [_where(record), label, record["members"], accuracy, None if ensemble is None else 100 * ensemble, *pairs]


def _published(record: Mapping[str, Any], setting: Setting) -> list[Cell] | None:
    if axes_of(record):
        return None
    found = {
        metric: setting.published_diversity(record["width"], record["sparsity"] or 0, record["setting"], metric)
        for metric in ("top1", "ensemble", "disagreement", "kl", "js")
    }
    accuracy, ensemble = found["top1"], found["ensemble"]
    if accuracy is None or accuracy.std is None:
        return None
    pairs = [number.value if (number := found[metric]) else None for metric in ("disagreement", "kl", "js")]
    label = setting.methods.label(record["setting"])
    ours = Estimate(accuracy.value, accuracy.std, accuracy.n or 0).scaled(100)
    return [_where(record), f"{label}, published", accuracy.n, ours, ensemble and 100 * ensemble.value, *pairs]
