"""Files that are written whole or not at all, and fingerprints of tensors."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever only looks which runs are complete need not wait for torch
    from torch import Tensor


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed, on failure removed.

    A reader sees the old file or the new one, never a part, whenever the process or the machine dies. Raises OSError
    naming `path`, never the temporary file, where it cannot be written, whichever library was writing.
    """
    path = Path(path)
    try:
        with _beside(path) as temporary:
            yield temporary
    except Exception as error:
        reason = _writing_error(error, path)
        if reason is None:
            raise
        raise OSError(reason.errno, reason.strerror or os.strerror(reason.errno or errno.EIO), str(path)) from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to disk: a file that was renamed is not there after a power cut before this."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems cannot
            raise
    finally:
        os.close(handle)


def is_temporary(path: Path) -> bool:
    """True for a file that `atomic_path` began and has not finished: its process was killed, or is still writing."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def remove_temporaries(folder: Path | str) -> None:
    """Remove what killed processes left below `folder`. No other process may be writing there."""
    for path in Path(folder).rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path | str, text: str) -> None:
    """Append UTF-8 text, on disk when this returns. Raises OSError naming `path`; a part may be there then."""
    try:
        with open(path, "a", encoding="utf-8", opener=no_link) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def no_link(path: str, flags: int) -> int:
    """An `opener` for `open` that refuses a symbolic link in the file's place: it would write somewhere else."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, indented, with a final newline; numbers that are not finite become null."""
    write_text(path, json.dumps(finite(value), indent=2, sort_keys=False, allow_nan=False) + "\n")


def json_in(path: Path) -> Any:
    """What a JSON file holds; None where there is none, or none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_tensors(path: Path | str, content: Any) -> None:
    """Write what `read_tensors` reads, atomically. Raises InputError, before it writes, for what that would refuse."""
    import torch

    from rebasin_lt.storage.plain_content import plain_content

    content = plain_content(content)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)  # given a path, it would not say why the disk refused it


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, independent of the mapping's order and of memory layout.

    What is no tensor in a state dict, a module's extra state, is left out.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(name for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _writing_error(error: BaseException, path: Path) -> OSError | None:
    """Why the system refused to write `path`, if that is behind `error`."""
    cause: BaseException | None = error
    while cause is not None:
        number = re.search(r"\(os error (\d+)\)", str(cause))  # safetensors has it in its text only
        if isinstance(cause, OSError) and cause.errno is not None:
            temporary = os.path.abspath(path.parent / f".{path.name}.")
            mine = cause.filename is None or os.path.abspath(cause.filename).startswith(temporary)
            return cause if mine else None
        if number:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        cause = cause.__cause__ or cause.__context__
    return None
