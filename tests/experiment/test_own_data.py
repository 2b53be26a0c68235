"""A study on a dataset of the user's own: what is refused beforehand, and what a folder may not have imported."""

from __future__ import annotations

import datetime
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import STUDY

from rebasin_lt.errors import InputError
from rebasin_lt.study.checks import check_names_and_types
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.outcome import read_outcome


def study_on(**data: Any) -> Study:
    return replace(STUDY, recipe=replace(STUDY.recipe, data=data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "tiny:Unseeded"}, "recipe.data.name is 'tiny:Unseeded', which takes no argument seed: a study sets"),
        ({"name": "tiny:Faint", "contrst": 1}, r"recipe.data has no setting 'contrst' \(did you mean contrast\?\)"),
        ({"name": "tiny:Faint", "contrast": "low"}, "recipe.data.contrast is 'low', expected float"),
        ({"name": "tiny:Faint", "batch_size": "many"}, "recipe.data.batch_size is 'many', expected int"),
        (
            {"name": "tiny:Faint", "since": datetime.date(2026, 1, 1)},
            "recipe.data is .*, but a checkpoint could not say how to make tiny:Faint again",
        ),
        ({"name": "tiny:Fetched", "download": True}, "but a checkpoint could not say how to make tiny:Fetched again"),
        ({"name": "tiny:Fainter"}, "data is 'tiny:Fainter', which cannot be imported"),
    ],
)
def test_what_a_stage_would_refuse_is_refused_beforehand(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    check_names_and_types(study_on(name="tiny:Faint", contrast=0.2, batch_size=7))
    with pytest.raises(InputError, match=message):
        check_names_and_types(study_on(**data))


def test_a_report_imports_nothing_that_a_folder_names(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "never.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with claim_study(tmp_path / "own", study_on(name="never:Data")):
        pass
    read_outcome(tmp_path / "own")
    assert "never" not in sys.modules


def test_a_class_may_be_named_from_where_it_is_exported_to(tmp_path: Path, monkeypatch) -> None:
    package = types.ModuleType("exporting")
    package.Faint = tiny.Faint
    monkeypatch.setitem(sys.modules, "exporting", package)
    check_names_and_types(study_on(name="exporting:Faint", contrast=0.2))
