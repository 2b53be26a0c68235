"""The linear assignment problem: which source unit goes to which place of the reference."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from rebasin_lt.errors import InputError


def solve_assignment(similarity: Tensor, group: str = "units") -> Tensor:
    """Index vector p, permuted[i] = source[p[i]], with the largest sum over i of similarity[i, p[i]].

    `similarity` has shape (reference units, source units); p has shape (units,), int64, on the CPU. Solved exactly, in
    fp64. Among equal optima scipy's choice stands: the same for the same matrix, and the identity where all entries
    are equal. Raises InputError, naming `group`, for a matrix that is not square or not finite.
    """
    if similarity.dim() != 2 or similarity.shape[0] != similarity.shape[1]:
        raise InputError(f"similarity of {group} has shape {tuple(similarity.shape)}, expected a square matrix")
    return solve_assignments(similarity[None], group)[0]


def solve_assignments(similarities: Tensor, group: str = "units") -> Tensor:
    """`solve_assignment` of each of several matrices, shape (matrices, reference units, source units), at once.

    Index vectors have shape (matrices, units). Raises InputError, naming `group`, for entries that are not finite.
    """
    matrices = similarities.detach().to("cpu", torch.float64)
    if matrices.numel() and not all(bool(end.isfinite()) for end in matrices.aminmax()):  # nothing as large is made
        wrong = int((~torch.isfinite(matrices)).sum())
        raise InputError(f"similarity of {group} has {wrong} entries that are NaN or infinite: the networks diverged")
    orders = torch.empty(matrices.shape[:2], dtype=torch.int64)
    for order, matrix in zip(orders.numpy(), matrices.numpy(), strict=True):
        order[:] = linear_sum_assignment(matrix, maximize=True)[1]
    return orders
