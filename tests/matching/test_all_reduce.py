"""Moments of several processes, reduced, equal those of all samples in one."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from planting import randomised, residual_net, symmetry_of
from torch import Tensor, multiprocessing

from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import MatchResult, match_activations
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.reduction import _place

UNITS = 5


def samples() -> tuple[Tensor, Tensor]:
    """Activations of source and reference with means far above their deviations."""
    generator = torch.Generator().manual_seed(0)
    source = 1e4 + 1e-2 * torch.randn(90, UNITS, generator=generator, dtype=torch.float64)
    return source, 0.3 * source + 1e-2 * torch.randn(90, UNITS, generator=generator, dtype=torch.float64)


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


def sums(moments: CrossMoments) -> list[Tensor]:
    sides = (moments.source, moments.reference)
    return [moments.products, *(total for side in sides for total in (side.shift, side.total, side.squares))]


def work(rank: int, world: int, port: int, folder: str, idle: bool) -> None:
    """One process: its share, reduced, written down."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    moments = streamed(*share(rank, world, idle))
    before = [tensor.clone() for tensor in sums(moments)]
    whole = moments.all_reduce()
    assert all(torch.equal(old, new) for old, new in zip(before, sums(moments), strict=True))  # a new object
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


@pytest.mark.parametrize(
    ("device", "backend", "place"),
    [("cuda:1", "nccl", "cuda:1"), ("cpu", "nccl", "cuda"), ("cuda:1", "gloo", "cpu"), ("cpu", "gloo", "cpu")],
)
def test_a_tensor_is_reduced_on_its_own_gpu(device: str, backend: str, place: str) -> None:
    """The current GPU is another one where the process has not chosen: every rank would meet on the first."""
    assert _place(torch.device(device), backend) == torch.device(place)


def test_all_reduce_of_one_process_is_a_copy() -> None:
    moments = streamed(*samples())
    whole = moments.all_reduce()
    assert whole is not moments
    assert torch.allclose(whole.correlation(), moments.correlation(), rtol=0, atol=1e-12)


def matching_batches(preset: str | None) -> list[Tensor]:
    """Batches of unequal size; of the paper's preset, which weighs them alike, also of unequal contrast."""
    generator = torch.Generator().manual_seed(0)
    return [
        scale * torch.randn(size, 3, 4, 4, generator=generator, dtype=torch.float64)
        for size, scale in ((9, 1.0), (4, 0.5 if preset else 1.0), (14, 2.0 if preset else 1.0))
    ]


def match(rank: int, world: int, preset: str | None, shares: tuple[int, ...]) -> MatchResult:
    """Match two networks on the batches that are this process's, counted off by `shares`."""
    networks = [randomised(residual_net, seed) for seed in (0, 1)]
    start = sum(shares[:rank])
    batches = matching_batches(preset)[start : start + shares[rank]]
    return match_activations(*networks, batches, symmetry_of(residual_net), preset=preset)


def match_work(rank: int, port: int, folder: str, preset: str | None, shares: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=len(shares))
    result = match(rank, len(shares), preset, shares)
    torch.save([dict(result.permutation), result.num_samples, result.objective], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "shares"), [(None, (1, 2)), (None, (0, 3)), ("paper", (2, 1)), ("paper", (3, 0)), (None, (1, 1, 1))]
)
def test_processes_match_as_one_on_all_batches(preset: str | None, shares: tuple[int, ...], tmp_path: Path) -> None:
    multiprocessing.spawn(match_work, (free_port(), str(tmp_path), preset, shares), nprocs=len(shares))
    expected = match(0, 1, preset, (3,))
    for rank in range(len(shares)):
        permutation, num_samples, objective = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert num_samples == expected.num_samples == 27
        assert permutation.keys() == expected.permutation.keys()
        assert all(torch.equal(permutation[group], expected.permutation[group]) for group in permutation)
        assert objective == pytest.approx(expected.objective, abs=1e-10)


def no_batch_work(rank: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    with pytest.raises(InputError, match="batches is empty"):
        match(rank, 2, None, (0, 0))
    dist.destroy_process_group()


@pytest.mark.slow
def test_no_batch_in_any_process_is_refused_in_all() -> None:
    multiprocessing.spawn(no_batch_work, (free_port(),), nprocs=2)
