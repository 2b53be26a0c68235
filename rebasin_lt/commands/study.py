"""`rebasin-lt study`: a whole grid of sparse runs and what they need, each stage once, resumable."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from rebasin_lt.commands.options import StudyRun
from rebasin_lt.errors import InputError
from rebasin_lt.process.terminal_text import say
from rebasin_lt.study.folder import check_study_folder
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launch import complete_study, launcher_kind
from rebasin_lt.study.launchers.launcher import Launcher
from rebasin_lt.study.plan import plan
from rebasin_lt.study.state import State


def do_study(options: StudyRun, grid: Study, launcher: Launcher) -> None:
    """Do what is left of a study, or print what that is; every stage once, however many cells share it.

    An interrupted study goes on where it was. A stage that fails stops only what needs it.
    """
    launcher_kind(launcher.launcher)
    folder = Path(options.out)
    try:
        check_study_folder(folder, grid)
    except InputError:
        from rebasin_lt.study.checks import check_names_and_types  # seconds, which a complete study need not wait

        check_names_and_types(grid)  # a misspelt setting makes no other study
        raise
    if options.dry_run:
        _print_plan(grid, State.of(plan(grid), folder, unsaid=True), options)
        return
    state = complete_study(grid, folder, launcher)
    say(
        f"{len(state.plan)} of {len(state.plan)} stages are complete; rebasin-lt report {quote(str(folder))} shows them"
    )


def _print_plan(grid: Study, state: State, options: StudyRun) -> None:
    """The stages, what is done, and the ledger."""
    from rebasin_lt.report.study.ledger import ledger_table
    from rebasin_lt.study import ledger
    from rebasin_lt.study.quick_checks import check_analyses, check_network_name, is_surely_right

    if is_surely_right(grid):
        check_analyses(grid)
    else:
        from rebasin_lt.study.checks import check_names_and_types  # imports torch

        check_names_and_types(grid)
    if len(state.done) < len(state.plan):
        check_network_name(grid)
    for path, stage in state.plan.items():
        epochs = f"{stage.epochs} epochs" if stage.epochs else ""
        say(f"{'done' if path in state.done else 'to do':<6} {epochs:>11}  {path}")
    given = ledger.seconds_of(grid, options.images_per_second)
    seconds = given or (ledger.probe(grid) if options.probe else None)
    rows = ledger.ledger(state.plan, state.done, ledger.images_per_epoch(grid), seconds)
    say(f"\n{ledger_table(rows).to_text()}", end="")
