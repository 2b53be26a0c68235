"""Runs side by side: what differs in their settings, what was measured of each, in four forms."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.report.analyses.comparison import (
    FORMATS,
    comparison_text,
    differing,
    metrics_table,
    read_run,
    settings_table,
    untested,
)
from rebasin_lt.storage.run_folder import finish
from rebasin_lt.storage.run_records import record_evaluation


def make_run(folder: Path, mask: str | None, top1: float | None = None, **more: object) -> Path:
    """A folder as `fit` leaves it, tested where `top1` is given."""
    folder.mkdir()
    model = {"class_path": "rebasin_lt.Classifier", "init_args": {"learning_rate": 0.1, "mask": mask}}
    settings = {"seed_everything": 1, "model": model, "trainer": {"default_root_dir": str(folder)}, **more}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    rows = [
        {"epoch": 0, "step": 10, "train/loss": 2.0},
        {"epoch": 1, "step": 20, "train/loss": None, "not_finite": {"train/loss": "nan"}},
        {"epoch": 1, "step": 20, "val/top1": 90.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"sparsity": None if mask is None else 0.95}))
    if top1 is not None:
        record_evaluation(folder, "test", folder / "last.ckpt", 20, {"test/top1": top1, "test/loss": 0.5})
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("lth"), "a.mask", 93.25)
    make_run(Path("naive"), "a.mask_b", 61.0)
    make_run(Path("dense"), None)
    return [read_run(name) for name in ("LTH=lth", "naive", "dense")]


def test_settings_that_differ_stand_side_by_side_and_places_do_not(runs) -> None:
    assert differing(runs) == ["model.mask"]
    assert settings_table(runs).to_text().splitlines()[3:] == ["model.mask  a.mask  a.mask_b  –"]
    assert settings_table(runs).columns[1].title == "LTH"
    assert settings_table(runs[:1]).rows == []


def test_settings_are_written_as_in_a_file(tmp_path) -> None:
    """So that they can be copied into one, or behind an option."""
    values = {
        "at": ["0it", "2ep"],
        "yes": True,
        "rate": 0.05,
        "none": [],
        "words": "a, b",
        "shape": [3, 8],
        "no": False,
    }
    made = [make_run(tmp_path / name, None, own=own) for name, own in (("a", values), ("b", dict.fromkeys(values, 7)))]
    written = {row[0]: row[1] for row in settings_table([read_run(str(folder)) for folder in made]).rows}
    assert {name: yaml.safe_load(f"x: {written[f'own.{name}']}")["x"] for name in values} == values
    assert written["own.at"] == "[0it, 2ep]"


def test_metrics_are_the_tests_and_the_sparsity_or_those_that_are_wanted(runs) -> None:
    lines = metrics_table(runs).to_text().splitlines()
    assert lines[0] == "Metrics of the test"
    assert lines[1].split() == ["run", "sparsity", "test/loss", "test/top1"]
    assert lines[3].split() == ["LTH", "0.9500", "0.5000", "93.25"]
    assert lines[5].split() == ["dense", "–", "–", "–"]
    assert metrics_table(runs, ["val/top1"]).rows == [["LTH", 90.0], ["naive", 90.0], ["dense", 90.0]]
    with pytest.raises(InputError, match="metrics names val/top9, which no run has: expected some of sparsity, test/"):
        metrics_table(runs, ["val/top9"])
    assert untested(runs) == [Path("dense")]
    dense = metrics_table(runs[2:])
    assert dense.caption == "Metrics of the last epoch"
    assert [column.title for column in dense.columns] == ["run", "val/top1"]  # a loss that was not finite is none


def test_the_tests_metrics_are_known_by_what_a_module_calls_them(tmp_path) -> None:
    """A module of one's own logs `test_loss`, say: the test's all the same, and what was not tested is named."""
    tested, other = make_run(tmp_path / "a", "a.mask"), make_run(tmp_path / "b", "b.mask")
    record_evaluation(tested, "test", tested / "last.ckpt", 20, {"test_loss": 0.25})
    runs = [read_run(str(tested)), read_run(str(other))]
    table = metrics_table(runs)
    assert table.caption == "Metrics of the test"
    assert [column.title for column in table.columns] == ["run", "sparsity", "test_loss"]
    assert untested(runs) == [other]


def test_a_test_of_a_run_that_went_on_since_is_not_its_own(tmp_path) -> None:
    folder = make_run(tmp_path / "run", None)
    record_evaluation(folder, "test", folder / "last.ckpt", 10, {"test/top1": 50.0})
    assert "test/top1" not in read_run(str(folder)).metrics


def test_a_stage_of_a_study_is_a_run_too(tmp_path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"stage": "sparse", "mask": "m"}))
    finish(tmp_path, {"test/top1": 88.0})
    run = read_run(str(tmp_path))
    assert (run.metrics, run.settings) == ({"test/top1": 88.0}, {"stage": "sparse", "mask": "m"})


def test_what_is_no_run_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="holds no config.yaml: expected the folder of a run, or LABEL=FOLDER"):
        read_run(str(tmp_path))


def test_every_form_holds_all_runs_and_numbers(runs) -> None:
    for form in FORMATS:
        text = comparison_text(runs, form)
        assert all(word in text for word in ("LTH", "naive", "93.25", "61"))
    rows = list(csv.DictReader(io.StringIO(comparison_text(runs, "csv"))))
    assert [row["model.mask"] for row in rows] == ["a.mask", "a.mask_b", ""]
    assert rows[0]["val/top1"] == "90.0"
    latex = comparison_text(runs, "latex")
    assert "a.mask\\_b" in latex
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 2
    assert "LTH & 0.9500 & 0.5000 & 93.25 \\\\" in latex


def test_names_have_spaces_and_brackets_and_what_is_said_to_run_is_quoted(runs, capsys) -> None:
    Path("dense").rename("no mask & no [rewind]")
    assert main(["compare", "lottery [LTH]=lth", "no mask & no [rewind]", "--format", "markdown"]) == 0
    said = capsys.readouterr()
    assert "lottery \\[LTH\\]" in said.out
    assert said.err.endswith(" was not tested: rebasin-lt test --config 'no mask & no [rewind]/config.yaml'\n")


def test_the_command_prints_or_writes_and_says_what_was_not_tested(runs, capsys) -> None:
    assert main(["compare", "lth", "naive", "dense"]) == 0
    said = capsys.readouterr().out
    assert said.endswith("dense was not tested: rebasin-lt test --config dense/config.yaml\n")
    for form in ("csv", "latex", "markdown"):  # beside what another program reads, not in it
        assert main(["compare", "lth", "dense", "--format", form]) == 0
        said = capsys.readouterr()
        assert "was not tested" not in said.out
        assert said.err == "dense was not tested: rebasin-lt test --config dense/config.yaml\n"
    assert main(["compare", "lth,naive", "--format", "markdown", "--metrics", "test/top1", "--out", "t.md"]) == 0
    assert "| lth | 93.25 |" in Path("t.md").read_text()
    assert main(["compare", "lth"]) == 2
    assert "expected at least two folders" in capsys.readouterr().err
    assert main(["compare", "lth", "naive", "--format", "latx"]) == 2
    assert "--format is 'latx', which is not known (did you mean latex?)" in capsys.readouterr().err


@pytest.mark.parametrize("said_by", ["run.json", "settings"])
def test_a_run_that_learned_nothing_is_marked_and_what_to_do_is_said(tmp_path, monkeypatch, capsys, said_by) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("lth"), "a.mask", 93.25)
    make_run(Path("naive"), "b.mask", 10.0, **({"num_classes": 10} if said_by == "settings" else {}))
    if said_by == "run.json":
        Path("naive/run.json").write_text(json.dumps({"sparsity": 0.95, "num_classes": 10}))
    assert main(["compare", "lth", "naive"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Metrics of the test; † no better than a constant answer" in lines
    assert any(line.startswith("naive †") for line in lines)
    assert lines[-1].startswith("† naive: test/top1 10 is what a constant answer gives (10 classes): ")
    assert main(["compare", "lth", "naive", "--format", "csv"]) == 0
    assert "†" not in capsys.readouterr().out


def test_a_misspelt_option_is_named_and_its_value_is_no_run(runs, capsys) -> None:
    for words in (["lth", "naive", "--metric", "x"], ["--metric", "x", "lth", "naive"], ["lth", "naive", "--metric=x"]):
        assert main(["compare", *words]) == 2
        assert "--metric=x (did you mean --metrics?)" in capsys.readouterr().err
