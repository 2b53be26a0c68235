"""Symbolic links in a folder that is written: what is written into a folder stays in it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from rebasin_lt.errors import InputError

_OF_WANDB = re.compile(r"/wandb/(?:offline-)?run-[^/]+/logs/debug-core\.log$")
"""The link to a log of its own that W&B leaves in the folder of each start. Nothing is written through it."""


def check_links(folder: Path | str, parts: Collection[str] = ("",)) -> None:
    """Raise InputError for a symbolic link below `folder`, in those `parts` of it, that leads out of it.

    The folder itself may be reached through links: where it lies is the user's choice. What lies in it may be a
    stranger's, and to write through its links would be to write where the stranger chose. W&B's own may be there.
    """
    for part in parts:
        start = os.path.join(folder, part) if part else os.path.realpath(folder)
        for link in _links(start):
            _check(folder, link)


def check_inside(folder: Path | str, path: str) -> None:
    """Raise InputError where a symbolic link on the way from `folder` to `path` in it leads out of it."""
    place = Path(folder)
    for part in Path(path).parts:
        place /= part
        if place.is_symlink():
            _check(folder, str(place))


def _check(folder: Path | str, link: str) -> None:
    root, target = os.path.realpath(folder), os.path.realpath(link)
    if os.path.commonpath([root, target]) != root:
        raise InputError(
            f"output folder {folder} holds a link that leads out of it, {_name(folder, link)} to {target}: "
            "remove the link, or choose another folder"
        )


def _name(folder: Path | str, link: str) -> str:
    """The link's path in the folder."""
    at = os.path.join(os.path.realpath(os.path.dirname(link)), os.path.basename(link))
    return os.path.relpath(at, os.path.realpath(folder))


def _links(path: str) -> Iterator[str]:
    if os.path.islink(path):
        yield path
    elif os.path.isdir(path):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    if _OF_WANDB.search(entry.path) is None:
                        yield entry.path
                elif entry.is_dir():
                    yield from _links(entry.path)
