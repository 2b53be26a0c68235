"""The tables and the figure of `benchmarks.symmetry`, from its results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks._page import DOCS, between
from rebasin_lt.report.kit.figures import blank_figure, figure_style, save_figure  # one look for every figure
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_text

_NUMBERS = (
    "groups",
    "units",
    "coverage (%)",
    "log10 symmetries",
    "error",
    "nodes",
    "export",
    "inference",
    "check",
    "GiB",
)


def write_report(models: Mapping[str, Mapping[str, Any]], docs: Path = DOCS) -> None:
    """Put the tables between their markers in symmetry.md and draw inference time against the size of the graph."""
    images = {name: record for name, record in models.items() if "." not in name}
    page = (docs / "symmetry.md").read_text(encoding="utf-8")
    page = between(page, "table", _summary(images) + "\n\n" + _table(images))
    page = between(page, "other table", _table({name: models[name] for name in models.keys() - images.keys()}))
    write_text(docs / "symmetry.md", page)
    save_figure(
        cost_figure(record for record in models.values() if "nodes" in record), docs / "images/symmetry-cost.svg"
    )


def cost_figure(records: Iterable[Mapping[str, Any]]) -> Any:
    """Seconds of inference against operators in the graph, both logarithmic, with a line of slope one."""
    from matplotlib.ticker import FixedLocator, NullLocator

    points = [(record["nodes"], record["inference_seconds"]) for record in records]
    with figure_style():
        figure, axes = blank_figure(
            "Cost of finding the symmetry", "seconds of inference", "nodes of the graph", right=0.97
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis, ticks in (
            (axes.xaxis, (50, 100, 200, 500, 1000, 2000)),
            (axes.yaxis, (0.01, 0.03, 0.1, 0.3, 1, 3, 10)),
        ):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
        pace = statistics.median(seconds / nodes for nodes, seconds in points)
        ends = [min(points)[0], max(points)[0]]
        axes.plot(*zip(*points, strict=True), "o", color=COLOURS["permuted"][0], markersize=4, alpha=0.7)
        axes.plot(
            ends, [pace * nodes for nodes in ends], color=COLOURS["muted"][0], linewidth=1.2, linestyle=(0, (4, 3))
        )
        label = f"dashed: the median, {1000 * pace:.2g} ms per node"
        axes.text(0.03, 0.93, label, transform=axes.transAxes, color=COLOURS["muted"][0], va="top")
    return figure


def _summary(models: Mapping[str, Mapping[str, Any]]) -> str:
    found = [record for record in models.values() if "error" in record]
    worst = max(record["error"] for record in found)
    seconds = [
        record["export_seconds"] + record["inference_seconds"] + record["verification_seconds"] for record in found
    ]
    coverage = [record["coverage"] for record in found]
    return (
        f"{len(found)} of {len(models)} found and verified, the largest error {worst:.1e}; "
        f"{_percent(min(coverage))} to {_percent(max(coverage))} % of the parameters' elements are moved; "
        f"{min(seconds):.0f} to {max(seconds):.0f} seconds each."
    )


def _table(models: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [_row(name, models[name]) for name in sorted(models)]
    return Table([Column("network", align="left"), *map(Column, _NUMBERS)], rows).to_markdown(markup=True).strip()


def _row(name: str, record: Mapping[str, Any]) -> list[str]:
    if "error" not in record:
        why = record.get("refused") or f"failed: {record['failed']}"
        return [name, f"refused: {why}" if "refused" in record else why, *[""] * (len(_NUMBERS) - 1)]
    return [
        name,
        str(record["groups"]),
        f"{record['units']:,}",
        _percent(record["coverage"]),
        f"{record['log10_symmetries']:,.0f}",
        f"{record['error']:.0e}",
        str(record["nodes"]),
        f"{record['export_seconds']:.1f}",
        f"{record['inference_seconds']:.2f}",
        f"{record['verification_seconds']:.1f}",
        f"{record['peak_memory_gib']:.1f}",
    ]


def _percent(fraction: float) -> str:
    """Two decimals, rounded down: 100 means all."""
    return f"{math.floor(1e4 * fraction) / 100:.2f}"
