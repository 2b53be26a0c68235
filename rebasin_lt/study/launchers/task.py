"""A task of a job array: `python -m rebasin_lt.study.launchers.task DIR TASKS.json INDEX` does the stages of one line.

Every process of the task comes here. The first alone decides what is to be done, does what is no training, and writes
for each stage what became of it; those that train together meet first, and train what it says. The exit code is 75
where the task was told to stop before the end, 1 where a stage failed. Alone, a process then goes on with the next
stage; of several, one may not know what became of the others, and the task ends.
"""

from __future__ import annotations

import sys

from rebasin_lt.process.stop_request import stop_request

if __name__ == "__main__":
    stop_request.hold()  # before the other imports, which take a while, and to the end of the process

import json
import os
import time
import traceback
from pathlib import Path
from typing import Any

from rebasin_lt.errors import InputError, Preempted
from rebasin_lt.process.host_memory import keep_freed_memory
from rebasin_lt.process.ranks import agreed
from rebasin_lt.storage.files import json_in, write_json
from rebasin_lt.study.folder import read_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launchers.worker import do_stage, log_file
from rebasin_lt.study.plan import KINDS, plan
from rebasin_lt.study.record import is_done
from rebasin_lt.study.stage import Stage


def do_task(folder: Path, tasks: Path, index: int) -> int:
    """Do every stage of the task that is not done; returns the exit code."""
    keep_freed_memory()
    study = read_study(folder)
    stages = plan(study)
    todo = [stages[path] for path in json.loads(tasks.read_text(encoding="utf-8"))[index]]
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    training = [stage for stage in todo if KINDS[stage.kind].trains]
    if rank and not training:
        return 0
    with stop_request:
        try:
            count = _meet(study, folder, rank) if training else 1
        except Exception as error:
            traceback.print_exc()
            if rank == 0:
                _tell(folder, training[0], {"state": "failed", "reason": f"its processes did not meet: {error}"})
            return 1
        return _follow(folder, rank) if rank else _lead(folder, stages, todo, count > 1)


def _meet(study: Study, folder: Path, rank: int) -> int:
    """Wait for the other processes of the task, if it trains on several; returns how many they are."""
    from rebasin_lt.lit._compat import join_ranks
    from rebasin_lt.lit.trainer import quiet_trainer

    count = join_ranks(quiet_trainer(folder, 1, **study.recipe.trainer))
    if rank >= count:
        raise InputError(
            f"process {rank} has no part in a recipe.trainer of {count} process(es): set devices, num_nodes"
        )
    return count


def _lead(folder: Path, stages: dict[str, Stage], todo: list[Stage], several: bool) -> int:
    """What the first process does: all that is not done, with the others where it trains."""
    code = 0
    for stage in todo:
        if is_done(folder, stage):
            continue
        answer = _answer(folder, stages, stage)
        if answer["state"] == "stopped":  # the others are, too
            return Preempted.exit_code
        if answer["state"] == "failed":
            code = 1
            if several:
                return code
        if stop_request.signal is not None:
            code = Preempted.exit_code
            break
    return agreed(code)


def _follow(folder: Path, rank: int) -> int:
    """What the others do: train what the first one says, until it says with which code the task ends."""
    while isinstance(decision := agreed(None), str):
        state = do_stage(folder, decision, rank)["state"]
        if state != "done":
            return Preempted.exit_code if state == "stopped" else 1
    return int(decision or 0)


def _answer(folder: Path, stages: dict[str, Stage], stage: Stage) -> dict[str, Any]:
    """Do a stage, and write what became of it, if what it needs is there."""
    began = time.monotonic()
    missing = [need for need in stage.needs if not is_done(folder, stages[need])]
    if missing:
        answer = {"state": "blocked", "reason": f"it needs {missing[0]}, which is not complete"}
    else:
        _tell(folder, stage, {"state": "running"})
        if KINDS[stage.kind].trains:
            agreed(stage.path)
        answer = do_stage(folder, stage.path, 0)
    _tell(folder, stage, {**answer, "seconds": round(time.monotonic() - began, 3)})
    return answer


def _tell(folder: Path, stage: Stage, answer: dict[str, Any]) -> None:
    write_json(answer_file(folder, stage.path), answer)


def answer_file(folder: Path, path: str) -> Path:
    """Where it lies what became of a stage."""
    return log_file(folder, path).with_suffix(".json")


def read_answer(folder: Path, path: str) -> dict[str, Any]:
    """What became of a stage; empty where nothing says it."""
    answer = json_in(answer_file(folder, path))
    return answer if isinstance(answer, dict) else {}


if __name__ == "__main__":
    code = do_task(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    stop_request.ignore()  # srun ends the others with SIGTERM when the first has ended with 75: theirs must be that too
    sys.exit(code)
