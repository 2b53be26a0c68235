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
    return f"{round(value, 2) + 0.0:{'+' if signed else ''}.2f}".replace("-", "−")  # no −0.00


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


def by_seed(study: str, first: str, second: str) -> dict[int, float]:
    """One method minus another by seed, averaged over the cells of a study."""
    found: dict[int, list[float]] = defaultdict(list)
    for cell in cells_of(study).values():
        for seed in cell[first].keys() & cell[second].keys():
            found[seed].append(cell[first][seed] - cell[second][seed])
    return {seed: float(np.mean(values)) for seed, values in sorted(found.items())}


def barriers_fallen(study: str, correction: str) -> list[float]:
    """The loss barrier on test images before matching, minus that after it, by seed."""
    found: dict[tuple[str, str], float] = {}
    with (DOCS / "results" / study / "barriers.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["matcher"], row["split"], row["correction"]) == ("permuted", "test", correction):
                found[row["seed"], row["when"]] = float(row["loss_barrier"])
    return [value - found[seed, "after"] for (seed, when), value in found.items() if when == "before"]


def narrower_above_wider(studies: list[str], signs: str = "") -> list[float]:
    """LTH − permuted in the first of some studies, minus the same in the last, by seed."""
    narrow, wide = (by_seed(study, f"lth{signs}", f"permuted{signs}") for study in (studies[0], studies[-1]))
    return [narrow[seed] - wide[seed] for seed in sorted(narrow.keys() & wide.keys())]


PAIRS = {
    "1 permuted beats naive": ("permuted", "naive"),
    "5 it takes the matched permutation": ("permuted", "random_permutation"),
    "5 B's own one-shot magnitude is worse": ("permuted", "b_magnitude"),
    "5 B's own IMP mask is better": ("b_imp", "permuted"),
    "7 our matcher beats the paper's": ("permuted", "permuted_paper"),
}
"""What a claim is of: the first method minus the second."""


def expected_verdicts() -> list[tuple[str, list[str]]]:
    """What the table of claims has to hold of every study that has the methods."""
    rows = []
    for claim, names in PAIRS.items():
        for study in COLUMNS:
            controls = f"{study}_controls"  # where a network's controls are a study of their own
            found = by_seed(study, *names) or (by_seed(controls, *names) if controls in STUDIES else {})
            rows += [(claim, [with_interval(list(found.values())) + ":"])] if found else []
    for claim, correction in (("3 matching lowers the barrier", "none"), ("3 so after BN reset", "bn_reset")):
        fallen = barriers_fallen("resnet20", correction)
        rows.append((claim, [f"{float(np.mean(fallen)):+.3f}"]))
    wide = [study for study in WIDTHS if study in STUDIES]
    if len(wide) > 1:
        rows.append(("2 wider networks lose less to LTH", [with_interval(narrower_above_wider(wide)) + ":"]))
        rows.append(("2 so with the ticket's signs", [with_interval(narrower_above_wider(wide, "+mask")) + ":"]))
    return rows


COLUMNS = ["digits", "conv4", "resnet20", "vgg11"]
WIDTHS = ["resnet20_half", "resnet20", "resnet20_double"]
ROWS = [*expected_rows(), *expected_verdicts()]


@pytest.mark.parametrize("row", ROWS, ids=[f"{index}: {row[0]}" for index, row in enumerate(ROWS)])
def test_a_row_of_the_page_is_what_its_csv_file_gives(row: tuple[str, list[str]]) -> None:
    label, numbers = row
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| {label} |")]
    assert lines, label
    assert any(all(f" {text} " in line for text in numbers) for line in lines), (label, numbers, lines)
