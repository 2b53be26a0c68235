"""The folder of a study: which study lies there, and whether it may go on as another one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from rebasin_lt.errors import BrokenFileError, InputError, RebasinError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.storage.files import write_text
from rebasin_lt.storage.folder_lock import FolderLock
from rebasin_lt.storage.run_folder import CONFIG, check_folder, claim_folder, read_config
from rebasin_lt.study.cells import CELL_AXES
from rebasin_lt.study.grid import GROWS, Study
from rebasin_lt.study.kinds.given import check_same_sources

_WRITTEN = ("logs", "slurm", "report")
"""What a study writes in its folder itself; its stages look after their own."""


def claim_study(folder: Path, study: Study) -> FolderLock:
    """Lock the folder for this study, and write which it is; one that lies there may have fewer values on its axes.

    Raises InputError where another study lies there, with both values, or another process works on it.
    """
    but = check_study_folder(folder, study)
    lock = claim_folder(folder, study.primitives(), but=but, parts=_WRITTEN)
    text = yaml.safe_dump(json.loads(json.dumps(study.primitives())), sort_keys=False)
    if (folder / CONFIG).read_text(encoding="utf-8") != text:
        write_text(folder / CONFIG, text)
    return lock


def check_study_folder(folder: Path, study: Study) -> list[str]:
    """The flat names of what may differ there; write nothing.

    Raises InputError where the folder holds another study, or one that has more on an axis.
    """
    there = read_study(folder) if (folder / CONFIG).exists() else None
    but = [*_growing(study), *([] if there is None else _growing(there))]
    check_folder(folder, study.primitives(), but, _WRITTEN)
    if there is None:
        return but
    for difference in _differences(there, study):
        raise InputError(f"output folder {folder} holds another study: {difference}")
    if study.given != there.given:  # what it took may lie elsewhere by now
        check_same_sources(study, folder)
    return but


def _differences(there: Study, here: Study) -> Iterator[str]:
    """Why the study that lies in a folder cannot go on as the one that is asked for, and what to do."""
    for name, before, now in (("given", there.given or {}, here.given or {}), ("axes", there.axes, here.axes)):
        if set(before) != set(now):
            names, others = (", ".join(each) or "none" for each in (before, now))
            yield f"{name} are {names} there and {others} here; choose another folder"
    for axis, (values, wanted) in _axes_of_both(there, here).items():
        for value in values:
            if value not in wanted:
                yield f"{axis} has {value} there and not here; add to it, or choose another folder"
    kept = set(here.cells)
    if lost := [cell for cell in there.cells if cell not in kept]:
        yield f"only leaves out {lost[0]}, which is trained there; add it, or choose another folder"
    for name, settings in there.matchers.items():
        if dict(settings) != dict(here.matchers[name]):
            yield (
                f"matchers.{name} is {dict(settings)} there and {dict(here.matchers[name])} here; choose another name, "
                "or another folder"
            )
    if here.diversity is not None and there.seeds[0] != here.seeds[0]:
        yield (
            f"diversity takes its mask from the first of seeds, which is {there.seeds[0]} there and {here.seeds[0]} "
            "here; add seeds behind it, or choose another folder"
        )
    if there.kept_moments != here.kept_moments:
        yield (
            f"its dense networks were kept at {', '.join(there.kept_moments)}, this one wants "
            f"{', '.join(here.kept_moments)}; choose another folder"
        )


def read_study(folder: Path) -> Study:
    """The study that lies in a folder. Raises InputError if there is none, BrokenFileError if it cannot be read."""
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} holds no study: there is no {CONFIG} in it")
    config = read_config(path)
    if "members" in config and "methods" not in config:
        raise InputError(
            f"{folder} holds ensembles of an earlier release, whose `ensemble` was no study: `diversity` measures its "
            "networks, new ones need another folder"
        )
    for name in ("recipe", "methods"):
        if name not in config:
            raise InputError(f"{folder} holds a run that is no study: its {CONFIG} has no {name}")
    return study_of(config, str(path))


def study_of(config: Mapping[str, Any], where: str) -> Study:
    """A study from plain settings. Raises BrokenFileError, naming `where`, for what cannot be one."""
    try:
        recipe: dict[str, Any] = dict(config["recipe"])
        recipe |= {name: tuple(value) for name, value in recipe.items() if isinstance(value, list)}
        return Study(**{**config, "recipe": Recipe(**recipe)})
    except RebasinError:
        raise
    except (TypeError, AttributeError, ValueError) as error:
        raise BrokenFileError(f"{where} holds no study: {error}") from error


def _axes_of_both(there: Study, here: Study) -> dict[str, tuple[Any, Any]]:
    """The values there and here by the name of each axis that may grow."""
    known = {name: (getattr(there, name), getattr(here, name)) for name in GROWS}
    return known | {f"axes.{name}": (values, here.axes[name]) for name, values in there.axes.items()}


def _growing(study: Study) -> list[str]:
    """The flat names of what may differ between a study and the one that grew from it."""
    matchers = [f"matchers.{name}.{key}" for name, settings in study.matchers.items() for key in settings]
    given = [f"given.{name}" for name in study.given or ()]
    only = [f"only.{name}" for name in study.only]
    only += [f"only.{name}.{axis}" for name in study.only for axis in CELL_AXES]
    return [*GROWS, *matchers, *only, *(f"axes.{name}" for name in study.axes), *given]
