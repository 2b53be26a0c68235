"""A planted permutation comes back in spite of noise, by activations and by weights, in every kind of network."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from planting import NETWORKS, images, noisy, randomised, symmetry_of
from torch import Tensor

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

SEEDS = range(5)
SETTINGS = {
    "correlation": {},
    "covariance": {"objective": "covariance"},
    "raw": {"objective": "raw"},
    "last": {"stream": "last"},
    "mixed": {"weight_mix": 0.5},
    "paper": {"preset": "paper"},
}


def recovered(found: Permutation, planted: Permutation, live: Mapping[str, Tensor], symmetry: Symmetry) -> bool:
    """Whether every live unit is back in its place."""
    assert sum(int(units.sum()) for units in live.values()) > 0.4 * sum(len(units) for units in live.values())
    both = ([symmetry.joint(permutation, group)[live[group]] for group in planted] for permutation in (found, planted))
    return all(torch.equal(*pair) for pair in zip(*both, strict=True))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_activations_recover_the_live_units(name: str, setting: str) -> None:
    count = 0
    for seed in SEEDS:
        source = randomised(NETWORKS[name], seed)
        symmetry = symmetry_of(NETWORKS[name])
        reference, planted = noisy(source, symmetry, seed)
        result = match_activations(source, reference, images(150, 150), symmetry, **SETTINGS[setting])
        count += recovered(result.permutation, planted, result.live, symmetry)
    assert count == len(SEEDS)


@pytest.mark.parametrize("method", ["coordinate_descent", "frank_wolfe"])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_recover_all_units(name: str, method: str) -> None:
    count = 0
    for seed in SEEDS:
        source = randomised(NETWORKS[name], seed)
        symmetry = symmetry_of(NETWORKS[name])
        reference, planted = noisy(source, symmetry, seed)
        count += match_weights(source, reference, symmetry, method=method).permutation == planted
    assert count == len(SEEDS)


@pytest.mark.parametrize("method", ["coordinate_descent", "frank_wolfe"])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_recover_dead_units_from_the_activation_solution(name: str, method: str) -> None:
    source = randomised(NETWORKS[name], 7)
    symmetry = symmetry_of(NETWORKS[name])
    reference, planted = noisy(source, symmetry, 7)
    start = match_activations(source, reference, images(40), symmetry).permutation
    assert match_weights(source, reference, symmetry, method=method, start=start).permutation == planted
