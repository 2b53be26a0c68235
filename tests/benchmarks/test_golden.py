"""Golden trajectories: today's curves are the committed ones up to rounding, and what is compared is seen to differ."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.golden import __main__ as command
from benchmarks.golden.__main__ import main
from benchmarks.golden.committed import FACTOR, LEAST, beyond, curves, kind, read_golden, spread, tolerance
from benchmarks.golden.comparison import compare, table
from benchmarks.golden.readings import FAILED, hashes, read
from benchmarks.golden.sides import ROOT, GoldenError, checkout, compute, name_of
from benchmarks.golden.spellings import Dialect
from benchmarks.golden.trajectories import TRAJECTORIES, Step, Trajectory, chosen
from rebasin_lt.cli import COMMANDS, LIGHTNING

QUICK = ["dense-mlp", "imp-finetune"]
NAMES = [trajectory.name for trajectory in TRAJECTORIES]
WITHOUT_CURVES = {"controls", "mask-analysis"}
"""They leave masks alone, which are compared between commits on one machine."""


def check_against_committed(names: Sequence[str]) -> None:
    """Run the trajectories and compare them with the committed curves."""
    golden, here = read_golden(), golden_machine()
    for name, readings in compute(ROOT, chosen(names)).items():
        assert FAILED not in readings, readings
        fresh = curves(readings)
        assert name in golden["curves"] or not fresh, (
            f"{name} is not in golden.json: python -m benchmarks.golden --write"
        )
        differences = beyond(golden, name, fresh) if fresh else []
        assert not differences, (
            f"{name}: {len(differences)} numbers are not those of golden.json ({golden['about']}) within what rounding "
            f"does; here {here}. If results were to change: python -m benchmarks.golden --write. {differences[:3]}"
        )


def golden_machine() -> str:
    return f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def test_dense_training_and_pruning_follow_the_committed_curves() -> None:
    check_against_committed(QUICK)


@pytest.mark.slow
def test_all_trajectories_follow_the_committed_curves() -> None:
    check_against_committed(NAMES)


def test_committed_are_curves_of_trajectories_and_a_spread_for_each() -> None:
    golden = read_golden()
    assert set(golden["curves"]) == set(NAMES) - WITHOUT_CURVES
    assert set(golden["curves"]) == set(golden["spread"])
    for name, values in golden["curves"].items():
        assert {kind(reading) for reading in values} == set(golden["spread"][name]), name


@pytest.mark.parametrize("name", NAMES)
def test_a_trajectory_comes_after_what_it_needs_and_has_no_command_s_name(name: str) -> None:
    found = [trajectory.name for trajectory in chosen([name])]
    assert found[-1] == name
    for trajectory in chosen([name]):
        assert all(found.index(needed) < found.index(trajectory.name) for needed in trajectory.needs)
    assert name not in {*COMMANDS, *LIGHTNING}  # a folder may not be respelled with a command


def test_a_planted_change_of_a_curve_is_seen_and_rounding_is_not() -> None:
    golden = read_golden()
    committed = golden["curves"]["dense-mlp"]
    loss, hits = "dense-mlp/metrics.jsonl epoch 2 train/loss", "dense-mlp/metrics.jsonl epoch 3 val/top1"
    assert beyond(golden, "dense-mlp", {name: value * (1 + 1e-6) for name, value in committed.items()}) == []
    assert [found.name for found in beyond(golden, "dense-mlp", {**committed, loss: committed[loss] * 1.01})] == [loss]
    assert [found.name for found in beyond(golden, "dense-mlp", {**committed, hits: committed[hits] - 1})] == [hits]
    assert [found.name for found in beyond(golden, "dense-mlp", {**committed, loss: math.nan})] == [loss]
    lost = {name: value for name, value in committed.items() if name != loss}
    assert [found.after for found in beyond(golden, "dense-mlp", lost)] == [None]


def test_a_tolerance_is_what_was_measured_several_times_over_and_never_nothing() -> None:
    base = {"a epoch 0 val/loss": 2.0, "a epoch 0 val/top1": 50.0, "a epoch 1 val/loss": 0.01}
    other = {"a epoch 0 val/loss": 2.2, "a epoch 0 val/top1": 49.0, "a epoch 1 val/loss": 0.011}
    measured = spread(base, [base, other])
    assert measured == pytest.approx({"loss": 0.1, "top1": 1.0})
    assert tolerance("top1", measured["top1"]) == FACTOR
    assert tolerance("top1", 0.0) == LEAST["top1"]


def test_curves_are_losses_accuracies_errors_overlaps_and_objectives() -> None:
    read_there = {
        "r/metrics.jsonl epoch 0 val/loss": 1.0,
        "r/metrics.jsonl epoch 0 val/top5": 99.0,
        "r/result.json barrier.none.before.loss.3": 2.0,
        "r/result.json barrier.none.before.loss_barrier": 3.0,
        "r/result.json loss.none.1.2": 2.0,
        "r/result.json objective.layers.0.weight": 0.5,
        "r/result.json masks.sparsity-0.8.mask.safetensors.permuted": 0.2,
        "r/last.ckpt weights loss": "torch.float32 () 00",
        "r/report/curves.csv line 1 loss": 2.0,
    }
    kinds = {name: kind(name) for name in curves(read_there)}
    assert list(kinds.values()) == ["loss", "loss", "loss", "objective", "share"]


def test_planted_differences_are_reported_with_the_first_and_both_values() -> None:
    before = {"run": {"epoch 0 loss": 0.1, "epoch 1 loss": 0.2, "weights w": "aa"}}
    (verdict,) = compare(before, {"run": {"epoch 0 loss": 0.1, "epoch 1 loss": 0.20000000000000004, "weights w": "ab"}})
    assert "2 of 3 readings differ, first epoch 1 loss: 0.2 -> 0.20000000000000004" in table([verdict])
    assert verdict.primitives()["identical"] is False


def test_what_is_equal_to_the_bit_is_identical() -> None:
    before = {"run": {"a": 0.1, "b": math.nan, "c": "aa"}}
    (verdict,) = compare(before, {"run": {"a": 0.1, "b": math.nan, "c": "aa"}})
    assert table([verdict]) == "run | identical (3 readings)"


def test_a_lost_reading_differs_and_a_new_one_is_mentioned() -> None:
    (lost,) = compare({"run": {"a": 1.0, "b": 2.0}}, {"run": {"a": 1.0}})
    assert lost.in_words() == "1 of 2 readings differ, first b: 2.0 -> missing"
    (new,) = compare({"run": {"a": 1.0}}, {"run": {"a": 1.0, "b": 2.0}})
    assert not new.differences
    assert new.in_words() == "identical (1 readings); 1 are new, such as b"


def test_a_trajectory_that_fails_on_both_sides_is_not_identical() -> None:
    failed = {"run": {FAILED: "fit ended with 2: no"}}
    (verdict,) = compare(failed, failed)
    assert verdict.differences
    (verdict,) = compare({"run": {"a": 1.0}}, failed)
    assert "ran -> fit ended with 2: no" in verdict.in_words()


def test_a_hash_sees_one_index_of_a_permutation_and_no_layout_in_memory(tmp_path: Path) -> None:
    index = torch.arange(6)
    swapped = index[[1, 0, 2, 3, 4, 5]]
    assert dict(hashes({"g": index})) != dict(hashes({"g": swapped}))
    weight = torch.randn(3, 4, 2, 2)
    assert dict(hashes({"w": weight})) == dict(hashes({"w": weight.to(memory_format=torch.channels_last)}))
    assert dict(hashes({"w": weight})) != dict(hashes({"w": weight.reshape(4, 3, 2, 2)}))
    assert dict(hashes({"w": weight})) != dict(hashes({"w": weight.view(torch.int32)}))
    sides = []
    for name, permutation in (("before", index), ("after", swapped)):
        (tmp_path / name / "run").mkdir(parents=True)
        save_file({"h": index.clone(), "layers.0.weight": permutation}, tmp_path / name / "run" / "a.perm.safetensors")
        sides.append({"run": read(tmp_path / name / "run", tmp_path)})
    assert [found.name for found in compare(*sides)[0].differences] == ["run/a.perm.safetensors layers.0.weight"]


def test_readings_of_a_folder_are_its_epochs_numbers_tensors_and_what_test_printed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "report").mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"epoch": 1, "step": 9, "val/loss": 0.5, "other": 1}\n')
    (run / "result.json").write_text('{"format_version": 1, "a": {"b": [0.25, true, "x"]}, "sha": "00"}')
    (run / "report" / "accuracy.csv").write_text("method,top1\nlth,0.9\n")
    torch.save({"state_dict": {"w": torch.ones(1)}, "rebasin_lt_mask": {"w": torch.ones(1).bool()}}, run / "last.ckpt")
    (tmp_path / "run.1-test.log").write_text(" test/loss   0.123456\n   │ test/top1 │ 87.5 │\ntest/loss\t0.1235\n")
    found = read(run, tmp_path)
    assert list(found) == [
        "run/metrics.jsonl epoch 1 val/loss",
        "run/result.json a.b.0",
        "run/report/accuracy.csv line 1 top1",
        "run/last.ckpt weights w",
        "run/last.ckpt mask w",
        "run test/loss",
        "run test/top1",
    ]
    assert [value for value in found.values() if not isinstance(value, str)] == [0.5, 0.25, 0.9, 0.123456, 87.5]


def test_words_are_spelled_as_a_commit_takes_them_once_it_has_refused_others() -> None:
    dialect = Dialect({("permute", "mask"): ("masks", "mask_files"), ("permute", "permute"): ("match",)})
    settings = {"mask": ["a/mask"], "out": "b"}
    assert dialect.spell("permute", settings) == settings
    assert not dialect.learn("permute", "rebasin-lt: error: masking is not known")
    assert not dialect.learn("barrier", "unrecognized arguments: --mask")
    assert dialect.learn("permute", "error: unrecognized arguments: --mask=a")
    assert dialect.spell("permute", settings) == {"masks": ["a/mask"], "out": "b"}
    assert dialect.spell("barrier", settings) == settings
    assert dialect.learn("permute", "Option 'masks' is not accepted")
    assert dialect.spell("permute", [settings]) == [{"mask_files": ["a/mask"], "out": "b"}]
    assert not dialect.learn("permute", "Option 'mask_files' is not accepted")
    assert dialect.learn("permute", "invalid choice: 'permute'")
    assert dialect.spell("permute", "permute") == "match"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of an early day: it knows `alphas` as `num_alphas`, and its only command copies a number."""
    source = tmp_path / "source"
    (source / "rebasin_lt").mkdir(parents=True)
    (source / "rebasin_lt" / "__init__.py").touch()
    (source / "rebasin_lt" / "cli.py").write_text(
        """
import json, pathlib, sys
def main():
    settings = json.loads(pathlib.Path(sys.argv[3]).read_text())
    if "alphas" in settings:
        print("rebasin-lt: error: Option 'alphas' is not accepted")
        return 2
    out = pathlib.Path(settings["out"])
    out.mkdir()
    (out / "result.json").write_text(json.dumps({"points": settings["num_alphas"]}))
    return 0
"""
    )
    return source


def test_a_side_runs_its_own_package_and_learns_its_words(package: Path) -> None:
    rows = [
        Trajectory("line", [Step("barrier", {"out": "line", "alphas": 5})]),
        Trajectory("wrong", [Step("barrier", {"out": "line", "num_alphas": 5})]),
    ]
    found = compute(package, rows)
    assert found["line"] == {"line/result.json points": 5}
    assert found["wrong"][FAILED].startswith("barrier ended with 1")


def test_a_folder_without_the_package_is_not_compared_with_the_installed_one(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match=r"instead of its rebasin_lt"):
        compute(tmp_path, [])


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_commit_is_checked_out_beside_and_leaves_nothing(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *author, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("old")
    git("add", "file")
    git("commit", "-m", "one")
    (tmp_path / "file").write_text("new")
    with checkout(name_of("HEAD", tmp_path), tmp_path) as place:
        assert (place / "file").read_text() == "old"
    assert not place.exists()
    assert (tmp_path / "file").read_text() == "new"
    assert not list((tmp_path / ".git").glob("worktrees/*"))
    with pytest.raises(GoldenError, match="git rev-parse"):
        name_of("nothing", tmp_path)


def test_misspelt_trajectories_and_a_commit_that_is_none_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--only", "dense"], ["--write", "--only", "dense-mlp"], ["no-such-commit"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    said = capsys.readouterr().err
    assert "trajectory 'dense' is not known, expected dense-mlp" in said
    assert "--write takes all trajectories" in said
    assert "git rev-parse" in said


def test_exit_code_and_file_say_whether_anything_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = iter([{"run": {"a": 1.0}}, {"run": {"a": 1.0}}, {"run": {"a": 1.0}}, {"run": {"a": 2.0}}])
    monkeypatch.setattr(command, "compute", lambda *_, **__: next(sides))
    monkeypatch.setattr(command, "checkout", lambda _: contextlib.nullcontext(tmp_path))
    monkeypatch.setattr(command, "name_of", lambda commit: commit)
    main(["one"])
    assert "run | identical (1 readings)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        main(["one", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["commit"] == "one"
    assert not found["identical"]
    assert found["trajectories"][0]["differences"] == [{"name": "a", "before": 1.0, "after": 2.0}]
