"""Freed memory is kept, in a process of its own: the setting cannot be taken back."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from rebasin_lt.process import host_memory

BLOCKS = """
import sys
from ctypes import CDLL, Structure, c_size_t, c_void_p
from rebasin_lt.process.host_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
library = CDLL(None)
class Count(Structure):
    _fields_ = [(name, c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")]
    _fields_ += [(name, c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")]
library.mallinfo2.restype = Count
library.malloc.argtypes, library.malloc.restype, library.free.argtypes = [c_size_t], c_void_p, [c_void_p]
before = library.mallinfo2()
blocks = [library.malloc(8 * 2**20) for _ in range(16)]
mapped = library.mallinfo2().hblks - before.hblks
for block in reversed(blocks):
    library.free(block)
print(mapped, (library.mallinfo2().arena - before.arena) >> 20)
"""
"""How many of 16 blocks of 8 MiB do not lie in the heap, and by how many MiB it has grown once they are freed."""

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc, or an old one"
)


def mapped_and_kept(how: str) -> tuple[int, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", BLOCKS, how]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    mapped, kept = map(int, output.split())
    return mapped, kept


@glibc
def test_blocks_lie_in_the_heap_and_stay_there_when_they_are_freed() -> None:
    mapped, kept = mapped_and_kept("return")
    assert mapped > 0 or kept < 64
    mapped, kept = mapped_and_kept("keep")
    assert mapped == 0
    assert kept >= 120


@pytest.mark.parametrize(
    "variable", ["MALLOC_TRIM_THRESHOLD_=65536", "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=65536"]
)
def test_what_the_environment_says_is_left_alone(monkeypatch, variable) -> None:
    monkeypatch.setenv(*variable.split("=", 1))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("was asked for"))
    assert host_memory.keep_freed_memory() is False


@pytest.mark.parametrize("library", [object(), None])
def test_another_c_library_is_left_alone(monkeypatch, library) -> None:
    def load(_: None) -> object:
        if library is None:
            raise OSError("no C library by this name")
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert host_memory.keep_freed_memory() is False


def test_a_value_that_is_refused_is_reported(monkeypatch) -> None:
    class Library:
        mallopt = staticmethod(lambda parameter, value: int(parameter == host_memory._TRIM_THRESHOLD))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    assert host_memory.keep_freed_memory() is False


@pytest.mark.parametrize(
    ("place", "call", "keeps"),
    [
        ("rebasin_lt.cli", "import sys; sys.argv[1:] = ['report', '/nowhere']; place.main()", True),
        ("rebasin_lt.cli", "place.main(['report', '/nowhere'])", False),  # called by somebody's program
        ("rebasin_lt.study.launchers.worker", "import os; os.environ[place.ANSWERS] = '1'; place.serve(None)", True),
        ("rebasin_lt.study.launchers.task", "from pathlib import Path; place.do_task(Path('/nowhere'), None, 0)", True),
    ],
)
def test_every_process_of_ours_keeps_it(place, call, keeps) -> None:
    program = f"import {place} as place; place.keep_freed_memory = lambda: print('kept', flush=True); {call}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout == "kept\n" * keeps
