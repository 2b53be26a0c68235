"""The table of claims: whose pairs a cell is of, and how many it says that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results_page.collect import measured_studies
from benchmarks.results_page.measured import Measured
from benchmarks.results_page.verdicts import verdicts_table

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STUDIES = {name: Measured.read(RESULTS / name) for name in measured_studies(RESULTS)}
SMALLER = {name: measured for name, measured in STUDIES.items() if name != "resnet20_double"}
RANDOM = "5 it takes the matched permutation"


def controls(gains: Sequence[float]) -> Measured:
    """Permuted and a random permutation below it by some shares, on as many seeds."""
    first = STUDIES["resnet20"].outcome
    place = {"width": 1.0, "sparsity": 0.95, "rewind": "2ep"}
    sparse = [
        {**place, "seed": seed, "method": method, "top1": 0.7 - lost}
        for seed, gain in enumerate(gains, 1)
        for method, lost in (("permuted", 0.0), ("random_permutation", gain))
    ]
    return Measured("resnet20_controls", replace(first, sparse=sparse))


def cell(studies: dict[str, Measured], claim: str, column: str) -> object:
    table = verdicts_table(studies)
    (index,) = (index for index, each in enumerate(table.columns) if each.title.startswith(column))
    (row,) = (row for row in table.rows if row[0] == claim)
    return row[index]


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([0.01, 0.02, 0.03, 0.02], "+2.00 [+0.70, +3.30]: yes (4 seeds)"),
        ([-0.01, -0.02, -0.03], "−2.00 [−4.48, +0.48]: cannot tell (3 seeds)"),
        ([0.01], "+1.00: one pair (1 seed)"),
    ],
)
def test_what_a_network_lacks_is_of_its_controls_and_their_count(gains, said) -> None:
    without = {name: measured for name, measured in STUDIES.items() if name != "resnet20_controls"}
    assert cell(without, RANDOM, "ResNet20") is None
    assert cell({**without, "resnet20_controls": controls(gains)}, RANDOM, "ResNet20") == said


def test_what_a_network_has_is_not_taken_from_its_controls() -> None:
    for claim in ("1 permuted beats naive", "5 B's own one-shot magnitude is worse"):
        first = cell(STUDIES, claim, "ResNet20")
        assert cell({**STUDIES, "resnet20_controls": controls([0.5, 0.5])}, claim, "ResNet20") == first
        assert "seeds" not in str(first)


def test_widths_are_compared_on_the_seeds_that_both_have() -> None:
    widths = {name: STUDIES[name] for name in ("resnet20_half", "resnet20")}
    assert {measured.seeds for measured in widths.values()} == {3, 5}
    both = str(cell({**SMALLER, **widths}, "2 wider networks lose less to LTH", "ResNet20"))
    assert both.endswith("(3 seeds, width 0.5 above 1)")
    alone = {name: measured for name, measured in SMALLER.items() if name != "resnet20_half"}
    assert cell(alone, "2 wider networks lose less to LTH", "ResNet20") is None
