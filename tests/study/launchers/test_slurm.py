"""Following jobs in SLURM, by an `squeue` that is not there; with a real cluster see tests/slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rebasin_lt.cli import main
from rebasin_lt.storage.files import write_json
from rebasin_lt.storage.run_folder import finish
from rebasin_lt.study.launchers.launcher import Launcher
from rebasin_lt.study.launchers.slurm import run_slurm
from rebasin_lt.study.launchers.slurm_options import Slurm
from rebasin_lt.study.launchers.task import answer_file
from rebasin_lt.study.record import record
from rebasin_lt.study.stage import Stage
from rebasin_lt.study.state import State

PLAN = {name: Stage(name, "dense", 1) for name in ("done", "lost", "failed")} | {
    "waits": Stage("waits", "imp", 1, needs=("lost",))
}


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """A file with the ids of the jobs that are in the queue, a line for each look at it."""
    queue, tools = tmp_path / "queue", tmp_path / "bin"
    tools.mkdir()
    calls = tmp_path / "calls"
    sbatch = f'echo "$@" >>"{calls}"\nwc -l <"{calls}"'
    for name, lines in (("squeue", f'head -n 1 "{queue}"\nsed -i 1d "{queue}"'), ("sbatch", sbatch)):
        (tools / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tools / name).chmod(0o755)
    queue.touch()
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return queue


def test_each_array_waits_for_those_that_its_stages_need(queue, tmp_path) -> None:
    folder, state = tmp_path / "study", State(PLAN)
    (folder / "slurm").mkdir(parents=True)
    (folder / "slurm/jobs.json").write_text('["999"]')  # of long ago
    slurm = Slurm(stages_per_task=2, options=("--partition=gpu",))
    run_slurm(folder, state, Launcher(slurm=slurm, threads=3), lambda _: None)
    scripts = folder / "slurm"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"--parsable {scripts / '0-dense.sbatch'}",
        f"--parsable --dependency=afterany:1 {scripts / '1-imp.sbatch'}",
    ]
    assert json.loads((scripts / "jobs.json").read_text()) == ["1", "2"]
    assert json.loads((scripts / "0-dense.json").read_text()) == [["done", "lost"], ["failed"]]
    script = (scripts / "0-dense.sbatch").read_text()
    for line in ("#SBATCH --array=0-1%16", "#SBATCH --partition=gpu", "export OMP_NUM_THREADS=3"):
        assert f"\n{line}\n" in script


def test_what_was_running_when_the_last_job_ended_has_failed(queue, tmp_path) -> None:
    folder, shown = tmp_path / "study", []
    write_json(folder / "slurm/jobs.json", ["7"])
    queue.write_text("8 7\n8 7\n8\n")
    finish(folder / "done", {})
    record(folder, PLAN["done"], {})
    for name, answer in (("lost", {"state": "running"}), ("failed", {"state": "failed", "reason": "no room"})):
        write_json(answer_file(folder, name), answer)
    state = State(PLAN)
    run_slurm(folder, state, Launcher(slurm=Slurm(poll_seconds=0.1)), lambda now: shown.append(dict(now.running)))
    assert [list(running) for running in shown] == [["lost"], []]
    assert state.done == {"done"}
    assert state.failed["failed"] == "no room"
    assert state.failed["lost"].startswith("its job ended in the middle of it, as when it is cancelled or ")
    assert state.failed["lost"].endswith(f"see {folder / 'slurm'}")
    assert state.blocked == ["waits"]
    assert json.loads((folder / "slurm/jobs.json").read_text()) == ["7"]  # followed, not sent again


def test_without_slurm_nothing_is_begun(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["study", "--config", "studies/digits.yaml", "--launcher", "slurm"]) == 2
    assert "--launcher is slurm, but there is no sbatch here: log in where jobs are" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
