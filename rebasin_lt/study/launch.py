"""A study from its folder: what is done, what is left, and doing it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rebasin_lt.errors import RebasinError
from rebasin_lt.process.terminal_text import say
from rebasin_lt.settings.choices import chosen
from rebasin_lt.study import launchers
from rebasin_lt.study.discovery import records_in
from rebasin_lt.study.folder import check_study_folder, claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launchers.launcher import Launcher, LauncherKind
from rebasin_lt.study.launchers.worker import log_file
from rebasin_lt.study.plan import plan
from rebasin_lt.study.progress import StudyProgress
from rebasin_lt.study.state import State

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

    Says how it goes. Raises InputError, before anything is written, for what cannot be, and StagesFailed, naming the
    first, after everything else is done.
    """
    check_study_folder(folder, study)
    state = State.of(plan(study), folder)
    is_complete = len(state.done) == len(state.plan)
    with StudyProgress(study.title, folder, state) as progress:
        if not is_complete:
            progress.checks()
            from rebasin_lt.study.checks import check_study  # seconds, which a complete study need not wait

            kind = launcher_kind(launcher.launcher)
            kind.check()
            check_study(study, kind.here, state.done, folder)
        with claim_study(folder, study):
            if not is_complete:
                run_study(folder, state, launcher, progress)
    if len(state.done) < len(state.plan):
        raise StagesFailed(_failure(folder, state))
    return state


def run_study(folder: Path, state: State, launcher: Launcher, progress: StudyProgress) -> None:
    """Do what is left, and tell how it goes; the folder is claimed."""
    kind = launcher_kind(launcher.launcher)
    count = kind.count(launcher)
    progress.runs(count, kind.name)
    kind.run(folder, state, launcher, lambda _: progress.show(count))


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
