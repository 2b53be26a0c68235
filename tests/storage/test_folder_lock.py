"""One writer per folder: locks between processes, and what is left of those that died."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.storage.folder_lock import LOCK, FolderLock, release_all
from rebasin_lt.storage.run_folder import claim_folder

HOLD = """
import sys, time
from rebasin_lt.storage.folder_lock import FolderLock
lock = FolderLock(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path/run`."""
    (tmp_path / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds_it(holder, tmp_path) -> None:
    message = rf"output folder .*run is being written by process {holder.pid} on {os.uname().nodename}: wait for it"
    with pytest.raises(InputError, match=message):
        FolderLock(tmp_path / "run")
    assert (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize("command", ["demo --out run", "fit --config dense.yaml --trainer.default_root_dir run"])
def test_commands_are_refused_with_code_2(holder, tmp_path, monkeypatch, capsys, command) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert f"run is being written by process {holder.pid} on" in capsys.readouterr().err
    assert os.listdir("run") == [LOCK]


def test_a_dead_holder_does_no_harm(holder, tmp_path) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with FolderLock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert os.listdir(tmp_path / "run") == []


def test_the_file_of_a_dead_run_is_no_file_of_a_stranger(tmp_path) -> None:
    (tmp_path / LOCK).write_text("process 1 on another")
    with claim_folder(tmp_path, {"a": 1}):
        pass
    assert os.listdir(tmp_path) == ["config.yaml"]


def is_free(folder: Path) -> bool:
    """As another process would see it."""
    code = f"from rebasin_lt.storage.folder_lock import FolderLock; FolderLock({str(folder)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_this_process_may_lock_again_and_its_first_holder_keeps_it(tmp_path) -> None:
    with FolderLock(tmp_path):
        with FolderLock(tmp_path):
            pass
        assert not is_free(tmp_path)
    assert is_free(tmp_path)


def test_release_all_releases_what_was_claimed(tmp_path) -> None:
    claim_folder(tmp_path / "run", {})
    assert not is_free(tmp_path / "run")
    release_all()
    assert is_free(tmp_path / "run")


def test_forked_workers_do_not_keep_the_folder(tmp_path) -> None:
    lock = FolderLock(tmp_path)
    worker = multiprocessing.get_context("fork").Process(target=signal.pause)
    worker.start()
    try:
        os.close(lock._handle)  # as the end of this process would
        assert is_free(tmp_path)
    finally:
        lock._handle = None
        release_all()
        worker.kill()
        worker.join()


def test_a_lock_file_removed_meanwhile_is_made_again(tmp_path, monkeypatch) -> None:
    real, removed = fcntl.flock, []

    def flock(handle: int, operation: int) -> None:
        if not removed:
            removed.append((tmp_path / LOCK).unlink())
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path):
        assert (tmp_path / LOCK).exists()
        assert not is_free(tmp_path)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path) -> None:
    """A folder may come from anywhere, and must not choose a file to be overwritten."""
    (tmp_path / "precious").write_text("all of it")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links") as error:
        FolderLock(tmp_path / "run")
    assert error.value.filename == str(tmp_path / "run" / LOCK)
    assert (tmp_path / "precious").read_text() == "all of it"


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="is on a file system without locks: do not write it from two runs"):
        FolderLock(tmp_path).release()


def test_a_folder_that_could_not_be_claimed_is_not_left_behind(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "config.yaml")

    monkeypatch.setattr("rebasin_lt.storage.run_folder.write_text", refuse)
    with pytest.raises(OSError, match="No space left"):
        claim_folder(tmp_path / "deep" / "run", {})
    assert os.listdir(tmp_path) == []
