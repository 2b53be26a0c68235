"""Moments of several processes, reduced, equal those of all samples in one."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from rebasin_lt.matching.moments import CrossMoments

UNITS = 5


def samples() -> tuple[Tensor, Tensor]:
    """Activations of source and reference with means far above their deviations."""
    generator = torch.Generator().manual_seed(0)
    source = 1e3 + torch.randn(90, UNITS, generator=generator, dtype=torch.float64)
    return source, 0.3 * source + torch.randn(90, UNITS, generator=generator, dtype=torch.float64)


def share(rank: int, world: int, idle: bool) -> tuple[Tensor, Tensor]:
    """Shares of unequal size; if idle, the first process has none."""
    bounds = [0, *(20 * rank for rank in range(1, world)), 90]
    if idle:
        bounds[1] = 0
    source, reference = samples()
    return source[bounds[rank] : bounds[rank + 1]], reference[bounds[rank] : bounds[rank + 1]]


def streamed(source: Tensor, reference: Tensor) -> CrossMoments:
    moments = CrossMoments(UNITS)
    for ours, theirs in zip(source.split(8), reference.split(8), strict=True):
        moments.update(ours, theirs)
    return moments


def work(rank: int, world: int, port: int, folder: str, idle: bool) -> None:
    """One process: its share, reduced, written down."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    moments = streamed(*share(rank, world, idle))
    before = [tensor.clone() for tensor in moments.state()]
    whole = moments.all_reduce()
    assert all(torch.equal(old, new) for old, new in zip(before, moments.state(), strict=True))  # a new object
    found = [whole.correlation(), whole.covariance(), whole.source.mean, whole.reference.std, torch.tensor(whole.count)]
    torch.save([*found, whole.source.live], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize(("world", "idle"), [(1, False), (2, False), (3, False), (2, True)])
def test_moments_reduced_over_processes_equal_numpy(world: int, idle: bool, tmp_path: Path) -> None:
    multiprocessing.spawn(work, (world, free_port(), str(tmp_path), idle), nprocs=world)
    source, reference = (side.numpy() for side in samples())
    correlation = np.corrcoef(reference, source, rowvar=False)[:UNITS, UNITS:]
    covariance = np.cov(reference, source, rowvar=False, bias=True)[:UNITS, UNITS:]
    expected = [correlation, covariance, source.mean(0), reference.std(0), 90, True]
    for rank in range(world):
        for found, value in zip(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected, strict=True):
            assert np.abs(found.double().numpy() - value).max() <= 1e-10


def test_all_reduce_of_one_process_is_a_copy() -> None:
    moments = streamed(*samples())
    whole = moments.all_reduce()
    assert whole is not moments
    assert all(torch.equal(old, new) for old, new in zip(moments.state(), whole.state(), strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_merge_of_shares_equals_numpy(world: int) -> None:
    parts = [streamed(*share(rank, world, False)) for rank in range(world)]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.merge(part)
    source, reference = (side.numpy() for side in samples())
    expected = np.corrcoef(reference, source, rowvar=False)[:UNITS, UNITS:]
    assert np.abs(whole.correlation().numpy() - expected).max() <= 1e-10
