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

    It is a study of its diversity alone, which `report` shows too. What is not given is trained by the recipe, whose
    default is a demonstration on digits. The masks have the last of the recipe's targets as sparsity. An interrupted
    run goes on where it was.

    Args:
        out: folder for all runs and results
        members: networks in each ensemble; 4, or as many as --dense names
        dense_a: run of the trained dense network A, with its rewind checkpoint
        mask: mask file pruned from A
        dense: runs of trained dense networks B_1 … B_N, with their rewind checkpoints
        recipe: what is trained, and for how long
    """
    from dataclasses import replace
    from pathlib import Path

    from rebasin_lt.errors import InputError
    from rebasin_lt.report.analyses.diversity import diversity_table, write_diversity
    from rebasin_lt.storage.run_folder import finished
    from rebasin_lt.study.folder import check_study_folder
    from rebasin_lt.study.grid import Study
    from rebasin_lt.study.launch import complete_study
    from rebasin_lt.study.launchers.record import Launcher

    if dense and members not in {None, len(dense)}:
        raise InputError(f"--members is {members}, but --dense names {len(dense)} runs: leave out one of them")
    count = len(dense) if dense else 4 if members is None else members
    if count < 2:
        raise InputError(f"--members is {count}, expected at least 2")
    if mask and not dense_a:
        raise InputError(f"--mask {mask} needs --dense-a: the run of the dense network that it was pruned from")
    network = dict(recipe.network)
    width = network.pop("width", 1)
    targets = recipe.targets[-1:] if mask else recipe.targets
    given = {name: path for name, path in (("a", dense_a), ("mask", mask), ("b", dense)) if path}
    grid = Study(
        title="Ensembles from one mask",
        recipe=replace(recipe, network=network, targets=targets),
        seeds=list(range(count)),
        widths=[width],
        methods=(),
        diversity={"sparsities": [recipe.targets[-1]], "rewinds": [recipe.rewinds[-1]]},
        given=given or None,
    )
    folder = Path(out)
    check_study_folder(folder, grid)
    state = complete_study(grid, folder, Launcher())
    *_, last = state.plan.values()  # what everything else is for
    result = finished(folder / last.path) or {}
    say(diversity_table(result).to_text())
    for path in write_diversity(result, folder / "report"):
        say(path)
