"""Soft permutations and Frank-Wolfe: at the corners they are permutations, derivatives and line search are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from planting import NETWORKS, Recurrent, mlp, mobile_net, randomised, residual_net, symmetry_of, transformer
from torch import Tensor, nn

from rebasin_lt.matching.frank_wolfe import _best_on_segment, frank_wolfe
from rebasin_lt.matching.soft import degree, gradients, matrix_of, soften
from rebasin_lt.matching.weight import inner_product, weight_names
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.symmetry.axis_type import AxisBlock, AxisType
from rebasin_lt.symmetry.trace import Symmetry

PLAIN = [*(build for build in NETWORKS.values() if build is not transformer), Recurrent]
"""Networks without nested groups, which have matrices of their own (`test_nested.py`)."""


def pair(build: Callable[[], nn.Module]) -> tuple[dict[str, Tensor], dict[str, Tensor], Symmetry]:
    source, reference = (randomised(build, seed).state_dict() for seed in (0, 1))
    return source, reference, symmetry_of(build)


def mixtures(symmetry: Symmetry, seed: int = 0) -> dict[str, Tensor]:
    """Doubly stochastic matrices: means of three permutations."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [symmetry.random(generator) for _ in range(3)]
    return {
        group: torch.stack([matrix_of(symmetry.joint(p, group)) for p in drawn]).mean(0) for group in symmetry.groups
    }


def value(
    source: dict[str, Tensor], reference: dict[str, Tensor], symmetry: Symmetry, soft: dict[str, Tensor]
) -> Tensor:
    names = weight_names(symmetry, source)
    return sum((reference[name] * soften(source[name], symmetry.axes[name], soft)).sum() for name in names)


@pytest.mark.parametrize("build", PLAIN)
def test_corners_are_permutations(build: Callable[[], nn.Module]) -> None:
    source, _, symmetry = pair(build)
    permutation = symmetry.random(torch.Generator().manual_seed(0))
    corners = {group: matrix_of(index) for group, index in permutation.items()}
    permuted = symmetry.permute(source, permutation)
    for name in weight_names(symmetry, source):
        assert torch.equal(soften(source[name], symmetry.axes[name], corners), permuted[name]), name


@pytest.mark.parametrize("build", PLAIN)
def test_gradients_equal_automatic_ones(build: Callable[[], nn.Module]) -> None:
    source, reference, symmetry = pair(build)
    soft = mixtures(symmetry)
    leaves = {group: matrix.clone().requires_grad_() for group, matrix in soft.items()}
    value(source, reference, symmetry, leaves).backward()
    slopes = {group: torch.zeros_like(matrix) for group, matrix in soft.items()}
    for name in weight_names(symmetry, source):
        for group, slope in gradients(source[name], reference[name], symmetry.axes[name], soft):
            slopes[group] += slope
    for group, leaf in leaves.items():
        assert torch.allclose(slopes[group], leaf.grad, rtol=1e-10, atol=1e-10), group


def test_fixed_positions_and_products_of_groups_on_one_axis() -> None:
    """Two heads of three channels in front of one fixed position: the matrix of the axis is a Kronecker product."""
    axis = AxisType(7, (AxisBlock(("head", "channel"), torch.arange(6).view(2, 3, 1)),))
    torch.manual_seed(0)
    soft = {"head": torch.rand(2, 2, dtype=torch.float64), "channel": torch.rand(3, 3, dtype=torch.float64)}
    tensor = torch.rand(7, 4, dtype=torch.float64)
    softened = soften(tensor, (axis, AxisType(4)), soft)
    assert torch.allclose(softened[:6], torch.kron(soft["head"], soft["channel"]) @ tensor[:6])
    assert torch.equal(softened[6], tensor[6])
    assert degree((axis, AxisType(4))) == 2


@pytest.mark.parametrize(("build", "power"), [(mlp, 2), (residual_net, 2), (mobile_net, 2), (Recurrent, 2)])
def test_line_search_finds_the_best_step_of_a_fine_grid(build: Callable[[], nn.Module], power: int) -> None:
    source, reference, symmetry = pair(build)
    names = weight_names(symmetry, source)
    assert max(degree(symmetry.axes[name]) for name in names) == power
    for seed in range(4):
        start, end = mixtures(symmetry, seed), mixtures(symmetry, seed + 100)
        objective = lambda soft: float(value(source, reference, symmetry, soft))  # noqa: E731
        found, best = _best_on_segment(objective, start, end, objective(start), power)
        grid = [
            objective({group: torch.lerp(start[group], end[group], step / 50) for group in start}) for step in range(51)
        ]
        scale = max(map(abs, grid))
        assert best >= max(grid) - 1e-9 * scale
        assert objective(found) == pytest.approx(best, abs=1e-9 * scale)


@pytest.mark.parametrize(
    ("coefficients", "step"),
    [
        ((1, 2), 1.0),
        ((1, -2), 0.0),
        ((0, 1, -1), 0.5),  # concave: inside
        ((0, -1, 1.5), 1.0),  # convex: the better end
        ((0, -1, 0.5), 0.0),
        ((0, 1, 0), 1.0),
        ((0, 0, 3, -4), 0.5),  # cubic: the maximum, not the minimum
        ((0, 0, 0, 4, -5), 0.6),
    ],
)
def test_line_search_of_a_known_polynomial(coefficients: tuple[float, ...], step: float) -> None:
    """A segment from 0 to 1 in a space of one matrix of one element."""
    objective = lambda soft: sum(c * float(soft["g"]) ** k for k, c in enumerate(coefficients))  # noqa: E731
    start, end = ({"g": torch.full((1, 1), entry, dtype=torch.float64)} for entry in (0.0, 1.0))
    found, best = _best_on_segment(objective, start, end, objective(start), len(coefficients) - 1)
    assert float(found["g"]) == pytest.approx(step, abs=1e-9)
    assert best == pytest.approx(objective(found), abs=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_frank_wolfe_does_not_depend_on_the_order_of_units(name: str) -> None:
    """It starts from equal entries: permuting the source beforehand gives the same aligned network."""
    source, reference, symmetry = pair(NETWORKS[name])
    order = symmetry.random(torch.Generator().manual_seed(1))
    first = frank_wolfe(source, reference, symmetry)
    second = frank_wolfe(symmetry.permute(source, order), reference, symmetry)
    values = [
        inner_product(weight_names(symmetry, source), source, reference, symmetry, permutation)
        for permutation in (first, second.compose(order))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_frank_wolfe_betters_coordinate_descent_on_average() -> None:
    """As published (arXiv 2405.17897) and for the reason that it moves all groups at once; both from their defaults."""
    gains = []
    for seed in range(6):
        symmetry = symmetry_of(mlp)
        states = [randomised(mlp, 2 * seed + k).state_dict() for k in (0, 1)]
        names = weight_names(symmetry, states[0])
        values = [
            inner_product(names, *states, symmetry, match_weights(*states, symmetry, method=method).permutation)
            for method in ("coordinate_descent", "frank_wolfe")
        ]
        gains.append(values[1] / values[0] - 1)
    assert sum(gains) / len(gains) > 0
