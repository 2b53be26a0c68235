"""A task of a job array: `python -m rebasin_lt.study.task DIR TASKS.json INDEX` does the stages of one line.

Every process of the task comes here. Those that train together train; the first alone does the rest, and writes for
each stage what became of it. The exit code is 75 where it was told to stop before the end, 1 where a stage failed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rebasin_lt.errors import Preempted
from rebasin_lt.files import write_json
from rebasin_lt.host_memory import keep_freed_memory
from rebasin_lt.stop_request import stop_request
from rebasin_lt.study.folder import read_study
from rebasin_lt.study.plan import Stage, plan
from rebasin_lt.study.worker import do_stage, log_file

TRAINING = ("dense", "imp", "sparse")


def main(folder: Path, tasks: Path, index: int) -> int:
    """Do every stage of the task that is not done; returns the exit code."""
    keep_freed_memory()
    stages = plan(read_study(folder))
    rank, code = int(os.environ.get("SLURM_PROCID", "0")), 0
    with stop_request:
        for path in json.loads(tasks.read_text(encoding="utf-8"))[index]:
            stage = stages[path]
            if (rank and stage.kind not in TRAINING) or stage.is_done(folder):
                continue
            answer = _answer(folder, stages, stage, rank)
            if answer["state"] == "stopped" or stop_request.signal is not None:
                return Preempted.exit_code
            code = max(code, answer["state"] == "failed")
    return code


def _answer(folder: Path, stages: dict[str, Stage], stage: Stage, rank: int) -> dict[str, Any]:
    """Do a stage, and write what became of it, if what it needs is there."""
    began = time.monotonic()
    missing = [need for need in stage.needs if not stages[need].is_done(folder)]
    if missing:
        answer = {"state": "blocked", "reason": f"it needs {missing[0]}, which is not complete"}
    else:
        if rank == 0:
            write_json(answer_file(folder, stage.path), {"state": "running"})
        answer = do_stage(folder, stage.path, rank)
    if rank == 0:
        write_json(answer_file(folder, stage.path), {**answer, "seconds": round(time.monotonic() - began, 3)})
    return answer


def answer_file(folder: Path, path: str) -> Path:
    """Where it lies what became of a stage."""
    return log_file(folder, path).with_suffix(".json")


def read_answer(folder: Path, path: str) -> dict[str, Any]:
    """What became of a stage; empty where nothing says it."""
    try:
        answer = json.loads(answer_file(folder, path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


if __name__ == "__main__":
    # srun ends the others with it when the first of them has ended with 75: theirs must be that too
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
