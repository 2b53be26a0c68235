"""Experts that are looked up are matched by what their hidden units do on the samples that reach them."""

from __future__ import annotations

import copy
from pathlib import Path

import nested
import numpy as np
import pytest
import torch
import torch.distributed as dist
from looked_up import LOOKED_UP, LookedUp, examples, traced
from test_all_reduce import free_port
from torch import multiprocessing

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.reached import ReachedMoments
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.symmetry.routes import Reached
from rebasin_lt.symmetry.trace import Symmetry

OUTER, INNER, SAMPLES = 3, 4, 60


def hidden_of(symmetry: Symmetry) -> str:
    (hidden,) = symmetry.within
    return hidden


@pytest.mark.parametrize("method", [match_weights, match_activations])
@pytest.mark.parametrize("name", LOOKED_UP)
def test_permutation_of_looked_up_experts_comes_back(method: object, name: str) -> None:
    """Without a warning, as one of units that are observed nowhere; every live pair does the same."""
    kind, shape = LOOKED_UP[name]
    network, symmetry = traced(kind, shape)
    twin = copy.deepcopy(network)
    twin.load_state_dict(symmetry.permute(network, symmetry.random(torch.Generator().manual_seed(1))))
    if method is match_weights:
        found = match_weights(network, twin, symmetry)
    else:
        found = match_activations(network, twin, [examples(40, shape, seed) for seed in (2, 3, 4)], symmetry)
        assert found.objective[hidden_of(symmetry)] == pytest.approx(1)
        assert int(found.live[hidden_of(symmetry)].sum()) > 4
    moved = symmetry.permute(network, found.permutation)
    assert all(torch.equal(moved[key], tensor) for key, tensor in twin.state_dict().items())


def test_dead_units_are_those_of_the_tokens_that_reach_an_expert() -> None:
    """An expert that no token reaches is dead whatever it would do, and so is a unit that is the same on all of its."""
    network, symmetry = traced(LookedUp, (3,))
    network, (hidden,) = copy.deepcopy(network), symmetry.within
    with torch.no_grad():
        network.gate.weight[2], network.gate.bias[2] = 0.0, -1e3  # chosen by none
        network.w1[1, 3], network.b1[1, 0, 3] = 0.0, 5.0  # the same on all
        network.w1[1, 4], network.b1[1, 0, 4] = network.w1[1, 3].abs() + 1, 5.0  # another on each
    found = match_activations(network, network, [examples(40, (3,))], symmetry)
    live = found.live[hidden].view(4, 5)
    assert not live[2].any()
    assert live[1, 3:].tolist() == [False, True]
    assert found.permutation == symmetry.identity()  # what activations leave open the weights settle


@pytest.mark.parametrize("name", ["topk", "listed, topk"])
def test_experts_that_answer_where_nobody_listens_are_dead(name: str) -> None:
    network, symmetry = copy.deepcopy(nested.built(name)), nested.symmetry_of(name)
    with torch.no_grad():
        network.gate.weight[2], network.gate.bias[2] = 0.0, -1e3  # chosen by none
    (hidden,) = symmetry.within
    found = match_activations(network, network, nested.batches(name), symmetry)
    live = found.live[hidden].view(4, 5)
    assert live.any(1).tolist() == [True, True, False, True]
    assert found.objective[hidden] == pytest.approx(1)
    assert found.permutation == symmetry.identity()


def drawn(seed: int) -> Reached:
    """Units with means far above their deviations, each sample reaching some of the outer units."""
    generator = torch.Generator().manual_seed(seed)
    reach = (torch.rand(SAMPLES, OUTER, generator=generator) < 0.6).nonzero()
    own, inner = torch.randn(SAMPLES, 1, generator=generator), torch.randn(len(reach), INNER, generator=generator)
    rows = 1e3 + (own[reach[:, 0]] + inner).double()
    order = torch.randperm(len(reach), generator=generator)
    return Reached(rows[order], reach[order, 0], reach[order, 1])


def part(units: Reached, first: int, last: int) -> Reached:
    """Those of some samples, in numbers of their own."""
    here = (units.samples >= first) & (units.samples < last)
    return Reached(units.rows[here], units.samples[here] - first, units.outer[here])


def streamed(first: int = 0, last: int = SAMPLES) -> ReachedMoments:
    moments = ReachedMoments(OUTER * INNER, OUTER)
    for start in range(first, last, 7):
        stop = min(start + 7, last)
        moments.update(part(drawn(0), start, stop), part(drawn(1), start, stop))
    return moments


def expected() -> tuple[np.ndarray, ...]:
    """Correlation, covariance and second moments as they are defined, pair by pair of outer units."""
    source, reference = (table(drawn(seed)) for seed in (0, 1))
    blocks = np.zeros((3, OUTER, INNER, OUTER, INNER))
    for i in range(OUTER):
        for j in range(OUTER):
            here, there = ~np.isnan(reference[:, i, 0]), ~np.isnan(source[:, j, 0])
            ours, theirs = reference[here & there, i], source[here & there, j]
            root = np.sqrt(here.sum() * there.sum())
            centred = (ours - ours.mean(0)).T @ (theirs - theirs.mean(0)) / root
            scale = np.outer(reference[here, i].std(0), source[there, j].std(0))
            for k, block in enumerate((centred / scale, centred, ours.T @ theirs / root)):
                blocks[k, i, :, j] = block
    return tuple(block.reshape(OUTER * INNER, -1) for block in blocks)


def table(units: Reached) -> np.ndarray:
    found = np.full((SAMPLES, OUTER, INNER), np.nan)
    found[units.samples, units.outer] = units.rows
    return found


def check(moments: ReachedMoments) -> None:
    for found, value in zip(
        (moments.correlation(), moments.covariance(), moments.second_moments()), expected(), strict=True
    ):
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-9)
    source = table(drawn(0)).reshape(SAMPLES, -1)
    np.testing.assert_allclose(moments.source.mean, np.nanmean(source, 0))
    np.testing.assert_allclose(moments.source.std, np.nanstd(source, 0), rtol=1e-9)
    assert bool(moments.source.live.all())


def test_moments_are_those_of_the_samples_that_reach_both() -> None:
    check(streamed())
    check(streamed().all_reduce())  # sums about another shift


def test_correlations_are_at_most_one_and_of_the_same_units_one() -> None:
    moments = ReachedMoments(OUTER * INNER, OUTER)
    moments.update(drawn(0), drawn(0))
    found = moments.correlation()
    assert float(found.abs().max()) <= 1 + 1e-12
    torch.testing.assert_close(found.diagonal(), torch.ones(OUTER * INNER, dtype=torch.float64))
    assert float(streamed().correlation().abs().max()) < 1


def test_units_that_see_different_samples_have_nothing_in_common() -> None:
    moments = ReachedMoments(4, 2)
    rows, samples = torch.randn(6, 2), torch.arange(6)
    moments.update(Reached(rows, samples, samples % 2), Reached(rows, samples, samples % 2))
    assert bool((moments.correlation()[:2, 2:] == 0).all())
    assert bool((moments.correlation()[:2, :2] != 0).all())
    empty = Reached(rows[:0], samples[:0], samples[:0])
    before = moments.products.clone()
    moments.update(empty, empty)
    assert torch.equal(moments.products, before)


def work(rank: int, world: int, port: int, folder: str) -> None:
    """One process with its share of the samples."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    bounds = [0, 0, 25, SAMPLES]  # the first has none
    check(streamed(bounds[rank], bounds[rank + 1]).all_reduce())
    (Path(folder) / str(rank)).touch()
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_add_up_what_reached_units_did(tmp_path: Path) -> None:
    multiprocessing.spawn(work, (3, free_port(), str(tmp_path)), nprocs=3)
    assert len(list(tmp_path.iterdir())) == 3
