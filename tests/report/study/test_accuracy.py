"""Accuracy tables: means and sample deviations, the paper's values beside, and what is missing."""

from __future__ import annotations

import csv
import io
import math

import pytest

from rebasin_lt.report.kit.methods import Methods
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.study.accuracy import accuracy_table, runs_table, spread_of, summary_table, tickets_table
from rebasin_lt.report.study.runs import Place
from rebasin_lt.report.study.setting import Setting

SETTING = Setting("cifar10", "resnet20", ("1ep", "20ep"), 10, Methods({"mine": {}}))
CELLS = {
    Place(0.9, "0it"): {"naive": {0: 0.5}},
    Place(0.9, "20ep"): {"lth": {0: 0.91, 1: 0.93}, "naive": {0: 0.88, 1: 0.89}, "mine": {0: 0.9, 1: 0.9}},
}


def titles(table):
    return [column.title for column in table.columns]


def test_table_has_methods_as_columns_with_the_published_beside() -> None:
    table = accuracy_table(1, CELLS, SETTING)
    assert titles(table) == ["sparsity · rewind", "LTH", "LTH, published", "mine", "naive", "naive, published"]
    first, second = table.rows
    assert first == ["0.90 · 0it", None, None, None, "50.00 (n = 1)", None]
    assert second[:2] == ["0.90 · 20ep", Estimate(pytest.approx(92), pytest.approx(math.sqrt(2)), 2)]
    assert second[2] == Estimate(pytest.approx(91.18), pytest.approx(0.27), 3)
    assert second[3] == Estimate(90, 0, 2)


def test_table_says_its_spread_its_dense_networks_and_where_numbers_are_from() -> None:
    caption = accuracy_table(1, CELLS, SETTING, [0.93, 0.91]).caption
    assert caption == (
        "Width 1: test accuracy in %, mean ± sample standard deviation, n = 2; "
        "dense networks: 92.00 ± 1.41, n = 2, published 92.88 (dense line of plots.ipynb); published: Table 5"
    )
    alone = {Place(0.9, "20ep"): {"lth": {0: 0.91}}}
    assert accuracy_table(3, alone, SETTING).caption == "Width 3: test accuracy in %, one seed"
    assert "top-5 test accuracy" in accuracy_table(1, alone, SETTING, metric="top5").caption


def test_spread_is_the_sample_standard_deviation() -> None:
    assert spread_of([0.1, 0.2, 0.3]) == Estimate(pytest.approx(0.2), pytest.approx(0.1), 3)
    assert math.isnan(spread_of([0.1]).error)


def read(table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.to_csv())))


def test_summary_has_a_row_per_method_and_place_in_fractions() -> None:
    rows = read(summary_table({"top1": {1: CELLS}}, SETTING))
    assert len(rows) == 4
    assert rows[1] == {
        "metric": "top1", "width": "1", "sparsity": "0.9", "rewind": "20ep", "method": "lth", "mean": "0.92",
        "std": rows[1]["std"], "n": "2", "published_mean": "0.9118", "published_std": "0.0027", "published_n": "3",
        "published_in": "Table 5",
    }  # fmt: skip
    assert float(rows[1]["std"]) == pytest.approx(math.sqrt(2) / 100)
    assert rows[0]["std"] == rows[0]["published_mean"] == ""


def test_runs_are_written_as_they_are(make_outcome) -> None:
    outcome = make_outcome(widths=(1,), seeds=(0,))
    rows = read(runs_table(outcome.dense, outcome.pruned, outcome.sparse))
    assert len(rows) == len(outcome.dense) + len(outcome.pruned) + len(outcome.sparse)
    assert {row["stage"] for row in rows} == {"dense", "pruned", "sparse"}
    assert rows[2]["sparsity"] == str(outcome.pruned[0]["target"])
    assert float(rows[-1]["top1"]) == outcome.sparse[-1]["top1"]


def test_tickets_are_averaged_over_seeds() -> None:
    pruned = [{"width": 1, "role": "a", "target": 0.9, "top1": top1} for top1 in (0.9, 0.92)]
    (row,) = tickets_table([*pruned]).rows
    assert row == ["1", "A", "0.90", Estimate(pytest.approx(91), pytest.approx(math.sqrt(2)), 2), 2]
