"""Freed memory is kept, in a process of its own: the setting cannot be taken back."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from rebasin_lt import host_memory

FAULTS = """
import resource, sys, torch
from rebasin_lt.host_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    tensors = [torch.ones(2 * 2**20) for _ in range(8)]  # 8 MiB each, as of a layer of ResNet20
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that the kernel cleared, where the C library begins by returning everything at once."""
    returning = {"MALLOC_MMAP_THRESHOLD_": str(2**17), "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, env=os.environ | returning, check=True, capture_output=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_tensors_that_are_taken_anew_lie_in_memory_that_is_there() -> None:
    assert faults("keep") < faults("return") / 10


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


def say_that_it_was_kept(place: str, call: str) -> str:
    """A program that calls something of a module in which keeping memory is replaced by a word."""
    return f"import {place} as place; place.keep_freed_memory = lambda: print('kept', flush=True); {call}"


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("rebasin_lt.cli", "place.main(['report', '/nowhere'])"),
        ("rebasin_lt.study.worker", "import os; os.environ[place.ANSWERS] = '1'; place.main(None)"),
        ("rebasin_lt.study.task", "from pathlib import Path; place.main(Path('/nowhere'), None, 0)"),
    ],
)
def test_every_process_of_ours_keeps_it(place, call) -> None:
    done = subprocess.run(
        [sys.executable, "-c", say_that_it_was_kept(place, call)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == "kept\n"
