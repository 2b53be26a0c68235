"""Freed memory is kept, in a process of its own: the setting cannot be taken back."""

from __future__ import annotations

import ctypes
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
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_tensors_that_are_taken_anew_lie_in_memory_that_is_there() -> None:
    assert faults("return") > 1000  # of 4 KiB each, in 3 × 64 MiB
    assert faults("keep") < 100


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
