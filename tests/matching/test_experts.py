"""Experts aligned to one another: the function stays, planted orders come back, and merging loses less after it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from nested import Experts, Listed, Weighed, built
from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.experts import align_experts
from rebasin_lt.matching.shared import merged_experts, with_mask_of
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.mixtures import find_mixtures
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry


def with_equal_experts(kind: type[nn.Module]) -> tuple[nn.Module, Symmetry, Permutation]:
    """A mixture all of whose experts are one, each with its hidden units in an order of its own."""
    torch.manual_seed(0)
    network = kind().double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        if isinstance(network, Listed):
            for expert in network.experts:
                expert.load_state_dict(network.experts[0].state_dict())
        else:
            for parameter in (network.w1, network.b1, network.w2):
                parameter.copy_(parameter[:1].expand_as(parameter))
    symmetry = trace_symmetry(network, torch.randn(4, 3, dtype=torch.float64))
    hidden = {group for mixture in find_mixtures(symmetry) for groups in mixture.hidden for group in groups}
    drawn = symmetry.random(torch.Generator().manual_seed(1))
    orders = Permutation({g: drawn[g] if g in hidden else symmetry.identity()[g] for g in drawn}, symmetry.within)
    network.load_state_dict(symmetry.permute(network, orders))
    return network, symmetry, orders


class OneModule(Experts):
    """All tensors are parameters of one module, as a router's are that is written `x @ self.choose`."""

    def __init__(self) -> None:
        super().__init__()
        del self.gate
        self.choose, self.prefer = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4))
        self.b2 = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        shares = (x @ self.choose + self.prefer).softmax(-1)
        hidden = (torch.einsum("ehi,bi->ebh", self.w1, x) + self.b1).relu()
        return self.leave(torch.einsum("be,beo->bo", shares, torch.einsum("eoh,ebh->beo", self.w2, hidden) + self.b2))


class OfMixtures(nn.Module):
    """Mixtures in a mixture, the inner ones listed: those of the outer level keep their places."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.gate, self.leave = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 2)
        self.gates = nn.ModuleList(nn.Linear(6, 3) for _ in range(2))
        self.parts = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in range(3))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        shares, answers = self.gate(x).softmax(-1), []
        for gate, part in zip(self.gates, self.parts, strict=True):
            own = gate(x).softmax(-1)
            answers.append(sum(own[:, j, None] * expert(x) for j, expert in enumerate(part)))
        return self.leave(shares[:, :1] * answers[0] + shares[:, 1:] * answers[1])


kinds = pytest.mark.parametrize("kind", [Experts, Listed, Weighed])


def test_a_router_in_the_experts_own_module_stays_and_their_biases_are_merged() -> None:
    network = OneModule()
    symmetry = trace_symmetry(network, torch.randn(4, 3))
    (mixture,) = find_mixtures(symmetry)
    assert set(mixture.tensors[0]) == {"w1", "b1", "w2", "b2"}
    state = network.state_dict()
    merged = merged_experts(state, symmetry)
    assert {name for name in state if not torch.equal(merged[name], state[name])} == {"w1", "b1", "w2", "b2"}


def test_mixtures_in_a_mixture_are_aligned_each_by_itself() -> None:
    network = OfMixtures().double()
    x = torch.randn(8, 3, dtype=torch.float64)
    symmetry = trace_symmetry(network, x)
    assert [mixture.name for mixture in find_mixtures(symmetry)] == ["parts.0", "parts.1"]
    found = align_experts(network, symmetry)
    aligned = copy.deepcopy(network)
    aligned.load_state_dict(symmetry.permute(network, found.permutation))
    torch.testing.assert_close(aligned(x), network(x), atol=1e-10, rtol=1e-10)
    assert all(before < after for before, after in found.similarity.values())


@kinds
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_equal_experts_come_into_one_order_and_the_function_stays(kind: type[nn.Module], by: str) -> None:
    network, symmetry, _ = with_equal_experts(kind)
    batches = [torch.randn(64, 3, dtype=torch.float64)] if by == "activations" else None
    for expert in (0, 2):
        found = align_experts(network, symmetry, by=by, batches=batches, expert=expert)
        aligned = copy.deepcopy(network)
        aligned.load_state_dict(symmetry.permute(network, found.permutation))
        x = torch.randn(16, 3, dtype=torch.float64)
        torch.testing.assert_close(aligned(x), network(x), atol=1e-10, rtol=1e-10)
        ((before, after),) = found.similarity.values()
        assert before < 0.9
        assert after == pytest.approx(1)
        merged = copy.deepcopy(network)
        merged.load_state_dict(merged_experts(aligned.state_dict(), symmetry))
        torch.testing.assert_close(merged(x), network(x), atol=1e-10, rtol=1e-10)  # their mean is each of them
        merged.load_state_dict(merged_experts(network.state_dict(), symmetry))
        assert (merged(x) - network(x)).abs().max() > 1e-2  # and was not before


@kinds
def test_the_order_of_one_expert_is_kept_and_nothing_else_moves(kind: type[nn.Module]) -> None:
    network, symmetry, _ = with_equal_experts(kind)
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.data += torch.randn_like(parameter)
    found = align_experts(network, symmetry, expert=1)
    moved = symmetry.permute(network, found.permutation)
    expected = network.state_dict()
    for name in ("enter.weight", "gate.weight", "gate.bias", "leave.weight"):
        assert torch.equal(moved[name], expected[name])
    if kind is not Experts:
        assert torch.equal(moved["experts.1.0.weight"], expected["experts.1.0.weight"])
    else:
        assert torch.equal(moved["w1"][1], expected["w1"][1])
    ((before, after),) = found.similarity.values()
    assert before < after < 1


@kinds
def test_masks_follow_and_one_may_be_shared(kind: type[nn.Module]) -> None:
    network, symmetry, _ = with_equal_experts(kind)
    state = network.state_dict()
    names = ["w1", "w2"] if kind is Experts else [f"experts.{k}.{n}.weight" for k in range(4) for n in (0, 2)]
    mask = Mask({name: state[name] > 0 for name in names})
    shared = with_mask_of(mask.permuted(symmetry, align_experts(network, symmetry).permutation), symmetry)
    for name in names:  # experts are equal, so their masks are once they are aligned
        assert torch.equal(
            shared[name], symmetry.permute(state, align_experts(network, symmetry).permutation)[name] > 0
        )
    if kind is not Experts:
        one = Mask({names[0]: mask[names[0]]})
        with pytest.raises(InputError, match=r"mask has experts\.0\.0\.weight but not experts\.1\.0\.weight: one mask"):
            with_mask_of(one, symmetry)
    with pytest.raises(
        InputError, match=r"mask has no tensor of an expert, such as .*: there is nothing that the expe"
    ):
        with_mask_of(Mask({"enter.weight": state["enter.weight"] > 0}), symmetry)
    assert with_mask_of(mask, symmetry).content.keys() == mask.content.keys()
    assert any(not torch.equal(with_mask_of(mask, symmetry)[name], mask[name]) for name in names)


def test_what_cannot_be_is_refused() -> None:
    network, symmetry, _ = with_equal_experts(Experts)
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (network, {"by": "signs"}, "by is 'signs'"),
        (network, {"by": "activations"}, "batches is not given, but experts are aligned by activations"),
        (network, {"batches": []}, "batches is given, but experts are aligned by weights"),
        (network, {"by": "activations", "batches": []}, "batches is empty"),
        (network, {"expert": 4}, "expert is 4, but the network has 4: expected 0 to 3"),
        (plain, {}, "the network has no mixture of experts"),
    ]
    for model, settings, message in wrong:
        own = symmetry if model is network else trace_symmetry(plain, torch.randn(2, 3))
        with pytest.raises(InputError, match=message):
            align_experts(model, own, **settings)


def test_experts_that_see_different_tokens_are_refused_by_activations() -> None:
    class Halves(Listed):
        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x).relu()
            parts = [self.experts[0](x), self.experts[1](x), self.experts[2](x), self.experts[3](x[:, :1])]
            return self.leave(x + parts[0] + 2 * parts[1] + 3 * parts[2] + 4 * parts[3])

    network = Halves()
    symmetry = trace_symmetry(network, torch.randn(4, 5, 3))
    assert len(find_mixtures(symmetry)) == 1
    with pytest.raises(InputError, match="the experts of experts see different tokens"):
        align_experts(network, symmetry, by="activations", batches=[torch.randn(4, 5, 3)])


def test_experts_that_are_looked_up_are_aligned_by_weights_alone() -> None:
    class LookedUp(Experts):
        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x).relu()
            best, chosen = self.gate(x).max(-1, keepdim=True)
            labels = chosen.flatten()
            hidden = (torch.bmm(self.w1[labels], x[..., None]).squeeze(-1) + self.b1[labels, 0]).relu()
            return self.leave(x + best * torch.bmm(self.w2[labels], hidden[..., None]).squeeze(-1))

    network, symmetry, _ = with_equal_experts(LookedUp)
    ((before, after),) = align_experts(network, symmetry).similarity.values()
    assert before < 0.9
    assert after == pytest.approx(1)
    with pytest.raises(
        InputError, match="the hidden units of the network show for each token in its own experts alone"
    ):
        align_experts(network, symmetry, by="activations", batches=[torch.randn(4, 3, dtype=torch.float64)])


def test_experts_whose_hidden_units_show_nowhere_are_aligned_by_weights_and_told_so() -> None:
    """Both matrices of a low-rank expert are in one product: no routing keeps its units from being seen."""

    class LowRank(Experts):
        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x).relu()
            answers = torch.einsum("bd,ehd,eoh->beo", x, self.w1, self.w2)
            return self.leave(x + torch.einsum("beo,be->bo", answers, self.gate(x).softmax(-1)))

    network, symmetry, _ = with_equal_experts(LowRank)
    ((before, after),) = align_experts(network, symmetry).similarity.values()
    assert before < 0.9
    assert after == pytest.approx(1)
    x = torch.randn(64, 3, dtype=torch.float64)
    message = (
        r"^the hidden units w1\[1\] of the network show in nothing that the network computes, as where one product"
    )
    with pytest.raises(InputError, match=message):
        align_experts(network, symmetry, by="activations", batches=[x])
    with pytest.warns(UserWarning, match=r"^units of w1\[1\] are observed nowhere, .* or that one product of several"):
        match_activations(network, network, [x], symmetry)


def test_stacked_and_listed_experts_are_aligned_alike() -> None:
    stacked = built("experts", 5)
    listed = Listed().double()
    state = {name: tensor for name, tensor in stacked.state_dict().items() if name in listed.state_dict()}
    for k in range(4):
        state |= {
            f"experts.{k}.0.weight": stacked.w1[k].detach(),
            f"experts.{k}.0.bias": stacked.b1[k, 0].detach(),
            f"experts.{k}.2.weight": stacked.w2[k].detach(),
            f"experts.{k}.2.bias": torch.zeros(6, dtype=torch.float64),
        }
    listed.load_state_dict(state)
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(stacked(x), listed(x))
    found = [align_experts(network, trace_symmetry(network, x)) for network in (stacked, listed)]
    for k in range(4):
        assert torch.equal(found[0].permutation["w1[1]"][k], found[1].permutation["experts.0.0.weight"][k])
