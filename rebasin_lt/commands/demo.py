"""`rebasin-lt demo`: the paper's whole experiment on real digits, offline, on a CPU."""

from __future__ import annotations


def demo(out: str = "demo", seeds: int = 3) -> None:
    """Run the whole experiment on real digits in a minute or two, and write a report.

    Trains A and B, prunes A, matches A to B, and trains sparse under A's mask from A (LTH), from B (naive), under the
    permuted mask from B (permuted), and under two controls. An interrupted demo goes on where it was.

    Args:
        out: folder for the runs and report.html
        seeds: paired repetitions
    """
    from pathlib import Path

    import torch

    from rebasin_lt.errors import InputError
    from rebasin_lt.report.experiment import write_report
    from rebasin_lt.report.tables import experiment_table
    from rebasin_lt.run_folder import claim_folder
    from rebasin_lt.study.experiment import run_experiment
    from rebasin_lt.study.recipe import Recipe

    if seeds < 1:
        raise InputError(f"--seeds is {seeds}, expected at least 1")
    torch.set_num_threads(1)  # networks this small only wait for each other's threads
    folder, recipe = Path(out), Recipe()
    with claim_folder(folder, {"command": "demo", "seeds": seeds}):
        outcome = run_experiment(folder / "runs", recipe, seeds)
        print(experiment_table(outcome.records, outcome.dense).to_text(), end="")
        print(f"report: {write_report(folder, recipe, outcome)}")
