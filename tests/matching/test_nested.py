"""Matching of nested groups: exact in two levels, and a permutation planted by head, expert and group comes back."""

from __future__ import annotations

import itertools

import pytest
import torch
from nested import NESTED, Experts, batches, built, planted, symmetry_of
from torch import Tensor

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.coordinate_ascent import ascend
from rebasin_lt.matching.family import match_family
from rebasin_lt.matching.frank_wolfe import _nested_parts, frank_wolfe
from rebasin_lt.matching.labelled import Labelled, labelled
from rebasin_lt.matching.leaves import match_row
from rebasin_lt.matching.soft import matrix_of
from rebasin_lt.matching.soft_nested import _contracted, factors_of, soft_product, soft_slopes
from rebasin_lt.matching.two_levels import solve_family
from rebasin_lt.matching.weight import inner_product, weight_names
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.stacks import stacked_state
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

METHODS = {
    "activations": lambda a, b, data, symmetry: match_activations(a, b, data, symmetry),
    "covariance": lambda a, b, data, symmetry: match_activations(a, b, data, symmetry, objective="covariance"),
    "jointly": lambda a, b, data, symmetry: match_activations(a, b, data, symmetry, weight_mix=0.5),
    "weights": lambda a, b, _, symmetry: match_weights(a, b, symmetry),
    "frank-wolfe": lambda a, b, _, symmetry: match_weights(a, b, symmetry, method="frank_wolfe"),
}
WITHIN = {"inner": ("outer",), "other": ("outer",)}


def all_of(outer: int, inner: int) -> list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
    """Every outer permutation with every choice of inner ones."""
    rows = list(itertools.permutations(range(inner)))
    return [(p, q) for p in itertools.permutations(range(outer)) for q in itertools.product(rows, repeat=outer)]


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("method", METHODS)
def test_permutation_by_head_expert_and_group_comes_back(name: str, method: str) -> None:
    source, reference, symmetry, permutation = planted(name, 1)
    found = METHODS[method](source, reference, batches(name), symmetry)
    moved = symmetry.permute(source, found.permutation)
    assert all(torch.equal(moved[key], tensor) for key, tensor in reference.state_dict().items())
    assert found.permutation == permutation
    assert all(value == pytest.approx(1) for value in found.objective.values()) or method == "covariance"
    assert {group: len(live) for group, live in found.live.items()} == {
        group: symmetry.num_units(group) for group in symmetry.groups
    }


def test_two_levels_are_exact() -> None:
    """Beside all 3! · 3!³ elements, for an outer group with similarities of its own."""
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        outer = torch.randn(3, 3, dtype=torch.float64, generator=generator)
        inner = torch.randn(9, 9, dtype=torch.float64, generator=generator)
        value, found = solve_family("outer", {"outer": outer, "inner": inner}, WITHIN)

        def total(
            p: tuple[int, ...], q: tuple[tuple[int, ...], ...], outer: Tensor = outer, inner: Tensor = inner
        ) -> float:
            own = sum(outer[i, p[i]] for i in range(3))
            return float(own + sum(inner[3 * i + j, 3 * p[i] + q[i][j]] for i in range(3) for j in range(3)))

        best = max(total(p, q) for p, q in all_of(3, 3))
        assert value == pytest.approx(best)
        rows = tuple(tuple(row) for row in found["inner"].tolist())
        assert total(tuple(found["outer"].tolist()), rows) == pytest.approx(best)


def test_groups_in_the_same_outer_unit_add_their_values() -> None:
    """Alone each would move the outer units elsewhere."""
    eye, swap = torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64).flip(0)
    outer = torch.zeros(2, 2, dtype=torch.float64)
    inner, other = torch.kron(swap, 3 * swap), torch.kron(eye, 2 * eye)
    _, found = solve_family("outer", {"outer": outer, "inner": inner, "other": other}, WITHIN)
    assert found["outer"].tolist() == [1, 0]
    assert found["inner"].tolist() == [[1, 0], [1, 0]]
    _, found = solve_family("outer", {"outer": outer, "inner": inner, "other": 2 * other}, WITHIN)
    assert found["outer"].tolist() == [0, 1]


def test_three_levels_are_exact() -> None:
    """Two halves of two channels in each of two heads: 2 · 2² · 2⁴ elements."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"a": 2, "b": 4, "c": 8}
    matrices = {name: torch.randn(n, n, dtype=torch.float64, generator=generator) for name, n in sizes.items()}
    within = {"b": ("a",), "c": ("a", "b")}
    value, found = solve_family("a", matrices, within)
    pair = [[0, 1], [1, 0]]
    values = []
    for p, q, r in itertools.product(pair, itertools.product(pair, repeat=2), itertools.product(pair, repeat=4)):
        indices = {"a": torch.tensor(p), "b": torch.tensor(q), "c": torch.tensor(r).reshape(2, 2, 2)}
        permutation = Permutation(indices, within)
        joint = [permutation.joint(path, [2] * len(path)) for path in (["a"], ["a", "b"], ["a", "b", "c"])]
        values.append(
            sum(float(matrices[n].gather(1, index[:, None]).sum()) for n, index in zip("abc", joint, strict=True))
        )
    assert value == pytest.approx(max(values))
    assert found["c"].shape == (2, 2, 2)


def test_weights_of_independent_networks_are_matched_exactly_in_two_levels() -> None:
    """Of experts' weights alone, with all else as it is: beside all 3! · 2!³ elements."""
    source, reference = (small_experts(seed) for seed in (0, 1))
    symmetry = small_symmetry()
    names = weight_names(symmetry, source, "w1")
    outer, inner = "w1", "w1[1]"
    step = match_family(outer, source, reference, symmetry, symmetry.identity())
    values = {
        (p, q): inner_product(
            names,
            source,
            reference,
            symmetry,
            Permutation({**symmetry.identity(), outer: torch.tensor(p), inner: torch.tensor(q)}, symmetry.within),
        )
        for p, q in all_of(3, 2)
    }
    assert inner_product(names, source, reference, symmetry, step) == pytest.approx(max(values.values()))
    assert len(set(values.values())) > 40  # it does matter


def small_experts(seed: int) -> dict[str, Tensor]:
    return {key: tensor.double() for key, tensor in _small(seed).state_dict().items()}


def _small(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = Experts()
    network.gate = torch.nn.Linear(6, 3)
    network.w1, network.w2 = (torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 2, 6), (3, 6, 2)))
    network.b1 = torch.nn.Parameter(torch.randn(3, 1, 2))
    return network


def small_symmetry() -> Symmetry:
    return trace_symmetry(_small(0), torch.randn(2, 3))


@pytest.mark.parametrize("name", ["decoder", "experts", "grouped"])
def test_no_step_by_weights_loses(name: str) -> None:
    """Between networks that have nothing in common, from any start."""
    symmetry = symmetry_of(name)
    source, reference = (built(name, seed).state_dict() for seed in (2, 3))
    names = weight_names(symmetry, source)
    start = symmetry.random(torch.Generator().manual_seed(0))
    values = [
        inner_product(names, source, reference, symmetry, ascend(source, reference, symmetry, start, max_sweeps=sweeps))
        for sweeps in (1, 2, 50)
    ]
    assert inner_product(names, source, reference, symmetry, start) < values[0] <= values[1] <= values[2]
    product = Permutation({group: start[group][(0,) * (start[group].dim() - 1)] for group in start})
    assert match_weights(source, reference, symmetry, start=product).permutation.within  # it chooses by outer unit


@pytest.mark.parametrize("name", NESTED)
def test_soft_matrices_of_permutations_are_these(name: str) -> None:
    symmetry = symmetry_of(name)
    source, reference = (stacked_state(built(name, seed).state_dict(), symmetry.stacks) for seed in (2, 3))
    parts = _nested_parts(source, reference, symmetry)
    permutation = symmetry.random(torch.Generator().manual_seed(0))
    corners = {group: matrix_of(symmetry.joint(permutation, group)) for group in symmetry.groups}
    for key, found in parts.items():
        free = [part for part in found if part.groups]
        soft = sum(soft_product(part, corners, symmetry.within) for part in free)
        moved = symmetry.permute({key: source[key]}, permutation)[key]
        hard = sum(
            float((part.reference * part.source).sum())
            for part in labelled(reference[key], moved, symmetry.places[key], symmetry.groups)
        )
        assert soft == pytest.approx(hard), key


@pytest.mark.parametrize("name", ["decoder", "grouped"])
def test_slopes_of_nested_groups_equal_automatic_ones(name: str) -> None:
    symmetry = symmetry_of(name)
    source, reference = (built(name, seed).state_dict() for seed in (2, 3))
    drawn = [symmetry.random(torch.Generator().manual_seed(seed)) for seed in range(3)]
    soft = {
        group: torch.stack([matrix_of(symmetry.joint(p, group)) for p in drawn]).mean(0) for group in symmetry.groups
    }
    for part in (part for found in _nested_parts(source, reference, symmetry).values() for part in found):
        leaves = {group: matrix.clone().requires_grad_() for group, matrix in soft.items()}
        _contracted(part, factors_of(part, symmetry.within), leaves, ()).backward()
        slopes = {group: torch.zeros_like(matrix) for group, matrix in soft.items()}
        for group, slope in soft_slopes(part, soft, symmetry.within):
            slopes[group] += slope
        for group, leaf in leaves.items():
            expected = torch.zeros_like(slopes[group]) if leaf.grad is None else leaf.grad
            torch.testing.assert_close(slopes[group], expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ["vit", "decoder", "experts", "grouped"])
def test_frank_wolfe_does_not_depend_on_the_order_of_units_in_each_outer_one(name: str) -> None:
    symmetry = symmetry_of(name)
    source, reference = (built(name, seed).state_dict() for seed in (2, 3))
    order = symmetry.random(torch.Generator().manual_seed(1))
    first = frank_wolfe(source, reference, symmetry)
    second = frank_wolfe(symmetry.permute(source, order), reference, symmetry)
    names = weight_names(symmetry, source)
    values = [inner_product(names, source, reference, symmetry, found) for found in (first, second.compose(order))]
    assert values[0] == pytest.approx(values[1], rel=1e-9)


@pytest.mark.parametrize("name", ["decoder", "experts"])
def test_masks_have_permutations_of_their_own(name: str) -> None:
    source, reference, symmetry, _ = planted(name, 2)
    mask = magnitude_prune(source, Mask.ones_of(source), 0.3)
    for found in (
        match_activations(source, reference, batches(name), symmetry, masks={"m": mask}),
        match_weights(source, reference, symmetry, masks={"m": mask}),
    ):
        moved = mask.permuted(symmetry, found.masked["m"])
        kept = {key: tensor * mask[key] for key, tensor in source.state_dict().items() if key in mask}
        expected = symmetry.permute(kept, found.masked["m"])
        assert all(torch.equal(moved[key], expected[key] != 0) for key in kept)


def test_dead_experts_and_hidden_units_are_settled_by_their_weights() -> None:
    """What shows nothing on any input, as an expert that no token reaches, is matched by its weights all the same."""
    source, _, symmetry, permutation = planted("experts", 3)
    with torch.no_grad():
        source.b1[1] = source.b1[2] = -1e3  # two whole experts
        source.b1[0, 0, :3] = -1e3  # and some units of another
    reference = built("experts")
    reference.load_state_dict(symmetry.permute(source, permutation))
    found = match_activations(source, reference, batches("experts"), symmetry)
    assert int((~found.live["w1[1]"]).sum()) >= 13
    moved = symmetry.permute(source, found.permutation)
    assert all(torch.equal(moved[key], tensor) for key, tensor in reference.state_dict().items())


def test_what_a_pair_of_outer_units_is_worth_does_not_depend_on_the_others_in_its_row() -> None:
    generator = torch.Generator().manual_seed(0)
    reference, source = torch.randn(5, 4, 3, generator=generator), torch.randn(6, 5, 4, 3, generator=generator)
    inputs = torch.randn(5, 3, generator=generator), torch.randn(6, 5, 3, generator=generator)

    def row(others: list[int], mine: int | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Two groups that meet in one tensor, one of which has weights of its own too."""
        parts = [
            Labelled(("in", "out"), reference.double(), source[others].double()),
            Labelled(("in",), inputs[0].double(), inputs[1][others].double()),
        ]
        return match_row(("in", "out"), parts, {}, mine)

    values, indices = row(list(range(6)), 2)
    for other in range(6):
        value, index = row([other], 0 if other == 2 else None)
        assert torch.allclose(value[0], values[other])
        assert all(torch.equal(index[name][0], indices[name][other]) for name in ("in", "out"))
