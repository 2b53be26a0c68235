"""A study from its folder: what is done, what is left, and doing it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_lt.errors import InputError, RebasinError
from rebasin_lt.process.progress_line import StatusTable
from rebasin_lt.process.terminal_text import say
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launchers.slurm_options import Slurm
from rebasin_lt.study.launchers.worker import log_file
from rebasin_lt.study.state import State
from rebasin_lt.study.status import status_lines

_LOG_LINES = 5


class StagesFailed(RebasinError):
    """Some stages of a study failed; the others are complete."""


@dataclass(frozen=True)
class Launcher:
    """Where stages run: `local` or `slurm`; how many `workers` here, and threads that each worker or task uses."""

    name: str = "local"
    workers: int | None = None
    workers_per_gpu: int = 1
    threads: int = 1
    slurm: Slurm = field(default_factory=Slurm)

    def __post_init__(self) -> None:
        for name in ("workers", "workers_per_gpu", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} is {value}, expected at least 1")

    def check(self) -> None:
        """Raise InputError where nothing can be launched from here."""
        if self.name == "slurm" and shutil.which("sbatch") is None:
            raise InputError(
                "--launcher is slurm, but there is no sbatch here: log in where jobs are submitted, or use local"
            )


def run_study(study: Study, folder: Path, state: State, launcher: Launcher) -> None:
    """Do what is left; the folder is claimed. Raises StagesFailed, naming the first, after everything else is done."""
    if len(state.done) == len(state.plan):
        return
    with StatusTable() as table:
        if launcher.name == "slurm":
            from rebasin_lt.study.launchers.slurm import run_slurm

            slurm = launcher.slurm
            count = slurm.max_running
            run_slurm(folder, state, slurm, launcher.threads, lambda now: table(status_lines(study.title, now, count)))
        else:
            from rebasin_lt.study.launchers.local import places, run_local

            found = places(launcher.workers, launcher.workers_per_gpu, launcher.threads)
            run_local(folder, state, found, lambda now: table(status_lines(study.title, now, len(found))))
    if len(state.done) < len(state.plan):
        raise StagesFailed(_failure(folder, state))


def _failure(folder: Path, state: State) -> str:
    """Print the last lines of the logs of what failed; one line that sums it up."""
    for path in state.failed:
        say(f"{path} failed; the last lines of {log_file(folder, path)}:", file=sys.stderr)
        say("".join(f"    {line}\n" for line in _last_lines(log_file(folder, path))), end="", file=sys.stderr)
    left = len(state.plan) - len(state.done)
    if not state.failed:
        return f"{left} of {len(state.plan)} stages are not complete: the same command runs them"
    first, reason = next(iter(state.failed.items()))
    waiting = f", {len(state.blocked)} wait for what failed" if state.blocked else ""
    return (
        f"{len(state.failed)} of {len(state.plan)} stages failed{waiting}; the first, {first}: {reason}; "
        "the same command runs what is missing"
    )


def _last_lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:  # it may be what failed
        return []
