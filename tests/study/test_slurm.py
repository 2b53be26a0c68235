"""Following jobs in SLURM, by an `squeue` that is not there; with a real cluster see tests/slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rebasin_lt.files import write_json
from rebasin_lt.study.plan import Stage
from rebasin_lt.study.slurm import run_slurm
from rebasin_lt.study.slurm_options import Slurm
from rebasin_lt.study.state import State
from rebasin_lt.study.task import answer_file

PLAN = {name: Stage(name, "dense", 1) for name in ("done", "lost", "failed")} | {
    "waits": Stage("waits", "imp", 1, needs=("lost",))
}


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """A file with the ids of the jobs that are in the queue, a line for each look at it."""
    queue, tools = tmp_path / "queue", tmp_path / "bin"
    tools.mkdir()
    for name, lines in (("squeue", f'head -n 1 "{queue}"\nsed -i 1d "{queue}"'), ("sbatch", "exit 1")):
        (tools / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return queue


def test_what_was_running_when_the_last_job_ended_has_failed(queue, tmp_path) -> None:
    folder, shown = tmp_path / "study", []
    write_json(folder / "slurm/jobs.json", ["7"])
    queue.write_text("8 7\n8 7\n8\n")
    (folder / "done").mkdir(parents=True)
    (folder / "done/result.json").write_text("{}")
    for name, answer in (("lost", {"state": "running"}), ("failed", {"state": "failed", "reason": "no room"})):
        write_json(answer_file(folder, name), answer)
    state = State(PLAN)
    run_slurm(folder, state, Slurm(poll_seconds=0.1), 1, lambda now: shown.append(dict(now.running)))
    assert [list(running) for running in shown] == [["lost"], []]
    assert state.done == {"done"}
    assert state.failed["failed"] == "no room"
    assert state.failed["lost"].startswith("its job ended in the middle of it, as when it is cancelled or ")
    assert state.failed["lost"].endswith(f"see {folder / 'slurm'}")
    assert state.blocked == ["waits"]
    assert json.loads((folder / "slurm/jobs.json").read_text()) == ["7"]  # followed, not sent again
