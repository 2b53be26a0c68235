"""Units of experts are observed on the samples that reach their expert, sample by sample."""

from __future__ import annotations

from typing import Any

import nested
import operators_by_index  # its grouped product is recorded by name
import pytest
import torch
from looked_up import LOOKED_UP, InOrder, examples, traced
from torch import Tensor, nn

from rebasin_lt.symmetry.routes import Reached
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

assert operators_by_index.UNITS


class InRanges(InOrder):
    """Rows in order, multiplied range by range."""

    def product(self, matrices: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        counts = torch.histc(labels.to(torch.float64), 4, 0, 3)
        ends = counts.cumsum(0).to(torch.int32)
        return torch.ops.transformers.grouped_mm_fallback(rows, matrices.transpose(1, 2), ends)


class ChangedInOrder(InOrder):
    """What rows are made of is worked on, and read, in the order of their labels."""

    def product(self, matrices: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        return super().product(matrices, rows.relu(), labels)


NETWORKS = {**LOOKED_UP, "rows in ranges": (InRanges, (3,)), "changed in order": (ChangedInOrder, (3,))}
by_name = pytest.mark.parametrize("name", NETWORKS)


def hidden_of(symmetry: Symmetry) -> str:
    (hidden,) = symmetry.within
    return hidden


def observed(symmetry: Symmetry, states: list[Any], x: Tensor) -> dict[tuple[str, int], list[Any]]:
    """What was seen of each group, under each state; of units that only some reach, (samples, experts, units)."""
    found: dict[tuple[str, int], list[Any]] = {}

    def visit(group: str, k: int, units: list[Any]) -> None:
        found[group, k] = [dense(own) if isinstance(own, Reached) else own.clone() for own in units]

    symmetry.observe(states, (x,), visit)
    return found


def dense(units: Reached) -> Tensor:
    table = torch.full((int(units.samples.max()) + 1, 4, units.rows.shape[1]), torch.nan, dtype=torch.float64)
    assert len(torch.stack([units.samples, units.outer]).unique(dim=1)[0]) == len(units.rows)
    table[units.samples, units.outer] = units.rows
    return table


@by_name
def test_each_expert_shows_what_it_does_on_the_samples_that_reach_it(name: str) -> None:
    (network, symmetry), x = traced(*NETWORKS[name]), 5 * examples(9, NETWORKS[name][1])
    found = observed(symmetry, [network.state_dict()], x)
    (units,) = found[hidden_of(symmetry), 0]
    tokens = network.enter(x).relu().flatten(0, -2)
    logits = network.gate(tokens)
    reach = logits >= logits.sort(-1).values[:, -1 if name == "one row each" else -2, None]
    every = (torch.einsum("ehd,bd->beh", network.w1, tokens) + network.b1[:, 0]).relu()
    torch.testing.assert_close(units, torch.where(reach[..., None], every, torch.nan), equal_nan=True)


@by_name
def test_permuted_weights_show_permuted_units_sample_by_sample(name: str) -> None:
    """Rows that lie in the order of labels lie in another under a permutation of experts, samples do not."""
    (network, symmetry), x = traced(*NETWORKS[name]), 5 * examples(20, NETWORKS[name][1])
    permutation = symmetry.random(torch.Generator().manual_seed(0))  # no expert keeps its place
    states = [network.state_dict(), symmetry.permute(network, permutation)]
    found = observed(symmetry, states, x)
    assert {group for group, _ in found} == symmetry.groups.keys()
    for (group, _), (units, moved) in found.items():
        index = symmetry.joint(permutation, group)
        first, second = (own.flatten(1) if group == hidden_of(symmetry) else own for own in (units, moved))
        torch.testing.assert_close(second, first[..., index], equal_nan=True, msg=f"{group} in {name}")


@by_name
def test_each_sample_shows_what_it_does_whatever_others_are_in_its_batch(name: str) -> None:
    """Rows in the order of labels are no samples, nor is a mean over them one."""
    (network, symmetry), x = traced(*NETWORKS[name]), 5 * examples(7, NETWORKS[name][1])
    whole = observed(symmetry, [network.state_dict()], x)
    single = [observed(symmetry, [network.state_dict()], sample[None]) for sample in x]
    for point, (units,) in whole.items():
        expected = torch.cat([found[point][0] for found in single])
        torch.testing.assert_close(units, expected, equal_nan=True, msg=f"{point} in {name}")


@pytest.mark.parametrize("name", ["topk", "listed, topk"])
def test_experts_that_are_all_computed_show_what_they_do_on_the_samples_that_have_a_share_of_them(name: str) -> None:
    network, symmetry, x = nested.built(name), nested.symmetry_of(name), nested.NESTED[name][1](9)
    found: list[Reached] = []
    symmetry.observe(
        [network.state_dict()], (x,), lambda group, _, units: found.extend(units if group in symmetry.within else [])
    )
    (units,) = found
    h = network.enter(x).relu()
    logits = network.gate(h)
    reach = logits >= logits.sort(-1).values[:, -2, None]
    if name == "topk":
        every = (torch.einsum("ehd,bd->beh", network.w1, h) + network.b1[:, 0]).relu()
    else:
        every = torch.stack([expert[:2](h) for expert in network.experts], 1)
    torch.testing.assert_close(dense(units), torch.where(reach[..., None], every, torch.nan), equal_nan=True)
    torch.testing.assert_close(units.every.flatten(0, -2), every.flatten(1))


@pytest.mark.parametrize("name", ["experts", "listed", "averaged"])
def test_experts_of_which_every_sample_has_a_share_show_what_they_do_on_all(name: str) -> None:
    symmetry = nested.symmetry_of(name)
    assert all(point.route is None for points in symmetry.observations.values() for point in points)


class Late(nested.TopK):
    """The router is asked after its experts have answered, for each token or for whole sequences."""

    by_token = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        hidden = (torch.einsum("ehd,btd->ebth", self.w1, x) + self.b1[:, None]).relu()
        given = torch.einsum("edh,ebth->ebtd", self.w2, hidden)
        logits = self.gate(x if self.by_token else x.mean(1))
        best, chosen = logits.topk(2, -1)
        shares = torch.zeros_like(logits).scatter(-1, chosen, best.softmax(-1))
        return self.leave(x + torch.einsum("ebtd,bte->btd" if self.by_token else "ebtd,be->btd", given, shares))


@pytest.mark.parametrize("by_token", [True, False])
def test_shares_are_waited_for_and_count_where_each_sample_has_its_own(by_token: bool) -> None:
    """Shares of whole sequences are those of no token: then units are observed on all, as they were."""
    network = Late().double()
    network.by_token = by_token
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    symmetry = trace_symmetry(network, x[:2])
    (hidden,) = symmetry.within
    found: dict[str, list[Any]] = {}
    symmetry.observe([network.state_dict()], (x,), lambda group, _, units: found.__setitem__(group, units))
    (units,) = found[hidden]
    assert isinstance(units, Reached) == by_token
    if by_token:
        assert len(units.rows) == 2 * 30
        every = (torch.einsum("ehd,btd->bteh", network.w1, network.enter(x).relu()) + network.b1[:, 0]).relu()
        torch.testing.assert_close(units.rows, every.flatten(0, 1)[units.samples, units.outer])


class WrittenOver(Late):
    """Hidden units are worked on where they lie, before the router is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Parameter(torch.randn(4, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        hidden = (torch.einsum("ehd,bd->ebh", self.w1, x) + self.b1).relu()
        hidden += torch.einsum("ehk,ebk->ebh", self.again, hidden)
        given = torch.einsum("edh,ebh->ebd", self.w2, hidden)
        best, chosen = self.gate(x).topk(2, -1)
        shares = torch.zeros_like(given[:, :, 0].T).scatter(-1, chosen, best.softmax(-1))
        return self.leave(x + torch.einsum("ebd,be->bd", given, shares))


def test_units_that_wait_for_shares_are_those_of_their_step_though_they_are_written_over_meanwhile() -> None:
    network = WrittenOver().double()
    x = examples(9, (3,))
    symmetry = trace_symmetry(network, x)
    (hidden,) = symmetry.within
    found = observed(symmetry, [network.state_dict()], x)
    h = network.enter(x).relu()
    first = (torch.einsum("ehd,bd->beh", network.w1, h) + network.b1[:, 0]).relu()
    expected = [first, first + torch.einsum("ehk,bek->beh", network.again, first)]
    logits = network.gate(h)
    reach = logits >= logits.sort(-1).values[:, -2, None]
    for k, every in enumerate(expected):
        (units,) = found[hidden, k]
        torch.testing.assert_close(units, torch.where(reach[..., None], every, torch.nan), equal_nan=True)
