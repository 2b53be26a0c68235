"""Units of experts that are looked up are observed on the samples that reach their expert, sample by sample."""

from __future__ import annotations

from typing import Any

import operators_by_index  # its grouped product is recorded by name
import pytest
import torch
from looked_up import LOOKED_UP, InOrder, examples, traced
from torch import Tensor

from rebasin_lt.symmetry.routes import Reached
from rebasin_lt.symmetry.trace import Symmetry

assert operators_by_index.UNITS


class InRanges(InOrder):
    """Rows in order, multiplied range by range."""

    def product(self, matrices: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        counts = torch.histc(labels.to(torch.float64), 4, 0, 3)
        ends = counts.cumsum(0).to(torch.int32)
        return torch.ops.transformers.grouped_mm_fallback(rows, matrices.transpose(1, 2), ends)


NETWORKS = {**LOOKED_UP, "rows in ranges": (InRanges, (3,))}
by_name = pytest.mark.parametrize("name", NETWORKS)


def hidden_of(symmetry: Symmetry) -> str:
    (hidden,) = symmetry.within
    return hidden


def observed(symmetry: Symmetry, states: list[Any], x: Tensor) -> dict[str, list[Any]]:
    """What was last seen of each group, under each state; of units that only some reach, (samples, experts, units)."""
    found: dict[str, list[Any]] = {}

    def visit(group: str, k: int, units: list[Any]) -> None:
        found[group] = [dense(own) if isinstance(own, Reached) else own.clone() for own in units]

    symmetry.observe(states, (x,), visit)
    return found


def dense(units: Reached) -> Tensor:
    table = torch.full((int(units.samples.max()) + 1, 4, units.rows.shape[1]), torch.nan, dtype=torch.float64)
    assert len(torch.stack([units.samples, units.outer]).unique(dim=1)[0]) == len(units.rows)
    table[units.samples, units.outer] = units.rows
    return table


@by_name
def test_each_expert_shows_what_it_does_on_the_samples_that_reach_it(name: str) -> None:
    (network, symmetry), x = traced(*NETWORKS[name]), examples(9, NETWORKS[name][1])
    found = observed(symmetry, [network.state_dict()], x)
    (units,) = found[hidden_of(symmetry)]
    tokens = network.enter(x).relu().flatten(0, -2)
    logits = network.gate(tokens)
    reach = logits >= logits.sort(-1).values[:, -1 if name == "one row each" else -2, None]
    every = (torch.einsum("ehd,bd->beh", network.w1, tokens) + network.b1[:, 0]).relu()
    torch.testing.assert_close(units, torch.where(reach[..., None], every, torch.nan), equal_nan=True)


@by_name
def test_permuted_weights_show_permuted_units_sample_by_sample(name: str) -> None:
    """Rows that lie in the order of labels lie in another under a permutation of experts, samples do not."""
    (network, symmetry), x = traced(*NETWORKS[name]), examples(9, NETWORKS[name][1])
    permutation = symmetry.random(torch.Generator().manual_seed(3))
    states = [network.state_dict(), symmetry.permute(network, permutation)]
    found = observed(symmetry, states, x)
    assert found.keys() == symmetry.groups.keys()
    for group, (units, moved) in found.items():
        index = symmetry.joint(permutation, group)
        first, second = (own.flatten(1) if group == hidden_of(symmetry) else own for own in (units, moved))
        torch.testing.assert_close(second, first[..., index], equal_nan=True, msg=f"{group} in {name}")
