"""Safetensors files of ours: tensors by name, and in the metadata what they are, in which version of the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import is_zipfile

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.storage.files import atomic_path
from rebasin_lt.storage.paths import expanded


def write_safetensors(path: Path | str, what: str, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors with `about` as their metadata, atomically; `what` names the file in errors."""
    with atomic_path(expanded(path, what)) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=dict(about))


def read_safetensors(path: Path | str, what: str, suffix: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its metadata. `what` and the `suffix` of such files are named in errors.

    Raises InputError if there is no file, BrokenFileError for one that cannot be read.
    """
    path = expanded(path, what)
    if not Path(path).is_file():
        raise InputError(f"{what} {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        archive = is_zipfile(path)
        reason = f"it is an archive, as checkpoints are; a {what} ends in {suffix}" if archive else error
        raise BrokenFileError(f"{path} is not a readable safetensors file: {reason}") from error


def check_format(path: Path | str, about: Mapping[str, str], kind: str, key: str, versions: Sequence[str]) -> None:
    """Raise BrokenFileError unless the metadata say that the file holds a `kind`, and under `key` one of `versions`."""
    if about.get("format") != f"rebasin_lt.{kind}":
        raise BrokenFileError(f"{path} is not a {kind} file of rebasin-lt (format {about.get('format')!r})")
    if about.get(key) not in versions:
        known = " and ".join(versions)
        raise BrokenFileError(
            f"{path} has {kind} format version {about.get(key)}, this release reads {known}: update it"
        )
