"""A folder belongs to one run: the configuration that made it lies in it, and another one is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from rebasin_lt.errors import BrokenFileError, InputError, SymmetryError
from rebasin_lt.storage.files import finite, is_temporary, write_json, write_text
from rebasin_lt.storage.folder_lock import LOCK, FolderLock
from rebasin_lt.storage.former_names import by_present_names, with_public_classes
from rebasin_lt.storage.links import check_links
from rebasin_lt.storage.paths import with_paths_located
from rebasin_lt.storage.strict_yaml import read_settings

CONFIG, RESULT = "config.yaml", "result.json"
SEAL = "content_sha256"
FOLDER_VERSION = 1
_AGAIN = "remove it, and run again what wrote it"


def claim_folder(
    folder: Path | str,
    config: Mapping[str, Any],
    but: Collection[str] = (),
    parts: Collection[str] = ("",),
) -> FolderLock:
    """Make `folder` this run's own: lock it, and write its configuration, unless it lies there.

    The lock holds until the process ends, or to the end of a `with` around what this returns. Raises as
    `check_folder` and `FolderLock`; a folder that could not be claimed is not left behind.
    """
    check_folder(folder, config, but, parts)
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder)
        try:
            check_folder(folder, config, but, parts)  # another run may have come in between
            if not (folder / CONFIG).exists():
                write_text(folder / CONFIG, yaml.safe_dump(json.loads(json.dumps(dict(config))), sort_keys=False))
        except BaseException:
            lock.release()
            raise
    except BaseException:
        with suppress(OSError):
            for path in made:
                path.rmdir()
        raise
    return lock


def check_folder(
    folder: Path | str,
    config: Mapping[str, Any],
    but: Collection[str] = (),
    parts: Collection[str] = ("",),
) -> None:
    """Raise InputError where the folder is of another run (with both values) or of something else; write nothing.

    Settings named in `but`, such as `trainer.default_root_dir`, may differ. No link may lead out of the folder, or of
    those `parts` of it that the run writes itself.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output folder {folder} is a file: choose another")
    path = folder / CONFIG
    if path.exists():
        _check_same(folder, read_config(path), config, but)
    elif folder.exists() and any(entry.name != LOCK and not is_temporary(entry) for entry in folder.iterdir()):
        raise InputError(f"output folder {folder} holds files but no {CONFIG}: it is not of this tool; choose another")
    check_links(folder, parts)


def _check_same(folder: Path, existing: Mapping[str, Any], config: Mapping[str, Any], but: Collection[str]) -> None:
    """Raise InputError naming the first setting in which the run that lies in `folder` differs."""
    plain, existing = with_public_classes(json.loads(json.dumps(dict(config)))), with_public_classes(existing)
    wanted, here = dotted(plain), dotted(with_paths_located(plain))
    present, there = (by_present_names(dotted(each), wanted) for each in (existing, with_paths_located(existing)))
    earlier = " (an earlier rebasin-lt 0.1.0 wrote it, `report` reads it)" if dotted(existing).keys() - present else ""
    for name in dict.fromkeys([*wanted, *present]):
        if name not in but and here.get(name) != there.get(name):
            raise InputError(
                f"output folder {folder} holds another run{earlier}: {name} is {value_of(present, name)} there and "
                f"{value_of(wanted, name)} here; choose another folder"
            )


def value_of(settings: Mapping[str, Any], name: str) -> Any:
    """The value of a setting for an error: a setting that is None, or that was not known then, is "not set"."""
    value = settings.get(name)
    return "not set" if value is None else value


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a run folder. Raises BrokenFileError if it is no YAML mapping."""
    return read_settings(path, str(path), BrokenFileError)


def finished(folder: Path | str) -> dict[str, Any] | None:
    """The result of a run that is complete, else None. Raises as `read_sealed`."""
    path = Path(folder) / RESULT
    return read_sealed(path) if path.exists() else None


def finish(folder: Path | str, result: Mapping[str, Any]) -> None:
    """Write the result, which marks the run as complete."""
    write_sealed(Path(folder) / RESULT, result)


def discard_result(folder: Path | str) -> None:
    """Take the result away before the files that it speaks of are made again: a run killed then is not complete."""
    (Path(folder) / RESULT).unlink(missing_ok=True)


def write_sealed(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, with its format version and its own sha256; what is not finite becomes null."""
    content = finite(dict(content))
    write_json(path, {"format_version": FOLDER_VERSION, **content, SEAL: _seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """The content that was sealed. Raises BrokenFileError for anything else; without a sha256 it is believed."""
    if not path.is_file():
        raise BrokenFileError(f"{path} is not a regular file: remove it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{path} is not readable JSON: {error}; {_AGAIN}") from error
    if not isinstance(content, dict):
        raise BrokenFileError(f"{path} holds a {type(content).__name__}, expected results by name")
    version = content.pop("format_version", FOLDER_VERSION)
    if version != FOLDER_VERSION:
        raise BrokenFileError(f"{path} has format version {version}, this release reads {FOLDER_VERSION}: update it")
    seal = content.pop(SEAL, None)
    if seal is not None and seal != _seal(content):
        raise BrokenFileError(f"{path} is damaged: its content does not match the hash written with it; {_AGAIN}")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def run_once(
    folder: Path | str,
    config: Mapping[str, Any],
    work: Callable[[], Mapping[str, Any]],
    outputs: Collection[str] = (),
    but: Collection[str] = (),
) -> dict[str, Any]:
    """The result of the run that `config` describes: read, if `folder` holds it complete, else that of `work`.

    Complete means with all its `outputs`, files of `folder` that `work` writes beside the result. Settings named in
    `but` may differ: paths of what is told apart by its content. The folder is locked meanwhile. Where `work` refuses
    what it is given, a folder that was not this run's before is left as it was. Raises as `claim_folder`, `finished`
    and `work`.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    ours = (folder / CONFIG).exists()
    try:
        with claim_folder(folder, config, but):
            result = finished(folder)
            if result is None or not all((folder / name).is_file() for name in outputs):
                discard_result(folder)
                try:
                    result = finite(dict(work()))
                except (InputError, BrokenFileError, SymmetryError):
                    if not ours:
                        for name in (*outputs, CONFIG):
                            (folder / name).unlink(missing_ok=True)
                    raise
                finish(folder, result)
    except (InputError, BrokenFileError, SymmetryError):
        with suppress(OSError):  # it holds something
            for path in made:
                path.rmdir()
        raise
    return result


def dotted(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings in mappings in one mapping, by names such as `recipe.data.name`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
