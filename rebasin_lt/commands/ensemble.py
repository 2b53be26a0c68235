"""`rebasin-lt ensemble`: an ensemble from one mask and N initialisations, beside what it competes with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rebasin_lt.commands.options import EnsembleOptions
from rebasin_lt.errors import InputError, check_least
from rebasin_lt.process.terminal_text import say
from rebasin_lt.report.analyses.diversity import show_diversity
from rebasin_lt.storage.run_folder import finished
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launch import complete_study
from rebasin_lt.study.launchers.launcher import Launcher


def train_ensembles(options: EnsembleOptions) -> None:
    """Train what is not given, as a study of its diversity alone, and print how the ensembles compare.

    `report` shows it too. An interrupted run goes on where it was.
    """
    members, dense, mask, recipe = options.members, options.dense, options.mask, options.recipe
    if dense and members not in {None, len(dense)}:
        raise InputError(f"--members is {members}, but --dense names {len(dense)} runs: leave out one of them")
    count = len(dense) if dense else 4 if members is None else members
    check_least("--members", count, 2)
    if mask and not options.dense_a:
        raise InputError(f"--mask {mask} needs --dense-a: the run of the dense network that it was pruned from")
    network = dict(recipe.network)
    width = network.pop("width", 1)
    targets = recipe.targets[-1:] if mask else recipe.targets
    given = {name: path for name, path in (("a", options.dense_a), ("mask", mask), ("b", dense)) if path}
    grid = Study(
        title="Ensembles from one mask",
        recipe=replace(recipe, network=network, targets=targets),
        seeds=list(range(count)),
        widths=[width],
        methods=(),
        diversity={"sparsities": [recipe.targets[-1]], "rewinds": [recipe.rewinds[-1]]},
        given=given or None,
    )
    folder = Path(options.out)
    state = complete_study(grid, folder, Launcher())
    *_, last = state.plan.values()  # what everything else is for
    result = finished(folder / last.path) or {}
    say(show_diversity(result, str(folder / "report")), end="")
