"""Whatever draws lots takes a generator of the CPU's or none, and refuses anything else in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import rebasin_lt as rb
from rebasin_lt.pruning.allocation import random_counts

NETWORK = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
MASK = rb.magnitude_prune(NETWORK, rb.Mask.ones_of(NETWORK), 0.5)
SYMMETRY = rb.trace_symmetry(NETWORK, torch.zeros(2, 3))
DRAWS = {
    "symmetry.random": SYMMETRY.random,
    "permute_randomly": lambda generator: rb.permute_randomly([MASK], SYMMETRY, generator),
    "shuffle_layerwise": lambda generator: rb.shuffle_layerwise(MASK, generator),
    "shuffle_degrees": lambda generator: rb.shuffle_degrees(MASK, generator),
    "random_uniform": lambda generator: rb.random_uniform(MASK, 0.5, generator),
    "random_erk": lambda generator: rb.random_erk(MASK, 0.5, generator),
    "random_counts": lambda generator: random_counts(MASK, {"0.weight": 3, "2.weight": 2}, generator),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_no_generator_is_refused_that_is_one(draw) -> None:
    for generator in (None, torch.Generator().manual_seed(3)):
        draw(generator)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize(("given", "shown", "seed"), [(3, "3", 3), ("a", "'a'", 0), (True, "True", 0)])
def test_what_is_none_is_refused_with_the_way_out(draw, given, shown, seed) -> None:
    expected = rf"^generator is {shown}, expected one of the CPU's, torch.Generator\(\).manual_seed\({seed}\), or None"
    with pytest.raises(rb.InputError, match=expected):
        draw(given)


def test_one_of_another_device_is_refused(monkeypatch) -> None:
    class Elsewhere:
        device = torch.device("cuda", 1)

    monkeypatch.setattr(torch, "Generator", Elsewhere)
    with pytest.raises(rb.InputError, match=r"^generator is one of cuda:1, expected one of the CPU's"):
        SYMMETRY.random(Elsewhere())
