"""What a task of a job array does with its stages, alone and as one of several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from rank_driver import pair

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.storage.run_folder import finish
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launchers import task
from rebasin_lt.study.launchers.task import do_task, read_answer
from rebasin_lt.study.plan import plan
from rebasin_lt.study.record import record
from rebasin_lt.study.state import State

RECIPE = Recipe(targets=(0.5,), fraction=0.5, rewinds=("1ep",), dense_epochs=2, epochs_per_round=1, sparse_epochs=1)
PAIR = {"num_nodes": 2, "devices": 1, "strategy": "ddp", "accelerator": "cpu"}
OTHER, PRUNED = "width=1/seed=0/dense_b", "width=1/seed=0/imp_a"
DENSE, MATCH = "width=1/seed=0/dense_a", "width=1/seed=0/match/permuted"


def make(tmp_path, stages, **recipe):
    """A claimed study, and a file with one task of `stages`."""
    study = Study("task", Recipe(**{**vars(RECIPE), **recipe}), seeds=[0], methods=["naive"])
    with claim_study(tmp_path / "study", study):
        pass
    (tmp_path / "tasks.json").write_text(json.dumps([[], stages]))
    return study, (tmp_path / "study", tmp_path / "tasks.json", 1)


def complete(folder, stage):
    """Lay down what makes a stage that needs nothing count as done."""
    for name in stage.outputs:
        (folder / stage.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / stage.path / name).touch()
    finish(folder / stage.path, {})
    record(folder, stage, {})


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
    others = [DENSE, OTHER]
    _, arguments = make(tmp_path, others)
    answers[DENSE] = {"state": "failed", "reason": "no disk"}
    assert do_task(*arguments) == 1
    assert done == [(path, 0) for path in others]
    answer = read_answer(tmp_path / "study", DENSE)
    assert {name: answer[name] for name in ("state", "reason")} == {"state": "failed", "reason": "no disk"}
    assert answer["seconds"] >= 0


def test_what_was_told_to_stop_ends_the_task_with_75(tmp_path, stages):
    done, answers = stages
    _, arguments = make(tmp_path, [DENSE, OTHER])
    answers[DENSE] = {"state": "stopped", "reason": "stopped by SIGUSR1"}
    assert do_task(*arguments) == 75
    assert done == [(DENSE, 0)]


def test_a_stage_without_what_it_needs_is_blocked_and_no_failure(tmp_path, stages):
    done, _ = stages
    _, arguments = make(tmp_path, [MATCH])
    assert do_task(*arguments) == 0
    assert done == []
    answer = read_answer(tmp_path / "study", MATCH)
    assert answer["state"] == "blocked"
    assert answer["reason"] == f"it needs {DENSE}, which is not complete"


@pytest.fixture
def team(monkeypatch):
    """Says which process of how many this is, without others: what the first has agreed on, for it or to be told."""
    told = []

    def make(rank, count, *decisions):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        monkeypatch.setattr(task, "_meet", lambda *_: count)
        decided = iter(decisions)
        monkeypatch.setattr(task, "agreed", lambda value: next(decided) if rank else told.append(value) or value)
        return told

    return make


def test_the_first_process_decides_and_does_what_is_no_training_alone(tmp_path, stages, team):
    done, _ = stages
    study, arguments = make(tmp_path, [DENSE, OTHER, MATCH])
    complete(tmp_path / "study", plan(study)[OTHER])
    told = team(0, 2)
    assert do_task(*arguments) == 0
    assert done == [(DENSE, 0)]
    assert told == [DENSE, 0]  # not what is done, nor what is blocked


def test_the_others_train_what_the_first_says_whatever_they_see(tmp_path, stages, team):
    done, _ = stages
    study, arguments = make(tmp_path, [DENSE, OTHER, MATCH])
    complete(tmp_path / "study", plan(study)[OTHER])
    team(1, 2, OTHER, DENSE, 75)
    assert do_task(*arguments) == 75
    assert done == [(OTHER, 1), (DENSE, 1)]
    assert read_answer(tmp_path / "study", DENSE) == {}  # the first writes what became of it


@pytest.mark.parametrize(
    ("rank", "state", "code"), [(0, "failed", 1), (1, "failed", 1), (0, "stopped", 75), (1, "stopped", 75)]
)
def test_several_processes_end_at_the_first_failure(tmp_path, stages, team, rank, state, code):
    done, answers = stages
    _, arguments = make(tmp_path, [DENSE, OTHER])
    told = team(rank, 2, DENSE, OTHER)
    answers[DENSE] = {"state": state, "reason": "no disk"}
    assert do_task(*arguments) == code
    assert done == [(DENSE, rank)]
    assert told == ([] if rank else [DENSE])


def test_processes_without_a_part_are_refused(tmp_path, stages, monkeypatch, capsys):
    done, _ = stages
    _, arguments = make(tmp_path, [DENSE])
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert do_task(*arguments) == 1
    assert done == []
    line = r"process 1 has no part in a recipe.trainer of 1 process\(es\): set devices, num_nodes"
    assert re.search(line, capsys.readouterr().err)


def test_processes_that_do_not_meet_are_a_failure_that_is_told(tmp_path, stages, monkeypatch):
    done, _ = stages
    _, arguments = make(tmp_path, [DENSE], trainer={**PAIR, "strategy": "nonsense"})
    assert do_task(*arguments) == 1
    assert done == []
    answer = read_answer(tmp_path / "study", DENSE)
    assert answer["state"] == "failed"
    assert answer["reason"].startswith("its processes did not meet: ")


def test_two_processes_train_a_stage_together_and_end_at_one_that_fails(tmp_path):
    """Where SLURM would start them: a stage is complete, whichever is first. Of the next, one cannot write its log.

    Neither then goes on to the stage after, and none of the two is recorded as done.
    """
    study, arguments = make(tmp_path, [DENSE, OTHER, PRUNED], trainer=PAIR)
    logs = [tmp_path / "study" / "logs" / f"{DENSE}{end}.log" for end in ("", ".rank1")]
    (tmp_path / "study" / "logs" / f"{OTHER}.rank1.log").mkdir(parents=True)
    processes = pair([sys.executable, "-m", "rebasin_lt.study.launchers.task", *map(str, arguments)])
    codes = [process.wait(timeout=300) for process in processes]
    assert State.of(plan(study), tmp_path / "study").done == {DENSE}, [log.read_text() for log in logs]
    assert read_answer(tmp_path / "study", DENSE)["state"] == "done"
    assert codes[1] == 1
    assert codes[0] != 0
    assert not (tmp_path / "study" / PRUNED).exists()
    assert [path.parent.name for path in (tmp_path / "study").rglob("result.json")] == ["dense_a"]


def test_a_process_that_has_stopped_keeps_its_code_when_srun_ends_the_others(tmp_path):
    """SIGTERM comes while the interpreter ends, here held up at its very end."""
    _, arguments = make(tmp_path, [])
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, time\natexit.register(lambda: (print('ending', flush=True), time.sleep(2)))\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "rebasin_lt.study.launchers.task", *map(str, arguments)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ending\n"
    process.terminate()
    assert process.wait(timeout=30) == 0
    process.stdout.close()
