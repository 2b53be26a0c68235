"""A run that diverged is marked, counted and left out of every mean; what is written about it is JSON."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rebasin_lt.cli import main
from rebasin_lt.errors import DivergedError
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.file_names import DIVERGED
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.sections import summary, write_study_report
from rebasin_lt.storage.run_folder import RESULT, finish, finished, read_sealed
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan
from rebasin_lt.study.work import run_stage

RECIPE = Recipe(targets=(0.5,), fraction=0.5, rewinds=("1ep",), dense_epochs=1, epochs_per_round=1, sparse_epochs=1)
STUDY = Study("tiny", RECIPE, seeds=[0, 1], methods=["lth", "permuted", "naive"], barrier={"num_alphas": 3})
HOT = {"learning_rate": 1e30}
LOST = "width=1/seed=1/sparse/method=naive,sparsity=0.5,rewind=1ep"
CURVES = "width=1/seed=0/barrier/permuted"


def valid(text: str) -> Any:
    """JSON as its standard has it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A study, complete."""
    folder: Path = tmp_path_factory.mktemp("study")
    with claim_study(folder, STUDY):
        for stage in plan(STUDY).values():
            run_stage(STUDY, stage, folder)
    return folder


@pytest.fixture
def study(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "study", copy_function=shutil.copy))


def rewrite(path: Path, **changes: Any) -> None:
    """The result as an earlier release wrote it, with these numbers: it does not say what it was made from."""
    result = {**json.loads(path.read_text()), **changes}
    for name in ("content_sha256", "files"):
        result.pop(name)
    path.write_text(json.dumps(result))


def test_a_training_that_diverges_fails_and_leaves_a_note(tmp_path):
    with pytest.raises(DivergedError, match="diverge"):
        stages.train_dense(tmp_path / "a", replace(RECIPE, dense=HOT), seed=1)
    assert finished(tmp_path / "a") is None
    assert "diverge" in valid((tmp_path / "a" / DIVERGED).read_text())["reason"]


def test_the_note_is_gone_when_it_ends_well(tmp_path, monkeypatch):
    run = stages._run

    def diverge(*_: Any) -> None:
        raise DivergedError("the run diverged")

    monkeypatch.setattr(stages, "_run", diverge)
    with pytest.raises(DivergedError):
        stages.train_dense(tmp_path / "a", RECIPE, seed=1)
    assert (tmp_path / "a" / DIVERGED).is_file()
    monkeypatch.setattr(stages, "_run", run)
    stages.train_dense(tmp_path / "a", RECIPE, seed=1)
    assert not (tmp_path / "a" / DIVERGED).exists()


def failed(study: Path) -> str:
    (study / LOST / RESULT).unlink()
    (study / LOST / DIVERGED).write_text('{"reason": "the run diverged"}')
    return LOST


def of_an_earlier_release(study: Path) -> str:
    """Which took a network that answers NaN for one of 10 %."""
    rewrite(study / LOST / RESULT, **{"test/loss": math.nan, "test/top1": 10.0})
    return LOST


def a_curve_of_an_earlier_release(study: Path) -> str:
    curves = read_sealed(study / CURVES / RESULT)["curves"]
    curves[0]["loss"][1] = curves[0]["loss_barrier"] = math.inf
    rewrite(study / CURVES / RESULT, curves=curves)
    return CURVES


def a_curve(study: Path) -> str:
    result = read_sealed(study / CURVES / RESULT)
    result["curves"][0]["loss"][1] = result["curves"][0]["loss_barrier"] = math.inf
    finish(study / CURVES, result)
    return CURVES


@pytest.mark.parametrize("diverge", [failed, of_an_earlier_release, a_curve_of_an_earlier_release, a_curve])
def test_a_report_marks_it_and_leaves_it_out(study, tmp_path, diverge):
    before = read_outcome(study)
    lost = diverge(study)
    after = read_outcome(study)
    assert [row["path"] for row in after.stages if row.get("diverged")] == [lost]
    assert len(after.sparse) == len(before.sparse) - (lost == LOST)
    assert len(after.barriers) == (len(before.barriers) if lost == LOST else len(before.barriers) // 2)
    sentence = f"1 of {len(after.stages)} stages diverged: its loss or weights are no finite numbers any more. It is in"
    assert sentence in summary(after)
    assert "1 diverged" in summary(after)
    paths = write_study_report(after, tmp_path / "report")
    assert sentence in (tmp_path / "report" / "report.md").read_text(encoding="utf-8").replace("\n", " ")
    assert lost in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    for path in paths:
        if path.suffix == ".json":
            valid(path.read_text(encoding="utf-8"))
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                assert not {"nan", "inf", "NaN"} & {cell for row in csv.reader(file) for cell in row}
    if lost == LOST:
        rows = (tmp_path / "report" / "summary.csv").read_text().splitlines()
        assert {row.split(",")[4]: row.split(",")[7] for row in rows if row.startswith("top1")} == {
            "lth": "2",
            "permuted": "2",
            "naive": "1",
        }
    again = write_study_report(read_numbers(tmp_path / "report"), tmp_path / "again")
    for one, other in zip(paths, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_matching_follows_the_seed_of_its_repetition(whole):
    """Which images, in which order: in every repetition others."""
    for seed in STUDY.seeds:
        config = yaml.safe_load((whole / f"width=1/seed={seed}/match/permuted/config.yaml").read_text())
        assert config["seed"] == 10 * seed + 6


def test_a_report_of_none_says_nothing_of_it(study, tmp_path):
    write_study_report(read_outcome(study), tmp_path)
    assert "diverged" not in summary(read_outcome(study)) + (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "diverged" not in (tmp_path / "ledger.csv").read_text()


def test_what_is_not_finite_is_null_in_what_is_written(tmp_path):
    finish(tmp_path, {"loss": [1.0, math.nan, -math.inf], "deep": {"er": (math.inf, 2)}, "text": "NaN"})
    valid((tmp_path / RESULT).read_text())
    assert finished(tmp_path) == {"loss": [1.0, None, None], "deep": {"er": [None, 2]}, "text": "NaN"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
def test_a_checkpoint_that_diverged_is_not_evaluated(trained, tmp_path, monkeypatch, capsys, verb, value):
    monkeypatch.chdir(tmp_path)
    content = torch.load(trained, weights_only=True)
    name = next(name for name in content["state_dict"] if name.endswith("bias"))
    content["state_dict"][name][0] = value
    torch.save(content, "poor.ckpt")
    command = [verb, "--config", "dense.yaml", "--trainer.default_root_dir", "run", "--ckpt_path", "poor.ckpt"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip().endswith(f"checkpoint poor.ckpt has {name} with values that are not finite: did it diverge?")
    assert not Path("run").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("fit") / "run"
    assert main(["fit", "--config", "dense.yaml", "--trainer.default_root_dir", str(folder)]) == 0
    return folder / "last.ckpt"
