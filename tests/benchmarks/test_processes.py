"""Processes of their own for sides that are compared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from benchmarks import _processes
from benchmarks._processes import processes

WAITS = """
import os, time
from benchmarks._processes import processes
if __name__ == "__main__":
    with processes("ab") as run:
        print(*(run[name].submit(os.getpid).result() for name in "ab"), flush=True)
        time.sleep(600)
"""


def test_every_name_has_a_process_and_an_error_in_one_comes_back() -> None:
    with processes("ab", plain="b") as run:
        first = [run[name].submit(os.getpid).result() for name in "abab"]
        assert first[:2] == first[2:]
        assert len({*first, os.getpid()}) == 3
        with pytest.raises(ZeroDivisionError):
            run["a"].submit(divmod, 1, 0).result()
    assert not any(is_alive(process) for process in first)


def test_all_but_the_plain_one_keep_their_memory(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(_processes, "ProcessPoolExecutor", lambda *rest: seen.append(rest[-1]) or nullcontext())
    with processes("ab", plain="b"):
        pass
    assert seen == [[True], [False]]
    monkeypatch.setattr(_processes, "keep_freed_memory", lambda: seen.append("kept"))
    monkeypatch.setattr(_processes, "_end_with_parent", lambda: None)
    for arguments in seen[:2]:
        _processes._begin(*arguments)
    assert seen[2:] == ["kept"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_they_end_with_their_parent(tmp_path, sent) -> None:
    program = tmp_path / "waits.py"
    program.write_text(WAITS)
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=with_benchmarks())
    assert parent.stdout is not None
    children = [int(word) for word in parent.stdout.readline().split()]
    assert len(children) == 2
    assert all(is_alive(child) for child in children)
    parent.send_signal(sent)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(child) for child in children)


def with_benchmarks() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}


def is_alive(process: int) -> bool:
    """Whether it runs; one that ended and is not yet asked for does not."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
