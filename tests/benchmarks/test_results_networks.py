"""The paper's networks on the results page: one network at several widths, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.results_page.measured import Measured
from benchmarks.results_page.networks import BY_WIDTH, NETWORKS, by_width_table, networks_text
from rebasin_lt.settings.config_files import shipped
from rebasin_lt.study.outcome import StudyOutcome

RESNET20 = Measured.read(Path(__file__).parents[2] / "docs" / "results" / "resnet20")
LISTS = ("dense", "pruned", "sparse", "matches", "barriers")


def narrowed(outcome: StudyOutcome, loss: float) -> StudyOutcome:
    """The same at half the width, where permuted has lost some points more, and nothing at 2 epochs but at .95."""
    lists = {name: [{**row, "width": 0.5} for row in getattr(outcome, name)] for name in LISTS}
    lists["sparse"] = [
        {**run, "top1": run["top1"] - loss * (run["method"] == "permuted")}
        for run in lists["sparse"]
        if (run["sparsity"], run["rewind"]) == (0.95, "2ep")
    ]
    return replace(outcome, settings={**outcome.settings, "widths": [0.5]}, **lists)


def test_every_network_is_a_shipped_study() -> None:
    assert {f"results/{name}.yaml" for name in (*NETWORKS, *BY_WIDTH)} <= set(shipped())


def test_widths_stand_side_by_side_where_they_have_the_same_cells() -> None:
    half = Measured("resnet20_half", narrowed(RESNET20.outcome, 0.02))
    table = by_width_table([half, RESNET20])
    narrow, usual = table.rows
    assert [row[:2] for row in table.rows] == [["0.5", "0.95 · 2ep"], ["1", "0.95 · 2ep"]]
    assert narrow[4:] != usual[4:]
    assert narrow[6:] == usual[6:]  # the same barriers, signs and pairs
    (place,) = half.cells()
    for row, measured in ((narrow, half), (usual, RESNET20)):
        runs = measured.cells()[place]
        gaps = [100 * (runs["lth"][seed] - runs["permuted"][seed]) for seed in runs["lth"]]
        assert str(row[2]).split(" ")[0] == f"{sum(gaps) / len(gaps):+.2f}".replace("-", "−")


def test_one_width_alone_is_no_comparison() -> None:
    assert "by width" not in networks_text({"resnet20": RESNET20})
    both = {"resnet20": RESNET20, "resnet20_half": Measured("resnet20_half", narrowed(RESNET20.outcome, 0.02))}
    assert "### ResNet20 by width" in networks_text(both)
