"""`rebasin-lt transplant`: a mask and its signs moved to new initialisations, each trained no further than needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rebasin_lt.commands.options import TransplantOptions
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.signed_methods import moments_of_b, read_method
from rebasin_lt.moment import END, Moment
from rebasin_lt.process.terminal_text import say
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.waypoints import target_of
from rebasin_lt.report.study.sections import worth_text, write_study_report
from rebasin_lt.settings.field_types import check_fields
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
    with _in_words_of_the_command():
        complete_study(grid, folder, launcher)
    outcome = read_outcome(folder)
    say(worth_text(outcome))
    say(f"report: {write_study_report(outcome, folder / 'report')[0]}")


def transplant_study(options: TransplantOptions) -> Study:
    """The study behind a transplant. Raises InputError for options that cannot be."""
    with _in_words_of_the_command():
        check_fields(options)
        recipe = options.recipe
        rewind = recipe.rewinds[-1] if options.rewind is None else options.rewind
        if len(options.seeds) < 2:
            raise InputError(f"seeds is {list(options.seeds)}, expected at least 2: an ensemble is what comes out")
        matchers = _matchers(options, rewind)
        early = END not in {moment for name in options.methods for moment in moments_of_b(name, rewind, matchers)}
        if early:
            _check_stops(options, rewind, matchers)
        network = dict(recipe.network)
        width = network.pop("width", 1)
        return Study(
            title="One mask, transplanted to new initialisations",
            recipe=replace(recipe, network=network, targets=(_target(options.mask),), rewinds=(rewind,)),
            seeds=list(options.seeds),
            widths=[width],
            methods=(),
            matchers=matchers,
            diversity={"methods": list(options.methods)},
            given={"a": options.ckpt_a, "mask": options.mask},
            early=early,
        )


def _target(path: str) -> float:
    """The sparsity of the mask, as a target of pruning. Raises InputError for one that removes nothing or all."""
    mask = Mask.load(path)
    if not 0 < mask.num_kept < mask.num_weights:
        raise InputError(
            f"--mask {path} keeps {mask.num_kept:,} of {mask.num_weights:,} weights, expected some of them"
        )
    return target_of(mask.num_weights - mask.num_kept, mask.num_weights)


def _matchers(options: TransplantOptions, rewind: str) -> dict[str, dict[str, Any]]:
    """Each with its moment of B. Raises InputError for one that is used where B has learnt nothing."""
    used = {read_method(name).base for name in options.methods}
    matchers: dict[str, dict[str, Any]] = {}
    for name, settings in options.matchers.items():
        if not isinstance(settings, Mapping):
            raise InputError(f"matchers.{name} is {settings!r}, expected settings such as {{preset: paper}}")
        matchers[name] = {"at": rewind, **settings}
        at = str(matchers[name]["at"])
        if name in used and Moment.is_one(at) and Moment.parse(at).count == 0:
            where = f"matchers.{name}.at" if "at" in settings else "--rewind"
            raise InputError(
                f"{where} is {at}, where B has learnt nothing to match: give matchers.{name} a later moment, `at`"
            )
    return matchers


def _check_stops(options: TransplantOptions, rewind: str, matchers: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InputError for moments at which B cannot stop, where no method needs B at its end."""
    used = {read_method(name).base for name in options.methods}
    for name, settings in matchers.items():
        if settings["at"] == END and name not in used:
            raise InputError(f"matchers.{name} matches at the end of B, but none of --methods uses it: leave it out")
    moments = {"--rewind": rewind, **{f"matchers.{name}.at": settings["at"] for name, settings in matchers.items()}}
    for name in options.methods:
        method = read_method(name)
        moments |= {f"the moment of {name} in --methods": method.moment} if method.weights == "b" else {}
    for where, at in moments.items():
        if Moment.is_one(at) and Moment.parse(at).unit == "it" and Moment.parse(at).count:
            raise InputError(f"{where} is {at}, which counts steps: B stops after whole epochs; give epochs, or 0it")


_WORDS = {
    **{"given.a": "--ckpt-a", "given.mask": "--mask", "diversity.methods": "--methods", "methods": "--methods"},
    **{"recipe.rewinds": "--rewind", "recipe.targets": "the sparsity of --mask", "seeds": "--seeds"},
    **{"widths": "recipe.network.width"},
}
"""Settings of the study behind a transplant, as the options of the command name them."""


@contextmanager
def _in_words_of_the_command() -> Iterator[None]:
    """Have an InputError speak of the command's options, which is what its user gave."""
    try:
        yield
    except InputError as error:
        names = "|".join(map(re.escape, _WORDS))
        whole = rf"(?<![\w./-])({names})(?![\w./-])"  # no part of a path
        raise InputError(re.sub(whole, lambda found: _WORDS[found[0]], str(error))) from error
