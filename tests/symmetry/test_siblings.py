"""Modules of one form that change places as wholes: which are found, and which must not be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from listed import Mixed, Mixing, shares, traced, written_into
from nested import Listed
from torch import Tensor, nn

from rebasin_lt.errors import SymmetryError
from rebasin_lt.symmetry import infer, sibling_types, siblings
from rebasin_lt.symmetry.stacks import stack_name


def slow(mixing: Mixing) -> Any:
    return pytest.param(mixing, marks=pytest.mark.slow)


def stacked_last(net: Listed, x: Tensor) -> Tensor:
    return (torch.stack([expert(x) for expert in net.experts], -1) * shares(net, x)[:, None]).sum(-1)


def by_einsum(net: Listed, x: Tensor) -> Tensor:
    return torch.einsum("ebo,be->bo", torch.stack([expert(x) for expert in net.experts]), shares(net, x))


def end_to_end(net: Listed, x: Tensor) -> Tensor:
    found = torch.cat([expert(x) for expert in net.experts], -1).view(-1, 4, 6)
    return torch.einsum("beo,be->bo", found, shares(net, x))


def scattered(net: Listed, x: Tensor) -> Tensor:
    best, chosen = net.gate(x).topk(2, -1)
    share = torch.zeros(len(x), 4, dtype=x.dtype).scatter(-1, chosen, best.softmax(-1))
    return sum(share[..., k, None] * expert(x) for k, expert in enumerate(net.experts))


def one_hot(net: Listed, x: Tensor) -> Tensor:
    best, chosen = shares(net, x).topk(2, -1)
    masks = F.one_hot(chosen, 4).permute(2, 1, 0)
    return sum((masks[k].T * best).sum(-1, keepdim=True) * expert(x) for k, expert in enumerate(net.experts))


def unbound(net: Listed, x: Tensor) -> Tensor:
    return sum(share[:, None] * expert(x) for share, expert in zip(shares(net, x).unbind(-1), net.experts, strict=True))


def cut(net: Listed, x: Tensor) -> Tensor:
    return sum(share * expert(x) for share, expert in zip(shares(net, x).chunk(4, -1), net.experts, strict=True))


def in_reverse(net: Listed, x: Tensor) -> Tensor:
    return sum(shares(net, x)[..., 3 - k, None] * expert(x) for k, expert in enumerate(net.experts))


def with_residual(net: Listed, x: Tensor) -> Tensor:
    return sum(shares(net, x)[..., k, None] * (x + expert(x)) for k, expert in enumerate(net.experts))


def largest(net: Listed, x: Tensor) -> Tensor:
    found = net.experts[0](x)
    for expert in net.experts[1:]:
        found = torch.maximum(found, expert(x))
    return found + shares(net, x).max(-1, keepdim=True).values


FOUND = [
    *(written_into, by_einsum, one_hot, unbound),
    *map(slow, (stacked_last, end_to_end, scattered, cut, in_reverse, with_residual)),
]


@pytest.mark.parametrize("mixing", FOUND)
def test_experts_change_places_with_their_rows_of_the_router_however_they_are_mixed(mixing: Mixing) -> None:
    symmetry = traced(Mixed(mixing))
    ((inner, (outer,)),) = symmetry.within.items()
    assert (symmetry.groups[inner], symmetry.groups[outer], len(symmetry.groups)) == (5, 4, 3)
    assert symmetry.axes["gate.weight"][0].groups == (outer,)
    assert [names[0] for names in symmetry.stacks.values()] == [
        f"experts.0.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")
    ]
    assert symmetry.error < 1e-12
    assert not symmetry.unknown


def test_experts_without_a_router_change_places_alone() -> None:
    symmetry = traced(Mixed(largest))
    assert dict(symmetry.within) == {"experts.0.0.weight[1]": ("experts.0.0.weight",)}
    assert symmetry.groups["experts.0.0.weight"] == symmetry.groups["gate.weight"] == 4


def weighed(net: Listed, x: Tensor) -> Tensor:
    return sum((k + 2) * shares(net, x)[..., k, None] * expert(x) for k, expert in enumerate(net.experts))


def one_is_read_again(net: Listed, x: Tensor) -> Tensor:
    found = [expert(x) for expert in net.experts]
    return sum(shares(net, x)[..., k, None] * found[k] for k in range(4)) + found[2].relu()


def one_counts_twice(net: Listed, x: Tensor) -> Tensor:
    found = [expert(x) for expert in net.experts]
    return found[0] + found[0] + found[1] + found[2] + found[3]


def later_overrules(net: Listed, x: Tensor) -> Tensor:
    found, chosen = torch.zeros_like(x), net.gate(x).argmax(-1)
    for k, expert in enumerate(net.experts):
        found = torch.where((chosen == k)[:, None], expert(x), found)
    return found


def one_after_another(net: Listed, x: Tensor) -> Tensor:
    for expert in net.experts:
        x = x + expert(x)
    return x


def difference(net: Listed, x: Tensor) -> Tensor:
    return net.experts[0](x) - net.experts[1](x) + (net.experts[2](x) - net.experts[3](x)).relu()


def into_what_all_share(net: Listed, x: Tensor) -> Tensor:
    """Each adds to what those before it left there."""
    shared = torch.zeros_like(x)
    return sum(shared.add_(expert(x)).relu() for expert in net.experts)


def overlapping_windows(net: Listed, x: Tensor) -> Tensor:
    wide = F.pad(x, (0, 3))
    return sum(wide[:, k : k + 1] * expert(x) for k, expert in enumerate(net.experts)) + net.gate(x).sum()


NOT_FOUND = [
    *(one_counts_twice, one_after_another, into_what_all_share, overlapping_windows),
    *map(slow, (weighed, one_is_read_again, later_overrules, difference)),
]


@pytest.mark.parametrize("mixing", NOT_FOUND)
def test_experts_that_are_told_apart_keep_their_places(mixing: Mixing) -> None:
    symmetry = traced(Mixed(mixing))
    assert not symmetry.stacks
    assert not symmetry.within
    assert {f"experts.{k}.0.weight" for k in range(4)} <= symmetry.groups.keys()
    assert symmetry.error < 1e-12


def test_some_of_several_change_places() -> None:
    """The rest of the router keeps its rows, and experts of another form their places."""

    def two_kinds(net: Listed, x: Tensor) -> Tensor:
        share = shares(net, x)
        return sum(share[..., k, None] * net.experts[k](x) for k in (0, 1)) + share[..., 2, None] * net.experts[3](x)

    network = Mixed(two_kinds)
    network.experts[3] = nn.Linear(6, 6)
    symmetry = traced(network)
    assert symmetry.groups["gate.weight"] == 2
    assert symmetry.stacks[stack_name(["experts.0.0.weight", "experts.1.0.weight"])]


def test_routers_and_experts_in_two_lists_are_one_group() -> None:
    class Pairs(Listed):
        def __init__(self) -> None:
            super().__init__()
            self.gates = nn.ModuleList(nn.Linear(6, 1) for _ in range(4))

        def mixed(self, x: Tensor) -> Tensor:
            share = torch.cat([gate(x) for gate in self.gates], -1).softmax(-1)
            return sum(share[:, k : k + 1] * expert(x) for k, expert in enumerate(self.experts)) + self.gate(x).sum()

    symmetry = traced(Pairs())
    gates = symmetry.places["gates.{0,1,2,3}.weight"][0].groups
    assert gates == symmetry.places["experts.{0,1,2,3}.0.weight"][0].groups
    assert symmetry.within["experts.0.0.weight"] == gates


def test_whole_networks_of_an_ensemble_change_places_with_their_statistics() -> None:
    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            self.members = nn.ModuleList(nn.Sequential(*map(copy.deepcopy, layers), nn.Linear(4, 3)) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([member(x).softmax(-1) for member in self.members]).mean(0)

    network = Ensemble()
    symmetry = traced(network, 2, 2, 5, 5)
    assert dict(symmetry.groups) == {"members.0.0.weight": 3, "members.0.0.weight[1]": 4}
    assert "members.{0,1,2}.1.running_var" in symmetry.stacks
    (point,) = symmetry.observations["members.0.0.weight[1]"]
    assert len(point.nodes) == 3


@pytest.mark.slow
def test_layers_of_mixtures_and_experts_of_heads() -> None:
    """Groups nested in those of experts: each expert has two halves, each with channels of its own."""

    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)
            self.scale = nn.Parameter(torch.randn(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            parts = self.up(x).view(-1, 2, 4) * self.scale
            return self.down((parts * parts.square().mean(2, keepdim=True)).flatten(1))

    network = nn.Sequential(Mixed(written_into), Mixed(written_into))
    network[1].enter = nn.Linear(2, 6)
    network[1].experts = nn.ModuleList(Halved() for _ in range(4))
    symmetry = traced(network)
    assert dict(symmetry.within) == {
        "0.experts.0.0.weight": ("0.gate.weight",),
        "1.experts.0.up.weight": ("1.gate.weight",),
        "1.experts.0.up.weight[1]": ("1.gate.weight", "1.experts.0.up.weight"),
    }
    assert symmetry.random()["1.experts.0.up.weight[1]"].shape == (4, 2, 4)


@pytest.mark.slow
def test_experts_in_experts_are_exchanged_within_each() -> None:
    """Of lists within lists the innermost change places; the outer ones keep theirs."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Linear(3, 6)
            self.mixtures = nn.ModuleList(Mixed(written_into) for _ in range(2))
            for mixture in self.mixtures:
                mixture.enter = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return sum(mixture(self.enter(x)) for mixture in self.mixtures)

    symmetry = traced(Twice())
    assert dict(symmetry.within) == {f"mixtures.{k}.experts.0.0.weight": (f"mixtures.{k}.gate.weight",) for k in (0, 1)}


def test_tied_experts_keep_their_places() -> None:
    network = Mixed(written_into)
    network.experts[1] = network.experts[0]
    assert all("{2,3}" in stack for stack in traced(network).stacks)
    network = Mixed(written_into)
    network.first = network.experts[0]  # the same tensors under a second name
    assert all("{1,2,3}" in stack for stack in traced(network).stacks)


def test_a_hidden_scale_that_all_experts_share_leaves_them_what_each_has_alone() -> None:
    """Exchanged, they would do alike what is not alike; as the scale ties their hidden units, they may."""

    def scaled(net: Listed, x: Tensor) -> Tensor:
        share = shares(net, x)
        return sum(
            share[:, k : k + 1] * expert[2](net.scale * expert[0](x).relu()) for k, expert in enumerate(net.experts)
        )

    network = Mixed(scaled)
    network.scale = nn.Parameter(torch.randn(5))
    symmetry = traced(network)
    assert symmetry.groups["gate.weight"] == 4
    assert not symmetry.within
    assert symmetry.axes["experts.3.0.weight"][0].groups == symmetry.axes["scale"][0].groups


@pytest.mark.slow
def test_what_is_wrong_about_siblings_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the proof left out finds symmetries that are none, which the numerical check refuses."""
    torch.manual_seed(0)
    wrong = [
        (siblings.Siblings, "is_closed", lambda self, changed: True, one_is_read_again),
        (siblings, "_form", lambda node: "", weighed),
        (siblings, "_SUMS", ("add", "sub"), difference),
        (sibling_types, "unify", lambda *_: None, cut),
        (sibling_types, "freeze", lambda *_: None, lambda net, x: compared_with_numbers(net, x)),
    ]
    for owner, name, changed, mixing in wrong:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, changed)
            with pytest.raises(SymmetryError, match="the symmetry found is not one of this network"):
                traced(Mixed(mixing))
    assert infer.SiblingTypes is sibling_types.SiblingTypes


def compared_with_numbers(net: Listed, x: Tensor) -> Tensor:
    """Whether a number that names no expert is that of this one."""
    number = (x.sum(-1) > 0).long() + 2 * (x[:, 0] > 1).long()
    return sum((number == k)[:, None] * expert(x) for k, expert in enumerate(net.experts)) + net.gate(x).sum()


def test_numbers_that_name_no_expert_keep_them_in_their_places() -> None:
    assert not traced(Mixed(compared_with_numbers)).stacks
