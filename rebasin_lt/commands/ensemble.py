"""`rebasin-lt ensemble`: an ensemble from one mask and N initialisations, beside what it competes with."""

from __future__ import annotations

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.process.terminal_text import say

_RECIPE = Recipe(targets=(0.95,))


def ensemble(
    out: str,
    members: int | None = None,
    dense_a: str | None = None,
    mask: str | None = None,
    dense: list[str] | None = None,
    recipe: Recipe = _RECIPE,
) -> None:
    """Train an ensemble under one mask aligned to N initialisations, and dense, IMP, LTH and naive ones beside it.

    What is not given is trained by the recipe, whose default is a demonstration on digits. The masks have the last of
    the recipe's targets as sparsity. An interrupted run goes on where it was.

    Args:
        out: folder for all runs and results
        members: networks in each ensemble; 4, or as many as --dense names
        dense_a: run of the trained dense network A, with its rewind checkpoint
        mask: mask file pruned from A
        dense: runs of trained dense networks B_1 … B_N, with their rewind checkpoints
        recipe: what is trained, and for how long
    """
    from pathlib import Path

    import torch

    from rebasin_lt.errors import InputError
    from rebasin_lt.process.progress_line import ProgressLine
    from rebasin_lt.report.analyses.diversity import diversity_table, write_diversity
    from rebasin_lt.study.ensemble import Ensembles, run_ensembles

    if dense and members not in {None, len(dense)}:
        raise InputError(f"--members is {members}, but --dense names {len(dense)} runs: leave out one of them")
    if recipe.network.get("arch") == "mlp":
        torch.set_num_threads(1)  # networks this small only wait for each other's threads
    settings = Ensembles(
        out=Path(out),
        recipe=recipe,
        members=len(dense) if dense else 4 if members is None else members,
        dense_a=Path(dense_a) if dense_a else None,
        mask=Path(mask) if mask else None,
        dense=tuple(map(Path, dense or ())),
    )
    with ProgressLine("ensemble") as progress:
        result = run_ensembles(settings, progress)
    say(diversity_table(result).to_text())
    for path in write_diversity(result, out):
        say(path)
