"""The mixtures of experts that are found in networks, and what only looks like one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from nested import Decoder, Experts, Listed, Weighed, symmetry_of
from torch import Tensor, nn

from rebasin_lt.symmetry.mixtures import find_mixtures
from rebasin_lt.symmetry.trace import trace_symmetry


class Row(nn.Module):
    """Blocks of one form that follow one another: no mixture."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in range(3))
        self.leave = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


class Talking(nn.Module):
    """Attention whose heads' logits are mixed: a matrix has heads without their channels, but there is no mixture."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 24), nn.Linear(8, 2)
        self.mix = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.enter(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        shares = self.mix((q @ k.mT).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
        return self.leave((shares @ v).transpose(1, 2).flatten(2))


class GatedHeads(nn.Module):
    """Attention, each of whose heads is multiplied by what a layer says of the token, as a router says of experts."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.embed, self.gate, self.leave = nn.Linear(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        self.q, self.k, self.v = (nn.Parameter(torch.randn(2, 4, 8)) for _ in "qkv")
        self.o = nn.Parameter(torch.randn(2, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (torch.einsum("hcd,btd->bhtc", weight, x) for weight in (self.q, self.k, self.v))
        if self.form == "rotary":  # queries and keys have no group then
            q, k = (heads + heads.flip(-1) * torch.arange(1.0, 5.0) for heads in (q, k))
        if self.form == "pairs":  # of keys with values, over all tokens so far
            mixed = (q.exp()[..., None] * (k.exp()[..., None] * v[..., None, :]).cumsum(2)).sum(-2)
        elif self.form == "at once":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.form == "sums":
            mixed = torch.einsum("bhst,bhtc->bhsc", torch.einsum("bhsc,bhtc->bhst", q, k).softmax(-1), v)
        else:
            mixed = (q @ k.mT).softmax(-1) @ v
        shares = self.gate(x).sigmoid()
        return self.leave(x + torch.einsum("hdc,bhtc,bth->btd", self.o, mixed, shares))


class Branches(nn.Module):
    """Modules of one form whose answers lie end to end, and a layer that reads them all."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)) for _ in range(3))
        self.leave = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.cat([branch(x) for branch in self.branches], -1).relu())


class GatedMaxout(nn.Module):
    """Units that are each the largest of four sums, times a gate: the next layer has a column of its own for each."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.up, self.leave = nn.Linear(3, 6), nn.Linear(6, 20), nn.Linear(5, 2)
        self.gate = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        return self.leave(self.up(x).view(-1, 5, 4).amax(-1) * self.gate(x).sigmoid())


class ExcitedGroups(nn.Module):
    """A grouped convolution whose answers are scaled by what a layer says of all of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.groups, self.leave = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 3, 1, groups=3), nn.Conv2d(3, 5, 1)
        self.scale = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        shares = self.scale(x.mean((2, 3))).sigmoid()
        return self.leave(self.groups(self.enter(x).relu()) * shares[..., None, None]).mean((2, 3))


class OfOneNumber(nn.Module):
    """Modules that answer one number each, of which a layer makes the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)) for _ in range(4))
        self.leave = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.cat([part(x) for part in self.parts], -1))


class ReadBeside(Experts):
    """A mixture whose shares are also read by a layer: that is no column of what an expert answers."""

    def __init__(self) -> None:
        super().__init__()
        self.aside = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.aside(self.gate(self.enter(x).relu()).softmax(-1))


def test_experts_are_found_stacked_and_listed_and_blocks_in_a_row_are_none() -> None:
    x = torch.randn(4, 3)
    (stacked,) = find_mixtures(trace_symmetry(Experts(), x))
    assert (stacked.name, stacked.num_experts, stacked.outer, stacked.hidden[0]) == ("", 4, "w1", ("w1[1]",))
    assert set(stacked.tensors[0]) == {"w1", "w2", "b1"}  # not the router
    (listed,) = find_mixtures(trace_symmetry(Listed(), x))
    assert (listed.name, listed.num_experts, listed.outer) == ("experts", 4, "gate.weight")
    assert set(listed.hidden) == {("experts.0.0.weight",)}
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    assert set(listed.tensors[3]) == {f"experts.{{0,1,2,3}}.{name}" for name in names}
    (weighed,) = find_mixtures(trace_symmetry(Weighed(), x))
    assert (weighed.name, weighed.num_experts, weighed.outer) == ("experts", 4, None)
    assert weighed.hidden[2] == ("experts.2.0.weight",)
    assert weighed.tensors[3] == tuple(f"experts.3.{name}" for name in names)
    assert find_mixtures(trace_symmetry(Row(), x)) == ()
    assert (
        find_mixtures(trace_symmetry(nn.TransformerEncoderLayer(8, 2, 4, batch_first=True), torch.randn(2, 3, 8))) == ()
    )


@pytest.mark.parametrize("name", ["vit", "encoder", "decoder", "rotary", "grouped"])
def test_heads_are_no_experts(name: str) -> None:
    symmetry = symmetry_of(name)
    assert symmetry.within  # units in heads or groups, as hidden units in experts
    assert find_mixtures(symmetry) == ()


def test_heads_with_rotary_positions_are_no_experts_with_queries_of_their_own_either() -> None:
    assert find_mixtures(trace_symmetry(Decoder(rotary=True, queries=1), torch.randint(11, (2, 5)))) == ()


def test_heads_that_are_mixed_are_no_experts() -> None:
    symmetry = trace_symmetry(Talking(), torch.randn(2, 5, 3))
    assert symmetry.within
    assert find_mixtures(symmetry) == ()


@pytest.mark.parametrize("form", ["at once", "sums", "products", "rotary", "pairs"])
def test_heads_with_a_gate_for_each_are_no_experts(form: str) -> None:
    symmetry = trace_symmetry(GatedHeads(form), torch.randn(2, 5, 3))
    assert set(symmetry.within.values()) == {("q",)}
    assert symmetry.meetings == {"q"}
    assert find_mixtures(symmetry) == ()


@pytest.mark.parametrize("name", ["experts", "topk", "listed", "averaged"])
def test_in_no_expert_activations_meet(name: str) -> None:
    assert symmetry_of(name).meetings == frozenset()


def test_branches_whose_answers_lie_end_to_end_are_no_experts() -> None:
    """They change places as experts do; their mean, three times over, is another network however they are aligned."""
    symmetry = trace_symmetry(Branches(), torch.randn(4, 3))
    assert symmetry.stacks
    assert find_mixtures(symmetry) == ()


@pytest.mark.parametrize(
    ("kind", "shape"), [(GatedMaxout, (4, 3)), (ExcitedGroups, (2, 3, 4, 4)), (OfOneNumber, (4, 3))]
)
def test_what_the_next_layer_reads_one_by_one_is_no_expert(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    symmetry = trace_symmetry(kind(), torch.randn(shape))
    ((_, outer),) = symmetry.within.items()
    assert symmetry.branches == {outer[0]}
    assert find_mixtures(symmetry) == ()


def test_experts_whose_shares_are_read_one_by_one_are_experts() -> None:
    symmetry = trace_symmetry(ReadBeside(), torch.randn(4, 3))
    assert symmetry.branches == frozenset()
    assert len(find_mixtures(symmetry)) == 1
