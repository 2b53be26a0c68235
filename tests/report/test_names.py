"""A report goes by a study's settings: whatever its matchers are called, its numbers and the paper's are the same."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.sections import accuracies, summary, write_study_report
from rebasin_lt.study.outcome import StudyOutcome

MATCHERS: dict[str, dict[str, Any]] = {
    "permuted": {},
    "permuted_paper": {"preset": "paper"},
    "permuted_5ep": {"preset": "paper", "at": "5ep"},
    "by_weights": {"method": "frank_wolfe"},
}
CONTROLS = ["lth", "naive", "b_magnitude", "shuffled"]


NAMES = ("matcher", "method", "methods", "matchers")
"""What holds names of matchers: not `setting`, the roles of ensembles, nor kinds of overlap."""


def renamed(value: Any, names: Mapping[str, str], of: str = "") -> Any:
    """The same with every name of a matcher, as a value or a key, replaced."""
    if isinstance(value, Mapping):
        keys = names if of == "matchers" else {}
        return {keys.get(key, key): renamed(each, names, key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(each, names, of) for each in value]
    return names.get(value, value) if of in NAMES and isinstance(value, str) else value


@pytest.fixture(scope="module")
def outcome(make_outcome) -> StudyOutcome:
    made: StudyOutcome = make_outcome(
        methods=[*CONTROLS, *MATCHERS], matchers=list(MATCHERS), widths=(1,), rewinds=("1ep", "20ep")
    )
    made.settings["matchers"] = MATCHERS  # type: ignore[index]
    made.settings["diversity"] = {"matcher": "permuted_paper"}  # type: ignore[index]
    return made


def called(outcome: StudyOutcome, names: Mapping[str, str]) -> StudyOutcome:
    return StudyOutcome(**{each.name: renamed(getattr(outcome, each.name), names) for each in fields(outcome)})


def written(outcome: StudyOutcome, folder: Path, names: Mapping[str, str]) -> dict[str, str]:
    """The texts of the report of a study whose matchers have other names, with these replaced again."""
    other = called(outcome, names)
    paths = [path for path in write_study_report(other, folder) if path.suffix in {".csv", ".md", ".json"}]
    texts = {path.name: path.read_text(encoding="utf-8") for path in paths} | {"terminal": summary(other)}
    for plain, name in names.items():
        texts = {path: re.sub(rf"\b{name}\b", plain, text) for path, text in texts.items()}
    return {
        path: re.sub(r"[ _]+|─+|:?-{3,}:?", " ", text.replace("\\_", "_")) for path, text in texts.items()
    }  # columns are as wide as names, and an underscore is escaped in Markdown


@pytest.mark.parametrize("seed", range(3))
def test_names_of_matchers_decide_nothing(outcome, tmp_path, seed):
    plain = written(outcome, tmp_path / "plain", {})
    rng = random.Random(seed)
    names = {name: "".join(rng.choices("bcdfgjkqvwxz", k=9)) for name in MATCHERS}
    found = written(outcome, tmp_path / "renamed", names)
    assert found.keys() == plain.keys()
    for path, text in plain.items():
        assert found[path] == text, path


def test_names_that_say_something_else_decide_nothing(outcome, tmp_path):
    """Such as the paper's for what is not, or those of controls that a study does not have."""
    names = {"permuted": "permuted_paper", "permuted_paper": "mix", "permuted_5ep": "permuted_20ep"}
    other = called(outcome, names)
    write_study_report(outcome, tmp_path / "plain")
    write_study_report(other, tmp_path / "other")
    for name in ("summary.csv", "paired.csv", "barriers.csv", "overlap.csv"):
        plain, found = (read(tmp_path / folder / name) for folder in ("plain", "other"))
        assert found == [
            {**row, **{key: names.get(row[key], row[key]) for key in ("method", "matcher") if key in row}}
            for row in plain
        ]


def test_the_papers_numbers_are_beside_what_the_settings_say(outcome, tmp_path):
    write_study_report(outcome, tmp_path)
    rows = read(tmp_path / "summary.csv")
    beside = {row["method"] for row in rows if row["published_mean"] and row["metric"] == "top1"}
    assert beside == {"lth", "naive", "permuted_paper", "permuted_5ep"}
    assert {row["published_in"] for row in rows if row["method"] == "permuted_5ep"} == {"Table 15", ""}


def test_the_headline_is_of_the_first_matcher_of_the_study(outcome):
    assert "under the permuted mask" in summary(outcome)
    first = {"by_weights": MATCHERS["by_weights"], **MATCHERS}
    other = StudyOutcome(**{**vars(outcome), "settings": {**outcome.settings, "matchers": first}})
    assert "under the by weights mask" in summary(other)


@pytest.mark.parametrize(("name", "near"), [("b_magnitud", "b_magnitude"), ("permutd_paper", "permuted_paper")])
def test_a_run_of_a_method_that_is_not_known_is_refused(outcome, tmp_path, name, near):
    """As a matcher it would become the headline."""
    run = {**outcome.sparse[0], "method": name}
    other = StudyOutcome(**{**vars(outcome), "sparse": [*outcome.sparse, run]})
    for ask in (summary, accuracies, lambda it: write_study_report(it, tmp_path / "report")):
        with pytest.raises(
            InputError, match=rf"the method of a run of this study is '{name}', .* \(did you mean {near}\?\)"
        ):
            ask(other)
    assert not (tmp_path / "report").exists()


def test_one_of_numbers_too(outcome, tmp_path):
    write_study_report(outcome, tmp_path)
    about = json.loads((tmp_path / "study.json").read_text())
    del about["settings"]["matchers"]["by_weights"]
    (tmp_path / "study.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="the method of a run of this study is 'by_weights', which is not known"):
        write_study_report(read_numbers(tmp_path), tmp_path / "again")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
