"""`fit`, `test` and `predict`: rerunning is the resume, and what is evaluated is what was trained."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil

import pytest
import torch

from rebasin_lt.cli import main
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO

FIT = "fit --config dense.yaml --trainer.default_root_dir runs/a --trainer.max_epochs 6"


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(FIT.split()) == 0
    return tmp_path


def accuracy(capsys, command: str) -> float:
    capsys.readouterr()
    assert main(command.split()) == 0
    return float(next(line for line in capsys.readouterr().out.splitlines() if "top1" in line).split()[-1])


def test_test_measures_the_trained_network_however_it_is_asked(trained, capsys) -> None:
    by_checkpoint = accuracy(capsys, "test --config dense.yaml --ckpt_path runs/a/last.ckpt")
    assert by_checkpoint > 50
    assert accuracy(capsys, "test --config runs/a/config.yaml") == by_checkpoint
    weights = torch.load("runs/a/rewind/0it.ckpt", weights_only=True)["state_dict"]
    assert weights  # the network before training is there too, and is not what was measured
    assert accuracy(capsys, "test --config dense.yaml --ckpt_path runs/a/rewind/0it.ckpt") < by_checkpoint


def test_a_folder_that_another_run_writes_is_locked_before_its_checkpoint_is_read(trained, monkeypatch, capsys) -> None:
    """The other run may be about to replace it: what was read would not be where the folder stands."""
    monkeypatch.setattr(SafeCheckpointIO, "load_checkpoint", lambda *_, **__: pytest.fail("read without the lock"))
    with open("runs/a/.lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert main(FIT.split()) == 2
    assert "output folder runs/a is being written by another process" in capsys.readouterr().err


def test_same_command_again_trains_no_further(trained) -> None:
    before = (trained / "runs/a/last.ckpt").stat().st_mtime_ns, (trained / "runs/a/metrics.jsonl").read_text()
    assert main([word for word in FIT.split() if word != "--ckpt_path"]) == 0
    rows = [json.loads(line) for line in before[1].splitlines()]
    assert (trained / "runs/a/metrics.jsonl").read_text() == before[1]
    assert rows


def test_run_folder_may_be_named_in_another_way_and_move(trained, capsys) -> None:
    absolute = FIT.replace("runs/a", os.path.abspath("runs/a"))
    assert main(absolute.split()) == 0
    shutil.move("runs/a", "moved")
    assert main(FIT.replace("runs/a", "moved").split()) == 0
    assert main([*FIT.replace("runs/a", "moved").split(), "--model.learning_rate", "0.2"]) == 2
    assert "learning_rate is 0.1 there and 0.2 here" in capsys.readouterr().err


def test_predict_writes_probabilities(trained, capsys) -> None:
    assert main(["predict", "--config", "runs/a/config.yaml"]) == 0
    assert capsys.readouterr().out.strip().endswith("predictions.csv")
    rows = list(csv.reader((trained / "runs/a/predictions.csv").open()))
    assert rows[0] == ["example", *(f"value_{k}" for k in range(10))]
    assert len(rows) == 1 + 500
    assert all(sum(map(float, row[1:])) == pytest.approx(1, abs=1e-4) for row in rows[1:])


def test_truncated_last_checkpoint_is_named(trained, capsys) -> None:
    content = (trained / "runs/a/last.ckpt").read_bytes()
    (trained / "runs/a/last.ckpt").write_bytes(content[: len(content) // 2])
    assert main(FIT.split()) == 1
    assert "runs/a/last.ckpt is not a readable checkpoint" in capsys.readouterr().err
    assert main(["test", "--config", "dense.yaml", "--ckpt_path", "nowhere.ckpt"]) == 2
    assert "checkpoint nowhere.ckpt does not exist" in capsys.readouterr().err
