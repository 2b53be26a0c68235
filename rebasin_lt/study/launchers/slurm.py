"""The stages of a study as job arrays in SLURM, each array after those that hold what its stages need."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rebasin_lt.errors import InputError, Preempted, RebasinError
from rebasin_lt.process.stop_request import stop_request
from rebasin_lt.process.terminal_text import say
from rebasin_lt.storage.files import json_in, write_json, write_text
from rebasin_lt.study.launchers.launcher import Launcher, LauncherKind
from rebasin_lt.study.launchers.slurm_options import Slurm
from rebasin_lt.study.launchers.task import answer_file, read_answer
from rebasin_lt.study.launchers.worker import THREADS
from rebasin_lt.study.record import is_done
from rebasin_lt.study.stage import Stage
from rebasin_lt.study.state import State

JOBS = "jobs.json"
_SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}%{most}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
{options}
{threads}
{setup}
srun --kill-on-bad-exit=1 {python} -m rebasin_lt.study.launchers.task {folder} {tasks} "$SLURM_ARRAY_TASK_ID"
code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""


class SlurmError(RebasinError):
    """What SLURM's commands said when they refused."""


def _check() -> None:
    if shutil.which("sbatch") is None:
        raise InputError(
            "--launcher is slurm, but there is no sbatch here: log in where jobs are submitted, or use local"
        )


def run_slurm(folder: Path, state: State, launcher: Launcher, show: Callable[[State], None]) -> None:
    """Submit what is not complete, unless jobs of this study are in the queue already, and follow them to their end.

    Raises Preempted after SIGTERM or SIGUSR1, and KeyboardInterrupt; the jobs go on either way. Raises SlurmError for
    what sbatch refuses.
    """
    jobs = _recorded(folder)
    try:
        with stop_request:  # from here on: a signal that comes while jobs are sent is answered when all are
            if not _alive(jobs):
                jobs = _submit(folder, state, launcher.slurm, launcher.threads)
            _follow(folder, state, launcher.slurm, jobs, show)
    except KeyboardInterrupt:
        say(f"the jobs go on; the same command follows them, scancel {' '.join(jobs)} ends them", file=sys.stderr)
        raise


SLURM = LauncherKind("slurm", run_slurm, count=lambda launcher: launcher.slurm.max_running, check=_check)


def _submit(folder: Path, state: State, slurm: Slurm, threads: int) -> list[str]:
    """Arrays of stages of one kind that can run side by side; returns the ids of their jobs."""
    place = folder / "slurm"
    place.mkdir(exist_ok=True)
    job_of: dict[str, str] = {}
    jobs: list[str] = []
    for path in state.plan:
        answer_file(folder, path).unlink(missing_ok=True)  # of an earlier run
    for name, stages in _arrays(state):
        paths, size = [stage.path for stage in stages], slurm.stages_per_task
        tasks = [paths[start : start + size] for start in range(0, len(paths), size)]
        write_json(place / f"{name}.json", tasks)
        script = place / f"{name}.sbatch"
        write_text(script, _script(folder, name, len(tasks), slurm, threads))
        before = sorted({job_of[need] for stage in stages for need in stage.needs if need in job_of})
        after = [f"--dependency=afterany:{':'.join(before)}"] if before else []
        job = _call("sbatch", "--parsable", *after, str(script)).strip().partition(";")[0]
        job_of |= {stage.path: job for stage in stages}
        jobs.append(job)
        write_json(place / JOBS, jobs)  # after each: whoever is interrupted here must find the others
    return jobs


def _arrays(state: State) -> Iterator[tuple[str, list[Stage]]]:
    """The stages that are not done, by how many lie below them and kind."""
    depth: dict[str, int] = {}
    arrays: dict[tuple[int, str], list[Stage]] = {}
    for path, stage in state.plan.items():
        if path not in state.done:
            depth[path] = max((depth[need] + 1 for need in stage.needs if need in depth), default=0)
            arrays.setdefault((depth[path], stage.kind), []).append(stage)
    for (level, kind), stages in sorted(arrays.items(), key=lambda item: item[0]):
        yield f"{level}-{kind}", stages


def _script(folder: Path, name: str, count: int, slurm: Slurm, threads: int) -> str:
    place = folder.resolve() / "slurm"
    return _SCRIPT.format(
        name=f"{folder.resolve().name}-{name}",
        last=count - 1,
        most=slurm.max_running,
        log=f"{place}/%x-%A_%a.log",
        options="\n".join(f"#SBATCH {option}" for option in slurm.options),
        threads="\n".join(f"export {name}={threads}" for name in THREADS),
        setup=slurm.setup,
        python=shlex.quote(sys.executable),
        folder=shlex.quote(str(folder.resolve())),
        tasks=shlex.quote(str(place / f"{name}.json")),
    )


def _follow(folder: Path, state: State, slurm: Slurm, jobs: list[str], show: Callable[[State], None]) -> None:
    while True:
        alive = _alive(jobs)
        _look(folder, state)
        if not alive:
            _give_up(folder, state)
        show(state)
        if not alive:
            return
        end = time.monotonic() + slurm.poll_seconds
        while time.monotonic() < end:
            if stop_request.signal is not None:
                raise Preempted(f"stopped by {stop_request.signal}; the jobs go on, the same command follows them")
            time.sleep(min(0.5, slurm.poll_seconds))


def _look(folder: Path, state: State) -> None:
    """What the tasks have left in the folder."""
    for path, stage in state.plan.items():
        answer = read_answer(folder, path)
        if path not in state.done and state.done.issuperset(stage.needs) and is_done(folder, stage):
            state.done.add(path)
            state.seconds[path] = answer.get("seconds", 0.0)
        elif path not in state.done and answer.get("state") == "failed":
            state.failed[path] = answer["reason"]
        is_running = answer.get("state") == "running" and path not in state.done
        if is_running:
            state.running.setdefault(path, time.monotonic())
        else:
            state.running.pop(path, None)


def _give_up(folder: Path, state: State) -> None:
    """No job is left: what was begun and has no end has failed."""
    for path in state.running:
        state.failed[path] = (
            f"its job ended in the middle of it, as when it is cancelled or memory runs out: see {folder / 'slurm'}"
        )
    state.running.clear()


def _recorded(folder: Path) -> list[str]:
    """Jobs of this study that were submitted before."""
    jobs = json_in(folder / "slurm" / JOBS)
    return [job for job in jobs if isinstance(job, str) and job.isdigit()] if isinstance(jobs, list) else []


def _alive(jobs: list[str]) -> bool:
    """Whether any of them waits or runs."""
    if not jobs:
        return False
    return not set(_call("squeue", "--noheader", "--format=%A %F").split()).isdisjoint(jobs)


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SlurmError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
