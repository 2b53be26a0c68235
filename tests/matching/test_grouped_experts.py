"""Experts that change places within groups of experts: a router chooses groups first, then experts within these."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from nested import Experts
from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.experts import align_experts
from rebasin_lt.matching.shared import merged_experts, with_mask_of
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.mixtures import find_mixtures
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

GROUPS, EACH = 4, 2


class ByGroups(Experts):
    """8 experts in 4 groups, of which the two with the best pairs are chosen, and of these three experts."""

    def __init__(self) -> None:
        super().__init__()
        experts = GROUPS * EACH
        self.gate = nn.Linear(6, experts)
        self.w1, self.w2 = nn.Parameter(torch.randn(experts, 5, 6)), nn.Parameter(torch.randn(experts, 6, 5))
        self.b1 = nn.Parameter(torch.randn(experts, 1, 5))

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.gate(x).sigmoid().view(-1, GROUPS, EACH)
        groups = self.listened_to(scores.topk(2, -1)[0].sum(-1).topk(2, -1)[1])
        return (scores * groups[..., None]).flatten(1).topk(3, -1)

    def listened_to(self, groups: Tensor) -> Tensor:
        return F.one_hot(groups, GROUPS).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        best, chosen = self.chosen(x)
        shares = (F.one_hot(chosen, GROUPS * EACH) * best[..., None]).sum(1)
        hidden = (torch.einsum("ehd,bd->ebh", self.w1, x) + self.b1).relu()
        return self.leave(x + torch.einsum("edh,ebh,be->bd", self.w2, hidden, shares))


class LookedUpByGroups(ByGroups):
    """The same, where each example gets the weights of its experts."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        best, chosen = self.chosen(x)
        rows, labels = x.repeat_interleave(3, 0), chosen.flatten()
        hidden = (torch.bmm(self.w1[labels], rows[..., None]).squeeze(-1) + self.b1[labels, 0]).relu()
        given = torch.bmm(self.w2[labels], hidden[..., None]).squeeze(-1)
        return self.leave(x + (given * best.flatten()[:, None]).view(-1, 3, 6).sum(1))


kinds = pytest.mark.parametrize("kind", [ByGroups, LookedUpByGroups])


def drawn(batch: int = 96) -> Tensor:
    return 3 * torch.randn(batch, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def built(kind: type[ByGroups]) -> tuple[ByGroups, Symmetry]:
    """No hidden unit is silent on all examples, for such ones have no order by activations."""
    torch.manual_seed(0)
    network = kind().double()
    with torch.no_grad():
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        network.b1.copy_(network.b1.abs() + 4)
    return network, trace_symmetry(network, drawn(6))


@kinds
def test_experts_are_those_of_all_groups_together(kind: type[ByGroups]) -> None:
    _, symmetry = built(kind)
    (mixture,) = find_mixtures(symmetry)
    assert (mixture.num_experts, mixture.path) == (8, ("gate.weight", "gate.weight[1]"))
    assert mixture.hidden == (("w1",),) * 8
    assert set(mixture.tensors[0]) == {"w1", "b1", "w2"}  # not the router
    assert [symmetry.groups[group] for group in mixture.path] == [GROUPS, EACH]


@kinds
@pytest.mark.parametrize("method", ["weights", "activations"])
def test_permutation_of_groups_of_their_experts_and_of_hidden_units_comes_back(
    kind: type[ByGroups], method: str
) -> None:
    network, symmetry = built(kind)
    twin = copy.deepcopy(network)
    twin.load_state_dict(symmetry.permute(network, symmetry.random(torch.Generator().manual_seed(3))))
    if method == "weights":
        found = match_weights(network, twin, symmetry).permutation
    else:
        found = match_activations(network, twin, [drawn(256)], symmetry).permutation
    moved = symmetry.permute(network, found)
    assert all(torch.equal(moved[name], tensor) for name, tensor in twin.state_dict().items())


def with_equal_experts(kind: type[ByGroups]) -> tuple[ByGroups, Symmetry]:
    """All experts are one, each with its hidden units in an order of its own."""
    network, symmetry = built(kind)
    with torch.no_grad():
        for parameter in (network.w1, network.b1, network.w2):
            parameter.copy_(parameter[:1].expand_as(parameter))
    order = symmetry.random(torch.Generator().manual_seed(1))["w1"]
    network.load_state_dict(
        symmetry.permute(network, Permutation({**symmetry.identity(), "w1": order}, symmetry.within))
    )
    return network, symmetry


@kinds
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_their_hidden_units_come_into_the_order_of_one(kind: type[ByGroups], by: str) -> None:
    network, symmetry = with_equal_experts(kind)
    batches = None if by == "weights" else [drawn(256)]
    if batches and kind is LookedUpByGroups:
        with pytest.raises(InputError, match="no two experts see the same tokens: align them by weights"):
            align_experts(network, symmetry, by=by, batches=batches)
        return
    for expert in (0, 5):
        found = align_experts(network, symmetry, by=by, batches=batches, expert=expert)
        assert found.permutation["w1"].shape == (GROUPS, EACH, 5)
        aligned = copy.deepcopy(network)
        aligned.load_state_dict(symmetry.permute(network, found.permutation))
        torch.testing.assert_close(aligned(drawn()), network(drawn()), atol=1e-10, rtol=1e-10)
        assert torch.equal(aligned.w1, network.w1[expert].expand_as(network.w1))
        ((before, after),) = found.similarity.values()
        assert before < 0.9
        assert after == pytest.approx(1)
        merged = merged_experts({**aligned.state_dict(), "w2": torch.randn_like(network.w2)}, symmetry)
        assert torch.equal(merged["w2"], merged["w2"][:1].expand_as(merged["w2"]))
        assert torch.equal(merged["gate.weight"], network.gate.weight)


def test_mask_of_one_is_that_of_all() -> None:
    network, symmetry = with_equal_experts(ByGroups)
    mask = Mask({name: network.state_dict()[name] > 0 for name in ("w1", "w2", "gate.weight")})
    shared = with_mask_of(mask, symmetry, 5)
    for name in ("w1", "w2"):
        assert torch.equal(shared[name], mask[name][5].expand_as(mask[name]))
    assert torch.equal(shared["gate.weight"], mask["gate.weight"])


class Masked(ByGroups):
    """Scores of the other groups are set to 0 by a mask: of equal ones any may be chosen."""

    def listened_to(self, groups: Tensor) -> Tensor:
        return torch.zeros(len(groups), GROUPS, dtype=groups.dtype).scatter(1, groups, 1)


def test_experts_whose_scores_are_set_to_be_equal_keep_their_places() -> None:
    _, symmetry = built(Masked)
    assert sorted(symmetry.groups.values()) == [5, 6]  # hidden units alike in all experts, and the stream
    assert {found.reason for found in symmetry.frozen if found.name == "w1"} == {
        "of equal elements topk chooses the first"
    }
    assert find_mixtures(symmetry) == ()
