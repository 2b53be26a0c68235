"""What a worker does around a stage."""

from __future__ import annotations

import gc
import weakref

import torch

from rebasin_lt.study.launchers import worker


def test_a_stage_that_fails_leaves_nothing_in_a_gpus_memory(tmp_path, monkeypatch) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    kept: list[bool] = []

    def fails(folder, path) -> None:
        holds_itself = {"weights": torch.zeros(2)}
        holds_itself["cycle"] = holds_itself
        alive.append(weakref.ref(holds_itself["weights"]))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB.")

    monkeypatch.setattr(worker, "_run", fails)
    monkeypatch.setattr(worker.os, "dup2", lambda *_: None)  # what is printed here is the tests'
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: kept.extend(ref() is not None for ref in alive))
    gc.disable()  # so that nothing but the worker lets go of it
    try:
        answer = worker.do_stage(tmp_path, "width=1/seed=0/dense_a")
    finally:
        gc.enable()
    assert kept == [False]
    assert answer == {
        "state": "failed",
        "reason": "CUDA out of memory. Tried to allocate 2.00 GiB: set a smaller batch_size, or fewer runs at once "
        "(workers_per_gpu)",
    }
