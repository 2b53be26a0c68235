"""The published numbers: all of them, each where the paper has it, and what the paper says of them."""

from __future__ import annotations

import csv
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from rebasin_lt.report.study import published as module
from rebasin_lt.report.study.published import Published, published

ROWS = list(csv.DictReader(Path(module.__file__).with_name("published.csv").open(encoding="utf-8")))
C10 = ("cifar10", "resnet20")
C100 = ("cifar100", "resnet20")


def test_every_table_has_all_of_its_numbers() -> None:
    assert Counter(row["source"] for row in ROWS) == {
        "Table 1": 2 + 2 * 4 * 5,  # dense accuracies; masks × metrics
        "Table 5": 4 * 3 * 9,
        "Table 6": 4 * 3 * 9,
        **{f"Table {number}": 4 * 3 * 5 for number in (7, 8, 11, 12, 13, 14)},
        "Table 9": 2 * 3 * 7,
        "Table 10": 3 * 3 * 3 * 2,
        "Table 15": 4 * (2 + 5),
        "picture mask_reuse_svhn.png": 4 * 4,
        "dense line of plots.ipynb": 2,
    }


def test_no_number_is_there_twice() -> None:
    keys = [tuple(value for name, value in row.items() if name not in {"value", "std", "n"}) for row in ROWS]
    assert len(keys) == len(set(keys))


def test_permuted_is_never_below_naive_in_tables_5_to_14() -> None:
    """In all 224 cells, with one tie."""
    cells: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for row in ROWS:
        if row["source"].removeprefix("Table ") in {str(number) for number in range(5, 15)}:
            place = tuple(row[name] for name in ("source", "sparsity", "k", "metric"))
            cells[place][row["method"]] = float(row["value"])
    gains = {place: cell["permuted"] - cell["naive"] for place, cell in cells.items()}
    assert len(gains) == 224
    assert [place for place, gain in gains.items() if gain <= 0] == [("Table 7", "0.90", "0", "top1")]
    at_once = [gain for place, gain in gains.items() if place[2] == "0"]
    assert len(at_once) == 34
    assert (max(at_once), statistics.median(at_once)) == pytest.approx((1.08, 0.24), abs=0.006)


def test_table_15_repeats_table_5() -> None:
    repeated = [row for row in ROWS if row["source"] == "Table 15" and row["matched_at"] in {"", "200"}]
    assert len(repeated) == 12
    for row in repeated:
        number = published(*C10, 1, row["method"], float(row["sparsity"]), rewind="20ep", source="Table 5")
        assert number
        assert (100 * number.value, 100 * (number.std or 0)) == pytest.approx((float(row["value"]), float(row["std"])))


@pytest.mark.parametrize(
    ("where", "value", "std", "n", "source"),
    [
        (("cifar10", "resnet20", 1, "permuted", 0.97, "100ep"), 85.95, 0.14, 3, "Table 5"),
        (("cifar10", "resnet20", 4, "lth", 0.8, "5ep"), 95.57, 0.05, 3, "Table 6"),
        (("cifar10", "resnet20", 8, "naive", 0.97, "10ep"), 94.39, 0.04, 3, "Table 7"),
        (("cifar10", "resnet20", 16, "naive", 0.95, "100ep"), 95.27, 0.55, 3, "Table 8"),
        (("cifar10", "vgg11", 1, "permuted", 0.9, "50ep"), 91.01, 0.06, 3, "Table 9"),
        (("imagenet", "resnet50", 1, "naive", 0.95, "50ep"), 51.78, None, 1, "Table 10"),
        (("cifar100", "resnet20", 1, "permuted", 0.97, "100ep"), 50.96, 1.15, 3, "Table 11"),
        (("cifar100", "resnet20", 4, "permuted", 0.97, "100ep"), 72.20, 0.08, 3, "Table 12"),
        (("cifar100", "resnet20", 8, "lth", 0.95, "25ep"), 79.24, 0.19, 3, "Table 13"),
        (("cifar100", "resnet20", 16, "permuted", 0.97, "100ep"), 79.63, 0.06, 3, "Table 14"),
        (("svhn", "resnet20", 1, "naive", 0.97, "20ep"), 90.69, 2.78, None, "picture mask_reuse_svhn.png"),
    ],
)
def test_a_cell_of_every_table(where, value, std, n, source) -> None:
    *cell, rewind = where
    number = published(*cell, rewind=rewind)
    assert number is not None
    assert 100 * number.value == pytest.approx(value)
    assert number.std is None if std is None else 100 * number.std == pytest.approx(std)
    assert (number.n, number.source) == (n, source)


def test_table_1_and_its_kin_state_no_rewind() -> None:
    assert published(*C10, 1, "lth", 0.9) == Published(0.9115, 0.00163, 5, "Table 1")
    assert published(*C10, 1, "permuted", 0.9, metric="js") == Published(0.091, None, 5, "Table 1")
    assert published(*C100, 4, "imp", 0.9, metric="ensemble") == Published(0.7927, None, 5, "Table 1")
    assert published(*C10, 1, "dense", 0) == Published(0.9288, None, None, "dense line of plots.ipynb")
    assert published(*C10, 1, "dense", 0, source="Table 1") == Published(0.9276, 0.00106, 5, "Table 1")


def test_early_matching_is_its_own_number() -> None:
    early = published(*C10, 1, "permuted", 0.97, rewind="20ep", matched_at=50)
    assert early == Published(0.8609, 0.0051, 3, "Table 15")


def test_top_5_is_of_imagenet() -> None:
    number = published("imagenet", "resnet50", 1, "permuted", 0.9, rewind="25ep", metric="top5")
    assert number == Published(0.8737, None, 1, "Table 10")
    assert published(*C10, 1, "permuted", 0.9, rewind="25ep", metric="top5") is None


@pytest.mark.parametrize(
    ("rewind", "k"), [("1ep", "0"), ("5ep", "5"), ("6ep", "5"), ("20ep", "20"), ("21ep", "20"), ("101ep", "100")]
)
def test_rewind_is_the_papers_k_as_written_and_as_trained(rewind: str, k: str) -> None:
    (row,) = [
        row
        for row in ROWS
        if (row["source"], row["sparsity"], row["method"], row["k"]) == ("Table 5", "0.90", "naive", k)
    ]
    number = published(*C10, 1, "naive", 0.9, rewind=rewind)
    assert number is not None
    assert 100 * number.value == pytest.approx(float(row["value"]))


@pytest.mark.parametrize("rewind", ["0it", "0ep", "500it", "2ep", "19ep", "1it", "30ep"])
def test_other_moments_have_no_published_number(rewind: str) -> None:
    """The initialisation above all: the paper's k = 0 is one epoch trained."""
    assert published(*C10, 1, "naive", 0.9, rewind=rewind) is None


def test_what_the_paper_lacks_is_none() -> None:
    assert published("cifar10", "vgg11", 1, "naive", 0.97, rewind="20ep") is None
    assert published("digits", "mlp", 1, "naive", 0.9, rewind="20ep") is None
    assert published(*C10, 2, "naive", 0.9, rewind="20ep") is None
