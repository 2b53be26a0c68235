"""A kind of stage and a launcher are a file each: one that is added is planned, done, counted, shown and offered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opened import study
from tiny import write_config

KIND = """
from rebasin_lt.storage.run_folder import run_once
from rebasin_lt.study.kinds.dense import dense_stage
from rebasin_lt.study.stage import Stage, StageKind, about


def _of_seed(point, seed):
    dense = dense_stage(point, seed, "a")
    path = point.path(WEIGHED, seed, "weighed")
    yield Stage(path, WEIGHED.name, point.width, needs=(dense.path,), inputs=(f"{dense.path}/final.ckpt",))


def _run(study, stage, folder):
    size = (folder / stage.inputs[0]).stat().st_size
    run_once(folder / stage.path, {"stage": "weighed"}, lambda: {"test/top1": 50.0, "size": size})


def _read(study, stage, result):
    yield "dense", about(stage, seed=0, role="weighed", top1=0.5, top5=None)


WEIGHED = StageKind("weighed", "weigh a network", run=_run, read=_read, of_seed=_of_seed, needs=("dense",))
"""
LAUNCHER = """
from rebasin_lt.study.folder import read_study
from rebasin_lt.study.launchers.launcher import LauncherKind
from rebasin_lt.study.work import run_stage


def _run(folder, state, launcher, tell):
    while ready := state.ready():
        run_stage(read_study(folder), ready[0], folder)
        state.done.add(ready[0].path)
        tell(state)


PATIENT = LauncherKind("patient", _run, count=lambda launcher: 1, here=True)
"""
DRIVER = """
import sys
import rebasin_lt.study.kinds, rebasin_lt.study.launchers
rebasin_lt.study.kinds.__path__.append("kinds")
rebasin_lt.study.launchers.__path__.append("launchers")
from rebasin_lt.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(tmp_path):
    """`rebasin-lt` of a package that has the two files more."""
    for folder, name, text in (("kinds", "weighed.py", KIND), ("launchers", "patient.py", LAUNCHER)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text, encoding="utf-8")
    write_config(tmp_path / "study.yaml", study(methods=["lth"]))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_file_more_is_a_kind_and_a_launcher_more(command, tmp_path) -> None:
    given = ("study", "--config", "study.yaml", "--out", "s")
    assert "local, patient, slurm" in " ".join(command("study", "--help").split())
    planned = command(*given, "--dry-run", "--probe", "false")
    assert "width=1/seed=0/weighed" in planned
    assert any(line.split()[:3] == ["weighed", "0", "1"] for line in planned.splitlines())  # of the ledger
    assert "stages are complete" in command(*given, "--launcher", "patient")
    assert (tmp_path / "s/width=1/seed=0/weighed/result.json").is_file()
    command("report", "s")
    for name in ("ledger.csv", "accuracy.csv", "report.md"):
        assert "weighed" in (tmp_path / "s/report" / name).read_text(encoding="utf-8"), name
