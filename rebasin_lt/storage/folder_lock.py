"""One process at a time writes a folder: a lock that the system drops when its holder dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
import warnings
from contextlib import suppress
from pathlib import Path

from rebasin_lt.errors import InputError

LOCK = ".lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_held: dict[str, FolderLock] = {}  # by real path: of this process


class FolderLock:
    """The right to write `folder`, from now on until `release`, the end of a `with`, or the end of the process.

    It is an flock on `.lock` in it, so a file that a dead process left does no harm. This process may lock a folder
    again: the first holder keeps it. Raises InputError, naming process and host, where another process holds it, and
    OSError where `folder` is not there or cannot be written. File systems without locks (Lustre mounted without
    `flock`) are warned of and go unlocked; on NFS, locks hold between machines if its lock daemon runs.
    """

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder).resolve() / LOCK
        self._handle: int | None = None
        if str(self.path) not in _held:
            self._handle = _locked(self.path, folder)
            _held[str(self.path)] = self

    def release(self) -> None:
        """Let others write the folder, and remove the lock's file."""
        if self._handle is not None:
            self.path.unlink(missing_ok=True)  # while it is held: whoever waits for this file sees that it is gone
            os.close(self._handle)
            self._handle = None
            _held.pop(str(self.path), None)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def release_all() -> None:
    """Release what this process holds, as its end would."""
    for lock in list(_held.values()):
        lock.release()


def _locked(path: Path, folder: Path | str) -> int:
    """A handle on the locked file, which says who holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)  # a link leads elsewhere
        try:
            _lock(handle, folder)
            if _is_at(handle, path):
                with suppress(OSError):  # on a full disk the lock holds, though it cannot say whose it is
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder removed it between our opening and our locking it


def _lock(handle: int, folder: Path | str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
        raise InputError(
            f"output folder {folder} is being written by {holder}: wait for it, or choose another folder"
        ) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        warnings.warn(f"{folder} is on a file system without locks: do not write it from two runs", stacklevel=4)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _forget_in_child() -> None:
    """A forked worker must not keep the folder when its parent is dead."""
    for lock in _held.values():
        if lock._handle is not None:
            os.close(lock._handle)
            lock._handle = None
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
