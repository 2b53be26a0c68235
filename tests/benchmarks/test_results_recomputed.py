"""Numbers of docs/results.md, computed once more from the CSV files alone: by numpy and scipy, not by the package."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.results_page.networks import NETWORKS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "results.md").read_text(encoding="utf-8")
STUDIES = sorted(path.parent.name for path in (DOCS / "results").glob("*/accuracy.csv"))
Cells = dict[tuple[float, float, str], dict[str, dict[int, float]]]


def cells_of(study: str) -> Cells:
    """Accuracies in % by width, sparsity and rewind moment, method and seed."""
    cells: Cells = defaultdict(lambda: defaultdict(dict))
    with (DOCS / "results" / study / "accuracy.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["stage"] == "sparse":
                place = float(row["width"]), float(row["sparsity"]), row["rewind"]
                cells[place][row["method"]][int(row["seed"])] = 100 * float(row["top1"])
    return cells


def number(value: float, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.2f}".replace("-", "−")


def spread(values: list[float]) -> str:
    return number(float(np.mean(values))) + (f" ± {number(float(np.std(values, ddof=1)))}" if len(values) > 1 else "")


def with_interval(differences: list[float]) -> str:
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return number(mean, signed=True)
    half = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    return f"{number(mean, True)} [{number(mean - half, True)}, {number(mean + half, True)}]"


def paired(cell: dict[str, dict[int, float]], first: str, second: str) -> list[float]:
    return [value - cell[second][seed] for seed, value in sorted(cell[first].items())]


def expected_rows() -> list[tuple[str, list[str]]]:
    """What a row of the page has to hold, for the tables of one cell at a time."""
    rows = []
    for study in ("digits", "conv4"):
        for (_, sparsity, rewind), cell in sorted(cells_of(study).items()):
            accuracies = [spread(list(cell[name].values())) for name in ("lth", "permuted", "naive")]
            rows.append((f"{sparsity:.2f} · {rewind}", [*accuracies, with_interval(paired(cell, "permuted", "naive"))]))
    for (width, sparsity, _), cell in cells_of("digits_width").items():
        numbers = [with_interval(paired(cell, *names)) for names in (("lth", "permuted"), ("permuted", "naive"))]
        rows.append((f"{width:g} | {sparsity:.2f}", numbers))
    for study in set(STUDIES) & set(NETWORKS):
        for cell in cells_of(study).values():
            rows += [
                (label, [spread(list(cell[name].values())), with_interval(paired(cell, name, "lth"))])
                for name, label in (("permuted", "permuted"), ("naive", "naive"), ("b_magnitude", "B's magnitude"))
                if name in cell
            ]
    return rows


ROWS = expected_rows()


@pytest.mark.parametrize("row", ROWS, ids=[f"{index}: {row[0]}" for index, row in enumerate(ROWS)])
def test_a_row_of_the_page_is_what_its_csv_file_gives(row: tuple[str, list[str]]) -> None:
    label, numbers = row
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| {label} |")]
    assert lines, label
    assert any(all(f" {text} " in line for text in numbers) for line in lines), (label, numbers, lines)
