"""A fingerprint of a file's content, taken in a moment however large the file is."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

WHOLE = 2**18
"""Bytes up to which a file is read as a whole."""

_END = 2**16
_ZIP_END = b"PK\x05\x06"  # of the record that says how long the directory before it is


def fingerprint(path: Path | str) -> str | None:
    """sha256 over a file's size and its bytes; over both ends of one of more than 256 KiB. None if there is no file.

    The ends are enough for what is written here, for each large file says there what it holds: `torch.save` ends with a
    directory that has the CRC-32 of every tensor, and a mask begins with a header that has the sha256 of its tensors.
    Both are compared with the content whenever such a file is used.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(f"{size}:".encode())
            if size <= WHOLE:
                digest.update(file.read())
            else:
                digest.update(file.read(_END))
                digest.update(_last(file.fileno(), size))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return digest.hexdigest()


def is_whole(path: Path | str) -> bool:
    """True if a checkpoint or safetensors file is there up to its end, as far as it can be said without reading it."""
    path = Path(path)
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        return _is_whole_safetensors(path)
    return path.suffix != ".ckpt" or zipfile.is_zipfile(path)


def _is_whole_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= size - 8:
            return False
        try:
            header = json.loads(file.read(length))
            ends = [about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"]
            return bool(8 + length + max(ends, default=0) == size)
        except (ValueError, RecursionError, AttributeError, KeyError, IndexError, TypeError):
            return False


def _last(handle: int, size: int) -> bytes:
    """The end of a large file: 64 KiB, or all of the directory that a zip archive ends with."""
    end = os.pread(handle, _END, size - _END)
    at = end.rfind(_ZIP_END)
    directory = int.from_bytes(end[at + 12 : at + 16], "little") if at >= 0 else 0
    length = min(size, directory + 2 * _END) if directory > _END // 2 else _END
    return os.pread(handle, length, size - length)
