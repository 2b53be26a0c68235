"""Where workers run, and what is said of one that dies."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from rebasin_lt.study.launchers.local import _death, places

ONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.fixture
def gpus(monkeypatch):
    """Two of them, none chosen."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_without_a_gpu_there_is_a_worker_for_each_core(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert places(None, 4, 1) == [ONE] * len(os.sched_getaffinity(0))
    assert places(3, 4, 2) == [dict.fromkeys(ONE, "2")] * 3


@pytest.mark.parametrize(
    ("workers", "each", "devices"),
    [(None, 1, ["0", "1"]), (None, 2, ["0", "1", "0", "1"]), (3, 1, ["0", "1", "0"]), (1, 2, ["0"])],
)
def test_workers_share_the_gpus_evenly(gpus, workers, each, devices) -> None:
    assert places(workers, each, 1) == [{**ONE, "CUDA_VISIBLE_DEVICES": device} for device in devices]


def test_gpus_that_are_chosen_are_the_ones(gpus, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places(None, 1, 1)] == ["5", "7"]


def test_what_is_said_of_a_worker_that_died() -> None:
    assert _death(3) == "its process ended with exit code 3"
    assert _death(-signal.SIGKILL) == "its process was killed by SIGKILL, as it does when memory runs out"
    assert _death(-signal.SIGSEGV) == "its process was killed by SIGSEGV"
