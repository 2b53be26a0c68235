"""What a task of a job array does with its stages, alone and as one of several processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from rebasin_lt.study import task
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.plan import plan
from rebasin_lt.study.recipe import Recipe
from rebasin_lt.study.state import State
from rebasin_lt.study.task import main, read_answer

RECIPE = Recipe(targets=(0.5,), fraction=0.5, rewinds=("1ep",), dense_epochs=2, epochs_per_round=1, sparse_epochs=1)
PAIR = {"num_nodes": 2, "devices": 1, "strategy": "ddp", "accelerator": "cpu"}
DENSE, MATCH = "width=1/seed=0/dense_a", "width=1/seed=0/match/permuted"


def make(tmp_path, stages, **recipe):
    """A claimed study, and a file with one task of `stages`."""
    study = Study("task", Recipe(**{**vars(RECIPE), **recipe}), [0], methods=["naive"])
    with claim_study(tmp_path / "study", study):
        pass
    (tmp_path / "tasks.json").write_text(json.dumps([[], stages]))
    return study, (tmp_path / "study", tmp_path / "tasks.json", 1)


@pytest.fixture
def stages(monkeypatch):
    """Which stages were done, none of them really; and what becomes of those that do not succeed."""
    done, answers = [], {}

    def do_stage(folder, path, rank):
        done.append((path, rank))
        return answers.get(path, {"state": "done"})

    monkeypatch.setattr(task, "do_stage", do_stage)
    return done, answers


def test_a_task_does_its_stages_in_order_and_goes_on_after_a_failure(tmp_path, stages):
    done, answers = stages
    others = [DENSE, "width=1/seed=0/dense_b"]
    _, arguments = make(tmp_path, others)
    answers[DENSE] = {"state": "failed", "reason": "no disk"}
    assert main(*arguments) == 1
    assert done == [(path, 0) for path in others]
    answer = read_answer(tmp_path / "study", DENSE)
    assert {name: answer[name] for name in ("state", "reason")} == {"state": "failed", "reason": "no disk"}
    assert answer["seconds"] >= 0


def test_what_was_told_to_stop_ends_the_task_with_75(tmp_path, stages):
    done, answers = stages
    _, arguments = make(tmp_path, [DENSE, "width=1/seed=0/dense_b"])
    answers[DENSE] = {"state": "stopped", "reason": "stopped by SIGUSR1"}
    assert main(*arguments) == 75
    assert done == [(DENSE, 0)]


def test_a_stage_without_what_it_needs_is_blocked_and_no_failure(tmp_path, stages):
    done, _ = stages
    _, arguments = make(tmp_path, [MATCH])
    assert main(*arguments) == 0
    assert done == []
    answer = read_answer(tmp_path / "study", MATCH)
    assert answer["state"] == "blocked"
    assert answer["reason"] == f"it needs {DENSE}, which is not complete"


def test_other_processes_train_along_and_leave_the_rest_to_the_first(tmp_path, stages, monkeypatch):
    done, _ = stages
    _, arguments = make(tmp_path, [DENSE, MATCH])
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert main(*arguments) == 0
    assert done == [(DENSE, 1)]
    assert read_answer(tmp_path / "study", DENSE) == {}  # the first writes what became of it


def test_two_processes_train_a_stage_together(tmp_path):
    """Where SLURM would start them: neither fails, whichever is first, and the stage is complete."""
    study, arguments = make(tmp_path, [DENSE], trainer=PAIR)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "rebasin_lt.study.task", *map(str, arguments)]
    processes = [
        subprocess.Popen(
            command, env={**os.environ, **common, **dict.fromkeys(("SLURM_PROCID", "RANK", "NODE_RANK"), str(rank))}
        )
        for rank in (0, 1)
    ]
    logs = [tmp_path / "study" / "logs" / f"{DENSE}{end}.log" for end in ("", ".rank1")]
    codes = [process.wait(timeout=120) for process in processes]
    assert codes == [0, 0], [log.read_text() for log in logs]
    assert State.of(plan(study), tmp_path / "study").done == {DENSE}
    assert read_answer(tmp_path / "study", DENSE)["state"] == "done"


def test_a_process_that_has_stopped_keeps_its_code_when_srun_ends_the_others(tmp_path):
    """SIGTERM comes while the interpreter ends, here held up at its very end."""
    _, arguments = make(tmp_path, [])
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, time\natexit.register(lambda: (print('ending', flush=True), time.sleep(2)))\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "rebasin_lt.study.task", *map(str, arguments)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ending\n"
    process.terminate()
    assert process.wait(timeout=30) == 0
    process.stdout.close()
