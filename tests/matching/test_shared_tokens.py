"""Experts are aligned by activations only where the rows of their hidden units are of the same tokens."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from nested import Experts, Listed, TopK, Weighed
from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.matching.experts import align_experts
from rebasin_lt.matching.shared import merged_experts
from rebasin_lt.symmetry.mixtures import find_mixtures
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

EACH = 24
"""How many tokens an expert takes."""


class ByIndex(Experts):
    """Each expert chooses its tokens, of which its rows are; subclasses bring them there in ways of their own."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        scores = self.gate(x).softmax(-1).T  # (experts, tokens)
        best, chosen = scores.topk(EACH, -1)
        places = F.one_hot(chosen, len(x)).to(x)  # (experts, rows, tokens)
        given = self.answers(self.sent(x, chosen, places)) * best[..., None]
        return self.leave(x + torch.einsum("ekd,ekb->bd", given, places))

    def answers(self, rows: Tensor) -> Tensor:
        return torch.bmm((torch.bmm(rows, self.w1.transpose(1, 2)) + self.b1).relu(), self.w2.transpose(1, 2))

    def sent(self, x: Tensor, chosen: Tensor, places: Tensor) -> Tensor:
        return x[chosen]


class ByProduct(ByIndex):
    def sent(self, x: Tensor, chosen: Tensor, places: Tensor) -> Tensor:
        return torch.einsum("ekb,bd->ekd", places, x)


class ByMatrix(ByIndex):
    def sent(self, x: Tensor, chosen: Tensor, places: Tensor) -> Tensor:
        return torch.matmul(places, x)


class BySum(ByIndex):
    def sent(self, x: Tensor, chosen: Tensor, places: Tensor) -> Tensor:
        return (places[..., None] * x).sum(2)


class InTurn(ByIndex):
    """Each token chooses an expert, in which it gets the first row that is free; those that come too late get none."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        scores = self.gate(x).softmax(-1)
        chosen = F.one_hot(scores.argmax(-1), 4)
        turn = chosen.cumsum(0) * chosen
        places = (turn[..., None] == torch.arange(1, EACH + 1)).to(x)  # (tokens, experts, rows)
        given = self.answers(torch.einsum("bek,bd->ekd", places, x))
        return self.leave(x + torch.einsum("ekd,bek,be->bd", given, places, scores))


class OfOneExpertEach(Experts):
    """All tokens lie in the rows of all experts, but are nothing there where the expert is not chosen."""

    num_chosen = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        chosen = F.one_hot(self.gate(x).topk(self.num_chosen, -1)[1], 4).sum(1).to(x)
        hidden = torch.einsum("ehd,ebd->ebh", self.w1, x * chosen.T[..., None]).relu() + 0 * self.b1
        return self.leave(x + torch.einsum("eoh,ebh->bo", self.w2, hidden))


class OfTwoExpertsEach(OfOneExpertEach):
    num_chosen = 2


class OfThreeExpertsBetween(Experts):
    """Hidden units of those experts that are not chosen are nothing to what reads them."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        chosen = F.one_hot(self.gate(x).topk(3, -1)[1], 4).sum(1).to(x)
        hidden = (torch.einsum("ehd,bd->ebh", self.w1, x) + self.b1).relu() * chosen.T[..., None]
        return self.leave(x + torch.einsum("edh,ebh->bd", self.w2, hidden))


class Broadcast(Experts):
    """The same tokens are laid out once for each expert."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        rows = x[None].expand(4, *x.shape)
        hidden = (torch.bmm(rows, self.w1.transpose(1, 2)) + self.b1).relu()
        given = torch.bmm(hidden, self.w2.transpose(1, 2))
        return self.leave(x + torch.einsum("ebd,be->bd", given, self.gate(x).softmax(-1)))


class SharesBetween(Experts):
    """What hidden units do is multiplied by the share of their expert before it is read."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        hidden = (torch.einsum("ehd,bd->ebh", self.w1, x) + self.b1).relu()
        hidden = hidden * (self.gate(x) / 8).softmax(-1).T[..., None]
        return self.leave(x + torch.einsum("edh,ebh->bd", self.w2, hidden))


def with_equal_experts(kind: type[nn.Module], dtype: torch.dtype) -> tuple[nn.Module, Symmetry]:
    """A mixture all of whose experts are one, each with its hidden units in an order of its own."""
    torch.manual_seed(0)
    network = kind()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        if isinstance(network, Listed):
            for expert in network.experts:
                expert.load_state_dict(network.experts[0].state_dict())
        else:
            for parameter in (network.w1, network.b1, network.w2):
                parameter.copy_(parameter[:1].expand_as(parameter))
    network = network.to(dtype)
    symmetry = trace_symmetry(network, torch.randn(64, 3, dtype=dtype))
    hidden = {group for mixture in find_mixtures(symmetry) for groups in mixture.hidden for group in groups}
    drawn = symmetry.random(torch.Generator().manual_seed(1))
    orders = Permutation({g: drawn[g] if g in hidden else symmetry.identity()[g] for g in drawn}, symmetry.within)
    network.load_state_dict(symmetry.permute(network, orders))
    return network, symmetry


def loss_of_merging(network: nn.Module, symmetry: Symmetry, permutation: Permutation) -> float:
    x = torch.randn(64, 3, dtype=next(network.parameters()).dtype)
    merged = copy.deepcopy(network)
    merged.load_state_dict(merged_experts(symmetry.permute(network, permutation), symmetry))
    return float((merged(x) - network(x)).detach().abs().max())


@pytest.mark.parametrize("kind", [ByIndex, ByProduct, ByMatrix, BySum, InTurn, OfOneExpertEach, OfTwoExpertsEach])
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_experts_in_whose_rows_are_tokens_of_their_own_are_aligned_by_weights_alone(
    kind: type[nn.Module], by: str
) -> None:
    network, symmetry = with_equal_experts(kind, torch.float64)
    if by == "weights":
        found = align_experts(network, symmetry)
        assert loss_of_merging(network, symmetry, found.permutation) < 1e-10
        return
    message = (
        r"^the hidden units of the network show for each token in its own experts alone, so that no two experts see "
        r"the same tokens: align them by weights$"
    )
    with pytest.raises(InputError, match=message):
        align_experts(network, symmetry, by=by, batches=[torch.randn(64, 3, dtype=torch.float64)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", [Experts, TopK, Broadcast, Listed, Weighed, SharesBetween, OfThreeExpertsBetween])
def test_experts_that_see_the_same_tokens_are_aligned_by_activations(kind: type[nn.Module], dtype: torch.dtype) -> None:
    network, symmetry = with_equal_experts(kind, dtype)
    batches = [torch.randn(size, 3, dtype=dtype) for size in (200, 1, 64)]
    for expert in (0, 3):
        found = align_experts(network, symmetry, by="activations", batches=batches, expert=expert)
        assert loss_of_merging(network, symmetry, found.permutation) < (1e-10 if dtype == torch.float64 else 1e-3)
