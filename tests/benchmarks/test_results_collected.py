"""Numbers of a study that was run in parts, pair by pair: together they are those of one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results_page import collect as collecting
from benchmarks.results_page.collect import collect_numbers, joined, whole_pairs
from rebasin_lt.errors import InputError
from rebasin_lt.report.study.numbers import read_numbers, write_numbers
from rebasin_lt.study.outcome import StudyOutcome

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STUDIES = ["digits_width", "digits_matching", "conv4"]
"""One of several widths, one of several matchers, one that left out a seed."""


def of(outcome: StudyOutcome, seeds: list[int]) -> StudyOutcome:
    """What the study would say of these seeds alone."""
    others = [f"/seed={seed}/" for seed in set(outcome.settings["seeds"]) - set(seeds)]
    stages = [row for row in outcome.stages if not any(other in row["path"] for other in others)]
    return whole_pairs(replace(outcome, settings={**outcome.settings, "seeds": seeds}, stages=stages))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("part", [slice(1), slice(1, None), slice(1, None, 2)], ids=["first", "but first", "odd"])
def test_pairs_of_two_runs_are_those_of_one(name, part, tmp_path, monkeypatch) -> None:
    whole = read_numbers(RESULTS / name)
    first = whole.settings["seeds"][part]
    rest = [seed for seed in whole.settings["seeds"] if seed not in first]
    monkeypatch.setattr(collecting, "results_studies", lambda: [name])
    (tmp_path / "runs" / name).mkdir(parents=True)
    for seeds in (first, rest):
        monkeypatch.setattr(collecting, "read_outcome", lambda _, seeds=seeds: of(whole, seeds))
        list(collect_numbers(tmp_path / "runs", tmp_path / "out"))
        assert set(read_numbers(tmp_path / "out" / name).settings["seeds"]) >= set(seeds)
    write_numbers(whole, tmp_path / "once")
    assert contents(tmp_path / "out" / name) == contents(tmp_path / "once")


def test_a_pair_that_was_run_again_counts_once_with_its_later_numbers() -> None:
    whole = read_numbers(RESULTS / "conv4")
    again = of(whole, [1])
    again = replace(again, dense=[{**run, "top1": 0.5} for run in again.dense])
    both = joined(whole, again)
    assert both.settings["seeds"] == whole.settings["seeds"]
    assert len(both.dense) == len(whole.dense)
    assert {run["seed"] for run in both.dense if run["top1"] == 0.5} == {1}


def test_pairs_of_other_settings_are_not_joined() -> None:
    whole = read_numbers(RESULTS / "conv4")
    other = of(whole, [1])
    other = replace(other, settings={**other.settings, "widths": [2.0]})
    said = (
        r"widths of '.*' is \[2.0\] in this run, and \[0.25\] where pairs \[0, 3, 4, 5\] were taken before: run those"
    )
    with pytest.raises(InputError, match=said):
        joined(whole, other)
    assert joined(of(whole, [1]), replace(other)) == other  # none of another run stays
