"""The image files of class folders, and the class of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rebasin_lt.errors import InputError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def class_names(folder: Path) -> list[str]:
    """The class folders of `folder`, sorted. Raises InputError where there is none."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if not names:
        raise InputError(f"root: no class folders in {folder}: set root to the folder that holds it")
    return names


def image_files(folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """Paths below the class folders of `folder`, each with the index of its class, in torchvision's order.

    Links are followed. Raises InputError for a class without images, and for a link to a folder that holds it, below
    which every image would lie again and again, or those of other classes.
    """
    found: list[tuple[str, int]] = []
    above = (os.path.realpath(folder),)
    for label, name in enumerate(classes):
        below = sorted(_walk(os.path.join(folder, name), above))
        images = [os.path.join(place, file) for place, files in below for file in sorted(files)]
        if not images:
            raise InputError(
                f"root has {folder}, but no image in its class folder {name}: files end in {', '.join(_SUFFIXES)}"
            )
        found += [(path, label) for path in images]
    return found


def _walk(folder: str, above: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Folders with their image files. `above` are the real paths of the folders that hold this one."""
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"root has {folder}, a link to a folder that holds it: remove it")
    images: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(entry.path, (*above, real))
            elif entry.name.lower().endswith(_SUFFIXES):
                images.append(entry.name)
    yield folder, images
