"""Configurations that commit e0e852d wrote into its folders (`tests/former`) are those of the same runs now."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from rebasin_lt.commands.lightning_verbs import RunCLI, run
from rebasin_lt.study.folder import read_study

FORMER = Path(__file__).parent / "former"


def test_a_study_is_read_and_would_be_written_as_it_was(tmp_path: Path) -> None:
    shutil.copy(FORMER / "study.yaml", tmp_path / "config.yaml")
    assert read_study(tmp_path).primitives() == yaml.safe_load((tmp_path / "config.yaml").read_text())


def test_the_folder_of_a_fit_is_that_of_its_configuration(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(FORMER / "fit.yaml", tmp_path / "a" / "config.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    monkeypatch.setattr(RunCLI, "_run_subcommand", lambda *_: None)
    assert run(["fit", "--config", "a/config.yaml"]).trainer.default_root_dir == "a"
