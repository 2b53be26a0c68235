"""What the result of a stage says of the files that it was made from and wrote, and whether they are still those.

No file's time is looked at: a study that is copied, cloned or unpacked is as complete as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.storage.fingerprint import fingerprint, is_whole
from rebasin_lt.storage.run_folder import RESULT, finish, finished
from rebasin_lt.study.stage import Stage

_FILES, _MADE_FROM, _WROTE = "files", "made_from", "wrote"
_BACK = "put the right one there, or remove it to have it made again"


class Standing(Enum):
    """How a stage stands, by the files of its folder and of those that it was made from."""

    COMPLETE = "complete"
    UNSAID = "unsaid"
    """Everything is there, but its result does not say what it was made from: it is of an earlier release, or its
    process was killed in between. Whoever runs the stage compares contents, and records them."""
    INCOMPLETE = "incomplete"


class Fingerprints(dict[Path, str | None]):
    """Of files by their paths, each taken once."""

    def __missing__(self, path: Path) -> str | None:
        self[path] = found = fingerprint(path)
        return found


def standing(folder: Path, stage: Stage, seen: Fingerprints) -> Standing:
    """Whether all that `stage` leaves lies below the study's `folder` as it wrote it, and all it was made from as it
    was. Raises BrokenFileError for a result that cannot be read."""
    place = folder / stage.path
    result = finished(place)
    if result is None:
        return Standing.INCOMPLETE
    if _FILES not in result:
        return Standing.UNSAID if all(is_whole(place / name) for name in stage.outputs) else Standing.INCOMPLETE
    wrote, made_from = _said(result, _WROTE), _said(result, _MADE_FROM)
    here = all(_is(wrote.get(name), seen[place / name]) for name in stage.outputs)
    return Standing.COMPLETE if here and all(
        _is(made_from.get(name), seen[folder / name]) for name in stage.inputs
    ) else Standing.INCOMPLETE  # fmt: skip


def is_done(folder: Path, stage: Stage) -> bool:
    """Whether everything `stage` leaves lies below the study's `folder`, and its result names what it was made from.

    A stage that was made from other files is not run again: it compares contents, finds them equal or refuses, and only
    then counts as done. So a file that was replaced is noticed by the stages made from it.
    """
    return standing(folder, stage, Fingerprints()) is Standing.COMPLETE


def taken(folder: Path, stage: Stage) -> dict[str, str | None]:
    """What a stage is about to be made from: fingerprints by the paths of its inputs."""
    return {name: fingerprint(folder / name) for name in stage.inputs}


def record(folder: Path, stage: Stage, made_from: Mapping[str, str | None]) -> None:
    """Have the result of a stage that is complete say what it was made from, as `taken`, and what it wrote."""
    place = folder / stage.path
    result = finished(place)
    said = {_MADE_FROM: dict(made_from), _WROTE: {name: fingerprint(place / name) for name in stage.outputs}}
    if result is not None and result.get(_FILES) != said:
        finish(place, {**result, _FILES: said})


def check_outputs(folder: Path, stage: Stage) -> None:
    """Raise BrokenFileError for a file in the stage's folder that is not what the stage wrote there.

    One that is missing is made again; one that is there and another may be somebody's.
    """
    place = folder / stage.path
    result = finished(place)
    wrote = _said(result or {}, _WROTE)
    for name in stage.outputs:
        path = place / name
        found = fingerprint(path)
        if found is None or result is None:
            continue
        if found != wrote.get(name, found):
            raise BrokenFileError(f"{path} is not the file that {place / RESULT} speaks of: {_BACK}")
        if not is_whole(path):
            raise BrokenFileError(f"{path} is cut short: {_BACK}")


def _is(said: str | None, found: str | None) -> bool:
    return found is not None and said == found


def _said(result: Mapping[str, Any], what: str) -> dict[str, Any]:
    files = result.get(_FILES)
    named = files.get(what) if isinstance(files, dict) else None
    return named if isinstance(named, dict) else {}
