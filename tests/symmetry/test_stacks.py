"""Tensors that change places as wholes: networks, masks and stacks of them under a permutation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nested import built, planted, symmetry_of

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.stacks import stacked_state, unstacked_state


@pytest.mark.parametrize("name", ["listed", "listed, topk", "averaged"])
def test_masks_and_networks_travel_alike_and_back(name: str, tmp_path: Path) -> None:
    network, twin, symmetry, permutation = planted(name, 3)
    x = torch.randn(9, 3, dtype=torch.float64)
    torch.testing.assert_close(twin(x), network(x), rtol=1e-12, atol=1e-12)
    outer = symmetry.within[next(iter(symmetry.within))][0]
    assert not torch.equal(permutation[outer], torch.arange(4))
    mask = Mask({key: tensor > 0 for key, tensor in network.named_parameters()})
    moved = mask.permuted(symmetry, permutation)
    assert all(torch.equal(moved[key], tensor > 0) for key, tensor in twin.named_parameters())
    permutation.save(tmp_path / "a.perm.safetensors")
    back = symmetry.permute(twin, Permutation.load(tmp_path / "a.perm.safetensors").inverse())
    assert all(torch.equal(back[key], tensor) for key, tensor in network.state_dict().items())
    for k in range(4):  # each is one of the others, with its hidden units in another order
        other = int(permutation[outer][k])
        ours, theirs = (n.experts[i][0].bias.sort().values for n, i in ((twin, k), (network, other)))
        assert torch.equal(ours, theirs)


def test_stacks_hold_what_their_members_do() -> None:
    network, symmetry = built("listed"), symmetry_of("listed")
    state = network.state_dict()
    stacked = stacked_state(state, symmetry.stacks)
    assert stacked["experts.{0,1,2,3}.2.weight"].shape == (4, 6, 5)
    assert stacked.keys() == symmetry.places.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in unstacked_state(stacked, symmetry.stacks).items())
    drawn = symmetry.random(torch.Generator().manual_seed(0))
    permuted = symmetry.permute(stacked, drawn)
    expected = stacked_state(symmetry.permute(state, drawn), symmetry.stacks)
    assert all(torch.equal(permuted[name], tensor) for name, tensor in expected.items())


def test_members_that_are_missing_or_of_another_dtype_are_refused() -> None:
    symmetry = symmetry_of("listed")
    name = "experts.{}.0.weight"
    given = {name.format(k): torch.randn(5, 6) for k in (0, 1)}
    drawn = symmetry.random(torch.Generator().manual_seed(0))
    swapped = {**symmetry.identity(), "gate.weight": torch.tensor([1, 0, 3, 2])}
    assert torch.equal(symmetry.permute(given, swapped)[name.format(0)], given[name.format(1)])
    stays = {**symmetry.identity(), "experts.0.0.weight": drawn["experts.0.0.weight"]}
    moved = symmetry.permute(given, stays)
    assert torch.equal(moved[name.format(1)], given[name.format(1)][drawn["experts.0.0.weight"][1]])
    away = {**symmetry.identity(), "gate.weight": torch.tensor([2, 1, 0, 3])}
    with pytest.raises(InputError, match="tensors has experts.0.0.weight, but not experts.2.0.weight, which comes to"):
        symmetry.permute(given, away)
    given[name.format(1)] = given[name.format(1)].double()
    with pytest.raises(
        InputError, match=r"experts.1.0.weight is torch.float64, but experts.0.0.weight, .* torch.float32"
    ):
        symmetry.permute(given, symmetry.identity())
    with pytest.raises(InputError, match=r"experts.0.0.weight has shape \(3, 3\), expected \(5, 6\)"):
        symmetry.permute({name.format(0): torch.zeros(3, 3)}, symmetry.identity())
