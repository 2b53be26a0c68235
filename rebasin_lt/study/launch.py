"""A study from its folder: what is done, what is left, and doing it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rebasin_lt.errors import RebasinError
from rebasin_lt.process.progress_line import StatusTable
from rebasin_lt.process.terminal_text import say
from rebasin_lt.settings.choices import chosen
from rebasin_lt.study import launchers
from rebasin_lt.study.discovery import records_in
from rebasin_lt.study.folder import check_study_folder, claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launchers.launcher import Launcher, LauncherKind
from rebasin_lt.study.launchers.worker import log_file
from rebasin_lt.study.plan import plan
from rebasin_lt.study.state import State
from rebasin_lt.study.status import status_lines

_LOG_LINES = 5


class StagesFailed(RebasinError):
    """Some stages of a study failed; the others are complete."""


LAUNCHERS: Mapping[str, LauncherKind] = records_in(launchers, LauncherKind)
"""Ways to run stages, by name."""


def launcher_kind(name: str) -> LauncherKind:
    """The record of a launcher. Raises InputError for a name that is not known."""
    return chosen("--launcher", name, LAUNCHERS)


def complete_study(study: Study, folder: Path, launcher: Launcher) -> State:
    """Check a study and its folder, claim it, and do what is missing; returns how it stands then.

    Raises InputError, before anything is written, for what cannot be; and as `run_study`.
    """
    check_study_folder(folder, study)
    state = State.of(plan(study), folder)
    if len(state.done) < len(state.plan):
        from rebasin_lt.study.checks import check_study  # seconds, which a complete study need not wait

        kind = launcher_kind(launcher.launcher)
        kind.check()
        check_study(study, kind.here, state.done, folder)
    with claim_study(folder, study):
        run_study(study, folder, state, launcher)
    return state


def run_study(study: Study, folder: Path, state: State, launcher: Launcher) -> None:
    """Do what is left; the folder is claimed. Raises StagesFailed, naming the first, after everything else is done."""
    if len(state.done) == len(state.plan):
        return
    kind = launcher_kind(launcher.launcher)
    count = kind.count(launcher)
    with StatusTable() as table:
        kind.run(folder, state, launcher, lambda now: table(status_lines(study.title, now, count)))
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
