"""Rows whose tokens each network chooses for its experts say nothing of two networks, and do not count."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from nested import Experts, Listed, TopK, Weighed
from test_shared_tokens import (
    Broadcast,
    ByIndex,
    ByMatrix,
    ByProduct,
    BySum,
    InTurn,
    OfOneExpertEach,
    OfThreeExpertsBetween,
    OfTwoExpertsEach,
    SharesBetween,
)
from torch import nn

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.chosen_rows import ChosenRows
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.symmetry.mixtures import find_mixtures
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

CHOSEN = [ByIndex, ByProduct, ByMatrix, BySum, InTurn]
SHARED = [
    *(Experts, TopK, Broadcast, Listed, Weighed, SharesBetween),
    *(OfOneExpertEach, OfTwoExpertsEach, OfThreeExpertsBetween),
]


def traced(kind: type[nn.Module]) -> tuple[nn.Module, Symmetry]:
    torch.manual_seed(0)
    network = kind()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    network = network.double()
    return network, trace_symmetry(network, torch.randn(64, 3, dtype=torch.float64))


def routed_otherwise(network: nn.Module, symmetry: Symmetry) -> tuple[nn.Module, Permutation]:
    """A twin with the hidden units of each expert in another order, whose router chooses other tokens."""
    hidden = {group for mixture in find_mixtures(symmetry) for groups in mixture.hidden for group in groups}
    drawn = symmetry.random(torch.Generator().manual_seed(1))
    orders = Permutation({g: drawn[g] if g in hidden else symmetry.identity()[g] for g in drawn}, symmetry.within)
    twin = copy.deepcopy(network)
    twin.load_state_dict(symmetry.permute(network, orders))
    with torch.no_grad():
        twin.gate.weight.add_(torch.randn_like(twin.gate.weight), alpha=0.3)
    return twin, orders


@pytest.mark.parametrize("kind", CHOSEN)
def test_what_units_do_on_tokens_of_an_experts_choice_does_not_count(kind: type[nn.Module]) -> None:
    network, symmetry = traced(kind)
    twin, orders = routed_otherwise(network, symmetry)
    batches = [torch.randn(64, 3, dtype=torch.float64) for _ in range(6)]
    where = "w1" if kind is ByIndex else "enter.weight, w1"  # the stream too, as the experts are given it
    with pytest.warns(UserWarning, match=rf"^rows of {where} are not seen to be of the same tokens "):
        found = match_activations(network, twin, batches, symmetry)
    assert found.permutation == orders
    assert not found.live["w1"].any()
    assert found.live["enter.weight"].all()


@pytest.mark.parametrize("expert", [0, 2])
@pytest.mark.parametrize("kind", CHOSEN)
def test_they_are_noticed_where_an_expert_is_dead(kind: type[nn.Module], expert: int) -> None:
    network, symmetry = traced(kind)
    with torch.no_grad():
        network.w1[expert, 1:] = 0
        network.b1[expert] = 0
    with pytest.warns(UserWarning, match=r"are not seen to be of the same tokens"):
        match_activations(network, network, [torch.randn(64, 3, dtype=torch.float64)], symmetry)


@pytest.mark.parametrize("kind", SHARED)
def test_rows_of_the_same_tokens_count_whoever_chooses_them(kind: type[nn.Module]) -> None:
    network, symmetry = traced(kind)
    twin, orders = routed_otherwise(network, symmetry) if hasattr(network, "gate") else (network, symmetry.identity())
    batches = [torch.randn(64, 3, dtype=torch.float64) for _ in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = match_activations(network, twin, batches, symmetry)
    assert found.permutation == orders
    assert all(live.any() for live in found.live.values())


def test_the_warning_names_the_units_that_weights_alone_match() -> None:
    network, symmetry = traced(ByProduct)
    batches = [torch.randn(64, 3, dtype=torch.float64) for _ in range(2)]
    message = (
        r"^rows of enter\.weight, w1 are not seen to be of the same tokens in both networks, as where experts choose "
        r"theirs: what units do there does not count; units of w1 are matched by their weights alone$"
    )
    with pytest.warns(UserWarning, match=message):
        match_activations(network, network, batches, symmetry)


@pytest.mark.parametrize("kind", [nn.Identity, Experts])
def test_only_networks_with_experts_are_run_once_more_and_only_in_the_first_calls(kind, monkeypatch) -> None:
    if kind is Experts:
        network, symmetry = traced(Experts)
    else:
        network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
        symmetry = trace_symmetry(network, torch.randn(2, 3, dtype=torch.float64))
    seen, observe = [], Symmetry.observe
    monkeypatch.setattr(Symmetry, "observe", lambda *given: (seen.append(1), observe(*given))[1])
    match_activations(network, network, [torch.randn(16, 3, dtype=torch.float64) for _ in range(9)], symmetry)
    assert len(seen) == 9 + (4 if kind is Experts else 0)


def test_weights_match_such_experts_as_ever() -> None:
    network, symmetry = traced(InTurn)
    twin, orders = routed_otherwise(network, symmetry)
    assert match_weights(network, twin, symmetry).permutation == orders
    assert not ChosenRows(network.state_dict(), symmetry).points()  # nothing is said before a call was looked at
