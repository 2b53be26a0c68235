"""What was known of a study's masks before training: its table, its section, and its way through CSV files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rebasin_lt.cli import main
from rebasin_lt.experiment.before import BEFORE_TRAINING, KEYS
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.study.before import study_before_table
from rebasin_lt.report.study.overlap import overlap_runs_table
from rebasin_lt.report.study.sections import write_study_report

KNOWN = {"init_memory": 0.5, "init_memory_chance": 0.05, "init_share": 0.9, "sign_agreement": 0.6}
KNOWN |= {"own_overlap": 0.12, "own_overlap_chance": 0.05}


def known(outcome, change=lambda mask, match: KNOWN):
    matches = [
        {**match, "masks": [{**mask, **change(mask, match)} for mask in match["masks"]]} for match in outcome.matches
    ]
    return replace(outcome, matches=matches)


@pytest.fixture
def outcome(make_outcome):
    return make_outcome(widths=(1,), seeds=(0, 1), sparsities=(0.9,))


def test_means_over_seeds_and_what_they_mean(outcome) -> None:
    """The share that is left is known of one seed alone: its mean is over that one."""

    def change(mask, match):
        return {**KNOWN, "sign_agreement": 0.5 + 0.2 * match["seed"], "init_share": [0.9, None][match["seed"]]}

    table = study_before_table(known(outcome, change).matches)
    (row,) = table.rows
    assert [column.title for column in table.columns].count("by chance") == 2
    assert row[:3] == ["1", "permuted", "0.90"]
    cells = dict(zip(KEYS, row[3:-2], strict=True))
    assert cells["sign_agreement"] == Estimate(pytest.approx(0.6), pytest.approx(0.2 / 2**0.5), 2)
    assert cells["init_share"].count == 1
    assert row[-2] == 2
    assert row[-1].startswith("little better than chance: the mask fits the initialisation")


@pytest.mark.parametrize("unknown", [name for name in BEFORE_TRAINING])
def test_what_is_known_of_no_mask_has_neither_a_column_nor_a_word(outcome, tmp_path, unknown) -> None:
    """And words stand as they are written everywhere: IoU and B keep their capitals."""
    write_study_report(known(outcome, lambda mask, match: {**KNOWN, unknown: None}), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8").partition("## Before training")[2].partition("## ")[0]
    for name, measure in BEFORE_TRAINING.items():
        assert (f"\n{measure.label}: {measure.meaning[:20]}" in text) == (name != unknown)
        assert (f"| {measure.label} |" in text) == (name != unknown)
    assert "[overlap.csv](overlap.csv)" in text


def test_matches_of_an_earlier_release_say_nothing(outcome, tmp_path) -> None:
    assert study_before_table(outcome.matches).rows == []
    assert overlap_runs_table(outcome.matches).columns[-1].title == "independent"
    write_study_report(outcome, tmp_path)
    assert "Before training" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_report_shows_it_and_one_of_its_numbers_does_too(outcome, tmp_path) -> None:
    write_study_report(known(outcome), tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "## Before training" in text
    assert all(measure.meaning.split("(")[0][:30] in text for measure in BEFORE_TRAINING.values())
    assert main(["report", str(tmp_path / "report"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.md").read_text(encoding="utf-8") == text
