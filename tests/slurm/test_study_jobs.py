"""A study through SLURM: job arrays after each other, a task that is told to stop, a stage that fails."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import STUDY, command, report_bytes, write_config

from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.plan import plan
from rebasin_lt.study.work import run_stage

SMALL = replace(
    STUDY,
    seeds=[0],
    methods=["lth", "permuted", "naive", "shuffled"],
    matchers={"permuted": {}},
    recipe=replace(STUDY.recipe, targets=(0.8,), dense_epochs=60),
    diversity=None,
)
OPTIONS = ["--launcher", "slurm", "--slurm.poll_seconds", "0.5"]


def start(cluster: dict[str, str], config: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    more = more or ("--slurm.stages_per_task", "3")
    return subprocess.Popen(command(config, out, *OPTIONS, *more), env=cluster, **pipes)


def call(cluster: dict[str, str], *arguments: str) -> str:
    return subprocess.run(arguments, env=cluster, capture_output=True, text=True, check=True, timeout=60).stdout


def until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture
def alone(tmp_path) -> dict[str, str]:
    """The report of the same study, stage by stage in this process."""
    folder = tmp_path / "alone"
    with claim_study(folder, SMALL):
        for stage in plan(SMALL).values():
            run_stage(SMALL, stage, folder)
    return report_bytes(folder, tmp_path / "report-alone")


@pytest.mark.slow
def test_jobs_leave_the_same_report_though_one_was_told_to_stop(cluster, alone, tmp_path) -> None:
    config, out = write_config(tmp_path / "small.yaml", SMALL), tmp_path / "study"
    process = start(cluster, config, out)
    dense, jobs = out / "width=1/seed=0/dense_a", out / "slurm" / "jobs.json"
    until(lambda: (dense / "metrics.jsonl").exists())
    first = json.loads(jobs.read_text())[0]
    call(cluster, "scancel", "--signal=USR1", f"{first}_0")
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert f"rebasin-lt report {out} shows them" in printed
    assert "Restarts=1" in call(cluster, "scontrol", "show", "job", f"{first}_0")
    assert report_bytes(out, tmp_path / "report") == alone
    assert "#SBATCH --array=0-0%16" in (out / "slurm" / "0-dense.sbatch").read_text()


@pytest.mark.slow
def test_a_failed_stage_is_told_and_an_interrupted_follower_comes_back(cluster, tmp_path) -> None:
    config, out = write_config(tmp_path / "small.yaml", SMALL), tmp_path / "study"
    stranger = out / "width=1/seed=0/imp_a/notes.txt"
    with claim_study(out, SMALL):
        stranger.parent.mkdir(parents=True)
        stranger.write_text("mine")
    process = start(cluster, config, out)
    jobs = out / "slurm" / "jobs.json"
    until(lambda: jobs.exists() and len(json.loads(jobs.read_text())) == 7)
    sent = jobs.read_text()
    process.terminate()
    assert process.communicate(timeout=60)[1] == (
        "rebasin-lt: error: stopped by SIGTERM; the jobs go on, the same command follows them\n"
    )
    process = start(cluster, config, out)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert jobs.read_text() == sent  # followed, not sent again
    assert "1 of 14 stages failed, " in errors
    assert "the first, width=1/seed=0/imp_a: output folder" in errors


@pytest.mark.slow
def test_a_task_of_two_processes_is_told_to_stop_and_comes_back(cluster, tmp_path) -> None:
    """Both train; the one that ends first must not take the other's code, 75, with it."""
    pair = {"num_nodes": 2, "devices": 1, "strategy": "ddp", "accelerator": "cpu"}
    recipe = replace(SMALL.recipe, trainer=pair, dense_epochs=200)
    config = write_config(tmp_path / "pair.yaml", replace(SMALL, methods=["naive"], recipe=recipe, barrier=None))
    out = tmp_path / "study"
    process = start(cluster, config, out, "--slurm.options", "[--nodes=2, --ntasks-per-node=1]")
    dense, jobs = out / "width=1/seed=0/dense_a", out / "slurm" / "jobs.json"
    until(lambda: (dense / "metrics.jsonl").exists())
    first = json.loads(jobs.read_text())[0]
    call(cluster, "scancel", "--signal=USR1", f"{first}_0")
    printed, errors = process.communicate(timeout=400)
    assert (process.returncode, errors) == (0, "")
    assert f"rebasin-lt report {out} shows them" in printed
    assert "Restarts=1" in call(cluster, "scontrol", "show", "job", f"{first}_0")
    assert (out / "logs/width=1/seed=0/dense_a.rank1.log").exists()


@pytest.mark.slow
def test_two_nodes_train_a_stage_together(cluster, tmp_path) -> None:
    trainer = {"accelerator": "cpu", "num_nodes": 2, "strategy": "ddp"}
    recipe = replace(SMALL.recipe, dense_epochs=2, trainer=trainer, data={"name": "digits", "batch_size": 25})
    study = replace(SMALL, methods=["lth", "permuted"], recipe=recipe, barrier=None)
    config, out = write_config(tmp_path / "two.yaml", study), tmp_path / "study"
    tasks = ["--slurm.options", '["--nodes=2", "--ntasks-per-node=1"]', "--slurm.stages_per_task", "9"]
    process = start(cluster, config, out, *tasks)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), "\n".join(path.read_text() for path in out.rglob("*.log"))
    dense = out / "width=1/seed=0/dense_a"
    assert json.loads((dense / "metrics.jsonl").read_text().splitlines()[0])["step"] == 20  # of 2 × 25 images
    assert (out / "logs/width=1/seed=0/dense_a.rank1.log").exists()
    assert not (out / "logs/width=1/seed=0/match/permuted.rank1.log").exists()
