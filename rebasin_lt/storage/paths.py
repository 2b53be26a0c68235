"""Paths as users write them: read once, where settings come in, so that every part of a run means the same place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from rebasin_lt.errors import InputError

PATHS = frozenset({
    *("out", "dir", "default_root_dir", "dirpath", "save_dir", "root"),
    *("ckpt", "ckpt_a", "ckpt_b", "ckpt_path", "checkpoint", "dense_a", "init_a", "init_from", "rewind_from"),
    *("mask", "masks", "others", "permutation", "dense"),
    "other",  # in folders of earlier releases
})
"""The settings that are paths, in every command and configuration; so are texts in lists of these names."""


def expanded(path: str | os.PathLike[str], what: str = "path") -> str:
    """The place that `path` names: with `~` and `$NAME` replaced, without a `/` at its end or a `..` in it.

    Raises InputError, naming `what`, for a user or a variable that is not there: as it stands, it would be the name of
    a new folder.
    """
    given = os.fspath(path)
    if "://" in given:
        return given
    place = os.path.expanduser(os.path.expandvars(given))
    left = re.search(r"^~[^/]*|\$(\w+|\{\w+\})", place)
    if left and not os.path.lexists(place):
        raise InputError(f"{what} is {given!r}, but {left[0]} is not known here: set it, or write the path out")
    flat = os.path.normpath(place) if place else place
    if ".." in place.split("/") and os.path.realpath(flat) != os.path.realpath(place):
        return os.path.realpath(place)  # what lies above the place that a link leads to
    return flat


def with_paths_expanded(settings: Any) -> Any:
    """The settings, nested in any way, with every path among them `expanded`."""
    return _changed(settings, lambda name, path: expanded(path, name))


def with_paths_located(settings: Any) -> Any:
    """The settings with every path as the one place that it leads to: equal where only the spelling differs."""
    return _changed(settings, _location)


def _location(name: str, path: str) -> str:
    try:
        return os.path.realpath(expanded(path))
    except InputError:  # of a setting that lies in a file
        return path


def _changed(value: Any, change: Callable[[str, str], str], name: str = "") -> Any:
    if hasattr(value, "as_dict"):  # a parser's namespace, whose keys are dotted
        value = value.clone()
        for key, part in list(value.items()):
            value[key] = _changed(part, change, key.rpartition(".")[2])
        return value
    if isinstance(value, Mapping):
        return {key: _changed(part, change, key) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_changed(part, change, name) for part in value)
    return change(name, value) if name in PATHS and isinstance(value, str) else value
