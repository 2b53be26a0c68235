"""The configuration files that come with the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from rebasin_lt.errors import InputError
from rebasin_lt.storage.paths import expanded
from rebasin_lt.storage.strict_yaml import read_settings

_PLACES = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")  # in the wheel; in a checkout


def find_config(name: str) -> str:
    """`name` where such a file exists, else the shipped file of that name.

    Raises InputError if there is neither.
    """
    name = expanded(name, "--config")
    if Path(name).exists():
        return name
    for folder in _PLACES:
        if (folder / name).is_file():
            return str(folder / name)
    known = {Path(path).stem: path for path in reversed(shipped())}
    close = get_close_matches(Path(name).stem, known, n=1, cutoff=0.75)
    folders = ", ".join(dict.fromkeys(str(Path(path).parent / "*.yaml") for path in shipped() if "/" in path))
    names = ", ".join(path for path in shipped() if "/" not in path)
    hint = f" (did you mean {known[close[0]]}?)" if close else f"; shipped are {names}, {folders}"
    raise InputError(f"--config {name}: no such file here, and none is shipped{hint}")


def shipped() -> list[str]:
    """Names of the shipped files, as `--config` takes them."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml")) if folder else []


def with_configs_found(
    arguments: Sequence[str], spelled: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda settings: settings
) -> list[str]:
    """The arguments with every value of `-c` and `--config` replaced by the path where it lies.

    Where `spelled` changes the settings in the file, by these in its place, which a parser reads as it reads a file.
    Raises InputError as `find_config`, and for a file that is no YAML mapping or has a key twice.
    """

    def found(name: str) -> str:
        path = find_config(name)
        settings = read_settings(path, f"--config {name}", InputError)
        as_read = spelled(settings)
        return path if as_read == settings else yaml.safe_dump(as_read, sort_keys=False)

    result = list(arguments)
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in {"-c", "--config"} and equals:
            result[index] = f"{name}={found(value)}"
        elif name in {"-c", "--config"} and index + 1 < len(result):
            result[index + 1] = found(result[index + 1])
    return result
