"""Who gets which images when: a function of seed, epoch and rank, complete, disjoint, and resumable."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.epoch_batches import EpochBatches, seeded

sizes = st.integers(1, 60)


def batches_of(size: int, batch_size: int, world: int = 1, **settings) -> list[list[list[int]]]:
    """Every rank's batches of one epoch."""
    ranks = [EpochBatches(torch.arange(size), batch_size, rank=r, world_size=world, **settings) for r in range(world)]
    return [[batch.tolist() for batch in rank.begin()] for rank in ranks]


@given(sizes, st.integers(1, 20), st.integers(1, 7))
def test_training_gives_every_rank_equally_many_full_batches_of_different_images(size, batch_size, world) -> None:
    ranks = batches_of(size, batch_size, world, shuffle=True, drop_last=True, seed=3)
    assert {len(rank) for rank in ranks} == {size // world // batch_size}
    assert all(len(batch) == batch_size for rank in ranks for batch in rank)
    seen = [index for rank in ranks for batch in rank for index in batch]
    assert len(set(seen)) == len(seen)


@given(sizes, st.integers(1, 20), st.integers(1, 7))
def test_evaluation_sees_every_image_once_in_equally_many_batches_on_every_rank(size, batch_size, world) -> None:
    ranks = batches_of(size, batch_size, world)
    assert len({len(rank) for rank in ranks}) == 1
    assert all(len(batch) <= batch_size for rank in ranks for batch in rank)
    assert sorted(index for rank in ranks for batch in rank for index in batch) == list(range(size))


@given(sizes, st.integers(1, 20), st.integers(1, 7), st.booleans())
def test_length_is_the_number_of_batches(size, batch_size, world, drop_last) -> None:
    sampler = EpochBatches(torch.arange(size), batch_size, drop_last=drop_last, rank=world - 1, world_size=world)
    assert len(sampler) == len(sampler.begin())


def test_one_process_evaluates_in_order_in_batches_of_the_size_asked_for() -> None:
    assert batches_of(10, 4) == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = EpochBatches(torch.arange(50), 10, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return [batch.tolist() for batch in sampler.begin()]

    first = order(1, 2)
    torch.manual_seed(99)
    assert order(1, 2) == first
    assert order(1, 3) != first != order(2, 2)


def test_orders_of_the_ranks_are_shares_of_one_order() -> None:
    together = batches_of(12, 12, shuffle=True)[0][0]
    shares = batches_of(12, 4, world=3, shuffle=True)
    assert [share[0] for share in shares] == [together[rank::3] for rank in range(3)]


def test_orders_are_uniform() -> None:
    counts: dict[tuple[int, ...], int] = {}
    sampler = EpochBatches(torch.arange(3), 3, shuffle=True)
    for epoch in range(1200):
        sampler.set_epoch(epoch)
        order = tuple(sampler.begin()[0].tolist())
        counts[order] = counts.get(order, 0) + 1
    assert set(counts) == set(itertools.permutations(range(3)))
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi_square < 20.5  # 5 degrees of freedom, p = .001


def test_a_subset_is_gone_through_instead_of_all() -> None:
    chosen = torch.tensor([3, 8, 20])
    assert [batch.tolist() for batch in EpochBatches(chosen, 2).begin()] == [[3, 8], [20]]
    assert sorted(EpochBatches(chosen, 3, shuffle=True).begin()[0].tolist()) == [3, 8, 20]


def test_resume_goes_on_where_it_stopped_for_one_epoch_only() -> None:
    sampler = EpochBatches(torch.arange(20), 4, shuffle=True)
    sampler.set_epoch(3)
    whole = sampler.begin()
    resumed = EpochBatches(torch.arange(20), 4, shuffle=True)
    resumed.load_state_dict({"epoch": 3, "done": 2})
    resumed.set_epoch(3)
    assert len(resumed) == 5
    rest = resumed.begin()
    assert [batch.tolist() for batch in rest] == [batch.tolist() for batch in whole[2:]]
    assert resumed.done == 2
    assert len(resumed.begin()) == 5


def test_a_position_in_another_epoch_is_forgotten() -> None:
    sampler = EpochBatches(torch.arange(20), 4)
    sampler.load_state_dict({"epoch": 3, "done": 5})
    sampler.set_epoch(4)
    assert len(sampler.begin()) == 5
    assert sampler.state_dict() == {"epoch": 4, "done": 0, "batch_size": 4, "world_size": 1}


def test_iteration_pairs_every_index_with_the_epoch() -> None:
    sampler = EpochBatches(torch.arange(5), 2)
    sampler.set_epoch(7)
    assert list(sampler) == [[(7, 0), (7, 1)], [(7, 2), (7, 3)], [(7, 4)]]


@pytest.mark.parametrize("other", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_seeded_depends_on_every_argument_and_nothing_else(other: tuple[int, int, int, int]) -> None:
    draws = [torch.rand(4, generator=seeded(*key)).tolist() for key in ((0, 0, 0, 0), (0, 0, 0, 0), other)]
    assert draws[0] == draws[1] != draws[2]


def stopped_and_resumed(size, before, after, batches) -> list[int]:
    """What all ranks see of epoch 2 that stops after so many batches and goes on with other ranks.

    `before` and `after` are (batch size, ranks).
    """

    def ranks(batch_size, world):
        made = [
            EpochBatches(
                torch.arange(size), batch_size, shuffle=True, drop_last=True, seed=5, rank=rank, world_size=world
            )
            for rank in range(world)
        ]
        for sampler in made:
            sampler.set_epoch(2)
        return made

    first, seen = ranks(*before), []
    for sampler in first:
        for batch in itertools.islice(sampler.begin(), batches):
            seen += batch.tolist()
        sampler.done = batches  # as the loader counts them
    for sampler in ranks(*after):
        sampler.load_state_dict(first[0].state_dict())  # Lightning's checkpoint is the first rank's
        sampler.set_epoch(2)
        seen += [index for batch in sampler.begin() for index in batch.tolist()]
    return seen


WORLDS = [(1, 2), (2, 1), (2, 3), (8, 4), (3, 2), (1, 1)]


@pytest.mark.parametrize("same_step", [True, False], ids=["same step", "same batch size"])
@pytest.mark.parametrize(("before", "after"), WORLDS)
def test_another_number_of_ranks_sees_exactly_the_images_of_the_epoch_or_is_refused(before, after, same_step) -> None:
    """At every position in the epoch, at sizes that ranks and batches share evenly and that they do not."""
    sizes = (4 * after, 4 * before) if same_step else (4, 4)
    for size in (96, 101, 240):
        step = sizes[0] * before
        whole = batches_of(size, sizes[0], before, shuffle=True, drop_last=True, seed=5)
        for batches in range(1, len(whole[0])):
            if sizes[1] * after != step:
                with pytest.raises(
                    InputError,
                    match=rf"took 4 images on each of {before} process\(es\) in a step, this one takes 4 on {after}: ",
                ):
                    stopped_and_resumed(size, (sizes[0], before), (sizes[1], after), batches)
                continue
            seen = stopped_and_resumed(size, (sizes[0], before), (sizes[1], after), batches)
            assert len(seen) == len(set(seen)) == size - size % step


def test_a_position_of_a_release_that_did_not_say_its_ranks_is_taken() -> None:
    sampler = EpochBatches(torch.arange(20), 4)
    sampler.load_state_dict({"epoch": 0, "done": 2})
    assert [batch.tolist() for batch in sampler.begin()] == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]
