"""Table 1 of a study, and the paper's under it."""

from __future__ import annotations

import pytest

from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.study.diversity import diversity_runs_table, study_diversity_table
from rebasin_lt.report.study.setting import Setting

SETTING = Setting("cifar10", "resnet20", (), 10, as_published={"permuted": "final"})


def record(setting: str, **changes: object) -> dict[str, object]:
    place = {"width": 1, "sparsity": 0.9, "rewind": "20ep", "setting": setting, "members": 5}
    found = {"accuracy": 0.91, "accuracy_std": 0.002, "ensemble": 0.93, "disagreement": 0.1, "kl": 0.3, "js": 0.1}
    return place | found | changes


def test_settings_are_in_the_papers_order_with_its_rows() -> None:
    table = study_diversity_table(
        [record(name) for name in ("naive", "permuted", "mine", "imp", "dense", "lth")], SETTING
    )
    labels = ["dense", "IMP", "LTH", "permuted", "naive"]
    assert [row[1] for row in table.rows] == [
        *(text for label in labels for text in (label, f"{label}, published")),
        "mine",
    ]
    ours, theirs = table.rows[6:8]
    assert ours == ["1 · 0.90 · 20ep", "permuted", 5, Estimate(91, pytest.approx(0.2), 5), 93, 0.1, 0.3, 0.1]
    assert theirs[2:] == [5, Estimate(pytest.approx(89.38), pytest.approx(0.17), 5), 91.75, 0.107, 0.273, 0.091]
    assert table.rows[1][4:] == [None] * 4  # the paper has no dense ensemble


def test_other_sparsities_have_no_published_row() -> None:
    assert len(study_diversity_table([record("naive", sparsity=0.95)], SETTING).rows) == 1


def test_one_member_has_no_pairs_and_no_spread() -> None:
    alone = record("naive", members=1, accuracy_std=None, disagreement=None, kl=None, js=None, sparsity=0.5)
    text = study_diversity_table([alone], SETTING).to_text()
    assert "91.00" in text
    assert "±" not in text.splitlines()[-1]
    assert text.count("–") == 3


def test_runs_are_written_as_they_are() -> None:
    (row,) = diversity_runs_table([record("lth")]).rows
    assert row == list(record("lth").values())
