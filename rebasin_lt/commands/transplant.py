"""`rebasin-lt transplant`: a mask and its signs moved to new initialisations, each trained no further than needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rebasin_lt.commands.options import TransplantOptions
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.signed_methods import moments_of_b
from rebasin_lt.moment import END, Moment
from rebasin_lt.process.terminal_text import say
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.study.sections import worth_text, write_study_report
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launch import complete_study
from rebasin_lt.study.launchers.launcher import Launcher
from rebasin_lt.study.outcome import read_outcome


def transplant(options: TransplantOptions, launcher: Launcher) -> None:
    """Train each initialisation to the rewind moment, match there, move mask and signs, train sparse, and test.

    It is a study of its ensembles alone, with A and its mask given; `report` shows it too. An interrupted run goes on
    where it was. Where nothing that is compared needs more of B, B is trained no further (`early`).
    """
    grid = transplant_study(options)
    folder = Path(options.out)
    complete_study(grid, folder, launcher)
    outcome = read_outcome(folder)
    say(worth_text(outcome))
    say(f"report: {write_study_report(outcome, folder / 'report')[0]}")


def transplant_study(options: TransplantOptions) -> Study:
    """The study behind a transplant. Raises InputError for options that cannot be."""
    recipe = options.recipe
    rewind = recipe.rewinds[-1] if options.rewind is None else options.rewind
    if len(options.seeds) < 2:
        raise InputError(f"--seeds is {list(options.seeds)}, expected at least 2: an ensemble is what comes out")
    matchers = {name: {"at": rewind, **settings} for name, settings in options.matchers.items()}
    for name, settings in matchers.items():
        if settings["at"] == rewind and Moment.parse(rewind).count == 0:
            raise InputError(
                f"--rewind is {rewind}, where B has learnt nothing to match: give matchers.{name} a later moment, `at`"
            )
    needed = {moment for name in options.methods for moment in moments_of_b(name, rewind, matchers)}
    network = dict(recipe.network)
    width = network.pop("width", 1)
    sparsity = round(Mask.load(options.mask).sparsity, 3)  # a target, near which masks may be
    return Study(
        title="One mask, transplanted to new initialisations",
        recipe=replace(recipe, network=network, targets=(sparsity,), rewinds=(rewind,)),
        seeds=list(options.seeds),
        widths=[width],
        methods=(),
        matchers=matchers,
        diversity={"methods": list(options.methods)},
        given={"a": options.ckpt_a, "mask": options.mask},
        early=END not in needed,
    )
