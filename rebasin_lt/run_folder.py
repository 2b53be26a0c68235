"""A folder belongs to one run: the configuration that made it lies in it, and another one is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.files import is_temporary, write_json, write_text

CONFIG, RESULT = "config.yaml", "result.json"


def claim_folder(folder: Path | str, config: Mapping[str, Any], but: Collection[str] = ()) -> None:
    """Make `folder` this run's own: write its configuration, unless it lies there. Raises as `check_folder`."""
    check_folder(folder, config, but)
    path = Path(folder) / CONFIG
    if not path.exists():
        write_text(path, yaml.safe_dump(json.loads(json.dumps(dict(config))), sort_keys=False))


def check_folder(folder: Path | str, config: Mapping[str, Any], but: Collection[str] = ()) -> None:
    """Raise InputError where the folder is of another run (with both values) or of something else; write nothing.

    Settings named in `but`, such as `trainer.default_root_dir`, may differ.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output folder {folder} is a file: choose another")
    path = folder / CONFIG
    if path.exists():
        _check_same(folder, read_config(path), config, but)
    elif folder.exists() and any(not is_temporary(entry) for entry in folder.iterdir()):
        raise InputError(f"output folder {folder} holds files but no {CONFIG}: it is not of this tool; choose another")


def _check_same(folder: Path, existing: Mapping[str, Any], config: Mapping[str, Any], but: Collection[str]) -> None:
    """Raise InputError naming the first setting in which the run that lies in `folder` differs."""
    wanted = _flat(json.loads(json.dumps(dict(config))))
    present = _flat(existing)
    for name in dict.fromkeys([*wanted, *present]):
        if name not in but and wanted.get(name) != present.get(name):
            raise InputError(
                f"output folder {folder} holds another run: {name} is {present.get(name)} there and "
                f"{wanted.get(name)} here; choose another folder"
            )


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a run folder. Raises BrokenFileError if it is no YAML mapping."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BrokenFileError(f"{path} is not readable YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise BrokenFileError(f"{path} holds a {type(config).__name__}, expected settings by name")
    return config


def finished(folder: Path | str) -> dict[str, Any] | None:
    """The result of a run that is complete, else None. Raises BrokenFileError if it cannot be read."""
    path = Path(folder) / RESULT
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BrokenFileError(f"{path} is not readable JSON: {error}") from error
    return dict(result)


def finish(folder: Path | str, result: Mapping[str, Any]) -> None:
    """Write the result, which marks the run as complete."""
    write_json(Path(folder) / RESULT, dict(result))


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
