"""`rebasin-lt demo`: the paper's whole experiment on real digits, offline, on a CPU."""

from __future__ import annotations

from pathlib import Path

from rebasin_lt.commands.options import DemoOptions
from rebasin_lt.errors import check_least
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.process.terminal_text import say
from rebasin_lt.report.study.sections import accuracies, summary, write_study_report
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launch import complete_study
from rebasin_lt.study.launchers.launcher import Launcher
from rebasin_lt.study.outcome import read_outcome


def demo(options: DemoOptions) -> None:
    """Train A and B, prune A, match A to B, train sparse under A's mask and others, and write the report.

    LTH is A's mask on A, naive the same on B, permuted the permuted one on B, with and without the signs of A's ticket;
    the others are controls. An interrupted demo goes on where it was.
    """
    check_least("--num-seeds", options.num_seeds, 1)
    grid = Study(
        title="Sparse masks on digits, aligned by weight symmetry",
        recipe=Recipe(),
        seeds=tuple(range(options.num_seeds)),
        methods=("lth", "permuted", "permuted+mask", "naive", "b_magnitude", "random_permutation", "shuffled"),
        barrier={"num_alphas": 11, "corrections": ["none", "repair"], "splits": ["test"]},
    )
    folder = Path(options.out)
    complete_study(grid, folder, Launcher())
    outcome = read_outcome(folder)
    say(accuracies(outcome))
    say(summary(outcome))
    say(f"report: {write_study_report(outcome, folder / 'report')[0]}")
