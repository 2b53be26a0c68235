"""The assignment is optimal, in the documented direction."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.matching.assignment import solve_assignment, solve_assignments


@pytest.mark.parametrize("size", range(1, 7))
@pytest.mark.parametrize("seed", range(5))
def test_assignment_equals_brute_force(size: int, seed: int) -> None:
    similarity = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    best = max(permutations(range(size)), key=lambda p: sum(float(similarity[i, j]) for i, j in enumerate(p)))
    assert solve_assignment(similarity).tolist() == list(best)


def test_assignment_undoes_a_permutation_of_the_source() -> None:
    reference = torch.randn(8, 20)
    source = reference[torch.randperm(8)]
    assert torch.equal(source[solve_assignment(reference @ source.T)], reference)


def test_assignment_of_equal_entries_is_the_identity() -> None:
    assert solve_assignment(torch.full((5, 5), 0.25)).tolist() == list(range(5))


def test_assignments_of_several_matrices_are_those_of_each() -> None:
    similarities = torch.randn(7, 4, 4)
    assert torch.equal(solve_assignments(similarities), torch.stack([solve_assignment(each) for each in similarities]))


def test_assignment_is_int64_on_the_cpu() -> None:
    indices = solve_assignment(torch.eye(3, dtype=torch.float32))
    assert (indices.dtype, indices.device.type) == (torch.int64, "cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_assignment_rejects_entries_that_are_not_finite(value: float) -> None:
    similarity = torch.eye(3)
    similarity[1, 2] = value
    with pytest.raises(InputError, match=r"layer1\.0\.conv1\.weight has 1 entries that are NaN or infinite"):
        solve_assignment(similarity, "layer1.0.conv1.weight")


def test_assignment_rejects_a_matrix_that_is_not_square() -> None:
    with pytest.raises(InputError, match=r"similarity of fc\.weight has shape \(2, 3\), expected a square matrix"):
        solve_assignment(torch.zeros(2, 3), "fc.weight")
