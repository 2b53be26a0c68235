"""`rebasin-lt demo`: the paper's whole experiment on real digits, offline, on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rebasin_lt.process.terminal_text import say

if TYPE_CHECKING:
    from pathlib import Path


def demo(out: str = "demo", seeds: int = 3) -> None:
    """Run the whole experiment on real digits in a minute or two, and write a report: a small study.

    Trains A and B, prunes A, matches A to B, and trains sparse under A's mask from A (LTH), from B (naive), under the
    permuted mask from B (permuted), and under three controls. An interrupted demo goes on where it was.

    Args:
        out: folder for the runs and the report
        seeds: paired repetitions
    """
    from pathlib import Path

    from rebasin_lt.errors import InputError
    from rebasin_lt.experiment.recipe import Recipe
    from rebasin_lt.study.folder import check_study_folder
    from rebasin_lt.study.grid import Study
    from rebasin_lt.study.launch import complete_study
    from rebasin_lt.study.launchers.record import Launcher

    if seeds < 1:
        raise InputError(f"--seeds is {seeds}, expected at least 1")
    grid = Study(
        title="Sparse masks on digits, aligned by weight symmetry",
        recipe=Recipe(),
        seeds=tuple(range(seeds)),
        methods=("lth", "permuted", "naive", "b_magnitude", "random_permutation", "shuffled"),
        barrier={"num_alphas": 11, "corrections": ["none", "repair"], "splits": ["test"]},
    )
    folder = Path(out)
    check_study_folder(folder, grid)
    complete_study(grid, folder, Launcher())
    _show(folder)


def _show(folder: Path) -> None:
    """Print what the report says, and write it."""
    from rebasin_lt.report.study.sections import accuracies, summary, write_study_report
    from rebasin_lt.study.outcome import collect

    outcome = collect(folder)
    say(accuracies(outcome))
    say(summary(outcome))
    say(f"report: {write_study_report(outcome, folder / 'report')[0]}")
