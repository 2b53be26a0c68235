"""Reading `torch.save` files without trusting them: nothing is unpickled, no size is believed unchecked."""

from __future__ import annotations

import errno
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.storage.paths import expanded


def read_tensors(path: Path | str) -> Any:
    """The content of a `torch.save` file: tensors on the CPU, containers and primitives.

    `torch.save` stores without compression, so a file cannot hold more bytes than it has: one that is compressed, or
    declares more, is refused before memory is taken for it. Checksums are compared, which `torch.load` does not do.
    Raises InputError if there is no such file; BrokenFileError if it is damaged, declares such sizes, or would have
    to be unpickled.
    """
    path = Path(expanded(path, "checkpoint"))
    if not path.is_file():
        what = f"is a folder: give a file, such as {path / 'last.ckpt'}" if path.is_dir() else "does not exist"
        raise InputError(f"checkpoint {path} {what}")
    try:
        archive = _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever torch makes of a strange file, ours is the one line about it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except BrokenFileError:
        raise
    except pickle.UnpicklingError as error:  # its message advises to unpickle
        if archive or "GLOBAL" in str(error):
            kind = re.search(r"GLOBAL ([\w.]{1,60})", str(error))
            named = f" ({kind[1]})" if kind else ""
            raise BrokenFileError(
                f"{path} holds pickled Python objects, which are never loaded{named}: save "
                "tensors only, as by torch.save(model.state_dict(), path)"
            ) from error
        raise BrokenFileError(f"{path} is not a readable checkpoint: nothing that torch.save writes") from error
    except Exception as error:  # a damaged file can bring its reader to raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, OSError) and error.errno == errno.EINVAL:  # looked for its end before its beginning
            reason = "it is cut short"
        raise BrokenFileError(f"{path} is not a readable checkpoint: {reason}") from error
    _check_sizes(content, path)
    return content


def _check_archive(path: Path) -> bool:
    """Compare declared sizes and checksums of a zip archive; False for none, such as files from before PyTorch 1.6."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries, size = archive.infolist(), path.stat().st_size
        declared = sum(entry.file_size for entry in entries)
        if declared > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise BrokenFileError(
                f"{path} is a compressed archive ({declared} bytes declared in a file of {size}), "
                "which torch.save never writes: refused"
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise BrokenFileError(f"{path} is damaged: the checksum of {damaged} in it does not match")
    return True


def _check_sizes(content: Any, path: Path) -> None:
    """Raise BrokenFileError for tensors that are larger than what is stored of them."""
    stored: dict[int, int] = {}
    for tensor in tensors_in(content):
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise BrokenFileError(f"{path} holds a {tensor.layout} tensor on {tensor.device.type}, expected plain ones")
        storage, declared = tensor.untyped_storage(), tensor.numel() * tensor.element_size()
        stored[storage.data_ptr()] = storage.nbytes()
        if declared > storage.nbytes():
            raise BrokenFileError(
                f"{path} declares a tensor of {declared} bytes and stores {storage.nbytes()} of them: refused"
            )
    if sum(stored.values()) > path.stat().st_size:
        raise BrokenFileError(f"{path} declares {sum(stored.values())} bytes of tensors, more than it has: refused")


def tensors_in(content: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers, each container once: a file may well hold one that contains itself."""
    seen, left = set[int](), [content]
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            left.extend([*value.keys(), *value.values()] if isinstance(value, Mapping) else value)
