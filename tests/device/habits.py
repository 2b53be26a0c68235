"""NCCL's habits, under gloo: processes on pretended devices, whose collectives refuse what NCCL would."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist
from pretended import NAME, PretendedTensor
from pretending import pretending
from torch import Tensor

from rebasin_lt.matching import reduction

TENSORS = ("all_reduce", "broadcast", "reduce")
"""Collectives of one tensor, which is worked on in place."""
_TIMEOUT = timedelta(seconds=20)


class Habit(Exception):
    """What NCCL would refuse, or hang at."""


@contextmanager
def habits() -> Iterator[list[str]]:
    """Within, collectives are gloo's with NCCL's habits; yields their names, in order.

    A tensor has to be on the device; all ranks have to call the same collective with the same shape and type.
    """
    called: list[str] = []
    before = {name: getattr(dist, name) for name in TENSORS}
    backend, kind = dist.get_backend, reduction._NCCL
    for name, collective in before.items():
        setattr(dist, name, _with_habits(name, collective, called))
    dist.get_backend = lambda group=None: "nccl"
    reduction._NCCL = NAME
    try:
        yield called
    finally:
        dist.get_backend, reduction._NCCL = backend, kind
        for name, collective in before.items():
            setattr(dist, name, collective)


def _with_habits(name: str, collective: Callable[..., Any], called: list[str]) -> Callable[..., Any]:
    @wraps(collective)
    def checked(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        called.append(name)
        mine = f"{name} of {tuple(tensor.shape)}, {tensor.dtype}"
        theirs = [""] * dist.get_world_size()
        with _gloo():
            dist.all_gather_object(theirs, mine)
        if len({*theirs}) > 1:
            raise Habit(f"ranks call different collectives: {'; '.join(theirs)}")
        if not isinstance(tensor, PretendedTensor):
            raise Habit(f"{mine}: a tensor of the CPU, which NCCL does not take")
        if not tensor.is_contiguous():
            raise Habit(f"{mine}: a tensor that is not contiguous")
        return collective(tensor.raw, *args, **kwargs)

    return checked


@contextmanager
def _gloo() -> Iterator[None]:
    named = dist.get_backend
    dist.get_backend = lambda group=None: "gloo"
    try:
        yield
    finally:
        dist.get_backend = named


def ranks(work: Callable[[int, torch.device], Any], world: int = 2, pretended: bool = True) -> list[tuple[str, float]]:
    """What each of several processes came to, as text, and after how many seconds: forked, so nothing is imported."""
    context = get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends = [context.Pipe(duplex=False) for _ in range(world)]
    processes = [
        context.Process(target=_rank, args=(work, r, world, port, ends[r][1], pretended)) for r in range(world)
    ]
    for process in processes:
        process.start()
    found = [end.recv() if end.poll(60) else ("nothing", 60.0) for end, _ in ends]
    for process in processes:
        process.join(10)
        process.kill()
    return found


def _rank(work: Callable[..., Any], rank: int, world: int, port: int, end: Any, pretended: bool) -> None:
    began = time.monotonic()
    try:
        place = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=world, timeout=_TIMEOUT)
        if pretended:
            with pretending() as device, habits():
                found = repr(work(rank, device))
        else:
            found = repr(work(rank, torch.device("cpu")))
    except Exception as error:
        traceback.print_exc()
        found = f"{type(error).__name__}: {error}"
    end.send((found, time.monotonic() - began))
    os._exit(0)
