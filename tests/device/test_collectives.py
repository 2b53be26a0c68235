"""Processes that match, prune and evaluate together keep to NCCL's habits, and one that fails ends the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from habits import ranks
from small import network
from works import Case, case_on

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.mask_guard import same_on_all_ranks
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.process.ranks import broadcast_buffers_, failing_together
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.trace import trace_symmetry

SOON = 15.0
"""Seconds, on a busy machine: gloo itself would wait for 20 here, and NCCL for ten minutes."""


@pytest.fixture(scope="module")
def symmetry() -> Any:
    """Traced once: the processes are forked."""
    return trace_symmetry(network(), torch.zeros(2, 3, 6, 6))


def matched(case: Case, symmetry: Any, batches: Any, preset: str | None) -> Any:
    found = match_activations(case.a, case.b, batches, symmetry, masks={"m": case.mask}, preset=preset)
    return {group: index.tolist() for group, index in found.permutation.items()}, found.num_samples


@pytest.mark.parametrize("preset", [None, "paper"])
@pytest.mark.filterwarnings("ignore:.*fewer images.*", "ignore:.*images.*units.*", "ignore:.*normalised.*")
def test_processes_match_on_their_devices_as_one_on_the_cpu(preset, symmetry) -> None:
    case = case_on("cpu")
    expected = repr(matched(case, symmetry, case.batches, preset))

    def work(rank: int, device: torch.device) -> Any:
        own = case_on(device)
        return matched(own, symmetry, own.batches[:1] if rank == 0 else own.batches[1:], preset)

    assert [found for found, _ in ranks(work)] == [expected, expected]


def test_masks_and_buffers_of_the_first_process_reach_the_others() -> None:
    def work(rank: int, device: torch.device) -> Any:
        trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=device))
        mask = same_on_all_ranks(trainer, Mask({"weight": torch.tensor([[True, rank == 0]])}))
        net = network().to(device)
        net[1].running_mean.fill_(rank + 1)
        broadcast_buffers_(net, device)
        return mask["weight"].tolist(), net[1].running_mean.tolist()

    assert [found for found, _ in ranks(work)] == [repr(([[True, True]], [1.0] * 6))] * 2


class Broken:
    """Batches of a process, of which the second cannot be read."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        yield self.batches[0]
        raise InputError("the second batch is damaged")


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.filterwarnings("ignore:.*normalised.*")
def test_a_process_that_fails_in_matching_ends_the_others_with_its_reason(failing, symmetry) -> None:
    def work(rank: int, device: torch.device) -> Any:
        case = case_on(device)
        batches: Any = Broken(case.batches) if rank == failing else case.batches
        return match_activations(case.a, case.b, batches, symmetry)

    found = ranks(work)
    assert found[failing][0] == "InputError: the second batch is damaged"
    reason = f"OtherRankFailed: process {failing} could not do its share: InputError: the second batch is damaged"
    assert found[1 - failing][0] == reason
    assert max(seconds for _, seconds in found) < SOON


def test_a_process_that_is_given_another_network_ends_the_others(symmetry) -> None:
    def work(rank: int, device: torch.device) -> Any:
        case = case_on(device)
        other = torch.nn.Linear(2, 2).to(device) if rank == 1 else case.b
        return match_activations(case.a, other, case.batches, symmetry)

    (first, _), (second, seconds) = ranks(work)
    assert second.startswith("InputError: source has 0.weight, reference does not")
    assert first == f"OtherRankFailed: process 1 could not do its share: {second}"
    assert seconds < SOON


def test_a_barrier_that_one_process_does_not_reach_ends_them_all() -> None:
    def work(rank: int, device: torch.device) -> Any:
        with failing_together():
            if rank == 2:
                raise OSError("no space left")
        dist.barrier()

    found = ranks(work, world=3)
    assert [text for text, _ in found[:2]] == [
        "OtherRankFailed: process 2 could not do its share: OSError: no space left"
    ] * 2
    assert found[2][0] == "OSError: no space left"
    assert max(seconds for _, seconds in found) < SOON


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda rank, device: dist.all_reduce(torch.ones(2)), "a tensor of the CPU"),
        (lambda rank, device: dist.all_reduce(torch.ones(2 + rank, device=device)), "different collectives"),
        (lambda rank, device: dist.broadcast(torch.ones(2, 3, device=device).T, 0), "not contiguous"),
        (
            lambda rank, device: (dist.all_reduce if rank else dist.broadcast)(
                *[torch.ones(2, device=device), 0][: 2 - rank]
            ),
            "different collectives",
        ),
    ],
)
def test_what_nccl_would_refuse_is_refused(work, message) -> None:
    assert all(message in found for found, _ in ranks(work))
