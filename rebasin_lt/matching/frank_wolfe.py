"""Frank-Wolfe: weight matching over soft permutations, all groups at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from rebasin_lt.matching.labelled import Labelled, labelled
from rebasin_lt.matching.soft import degree, gradients, matrix_of, soften
from rebasin_lt.matching.soft_nested import factors_of, soft_product, soft_slopes
from rebasin_lt.matching.two_levels import solve_groups
from rebasin_lt.matching.weight import weight_names
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

_TOLERANCE = 1e-7  # of the largest value that the objective could have


def frank_wolfe(
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    start: Permutation | None = None,
    *,
    max_steps: int = 100,
) -> Permutation:
    """Maximise the inner product of reference and softly permuted source, then round each group's matrix.

    After C2M3 (arXiv 2405.17897): every step linearises the objective, solves one assignment per group,
    and moves all groups together to the best point of the segment. Starts from `start`, by default from matrices with
    equal entries, so that no order of the units is preferred. `source` and `reference` hold fp64 on the CPU wherever
    they are floating. Ends when a step gains less than 1e-7 of the product of both norms, or after `max_steps`.
    Rounding may lose: the result can be worse than `start`. Corners are exact for nested groups too.
    """
    names = weight_names(symmetry, source)
    parts = _nested_parts(source, reference, symmetry)
    plain = [name for name in names if name not in parts]
    degrees = [len(factors_of(part, symmetry.within)) for found in parts.values() for part in found]
    power = max((*(degree(symmetry.places[name]) for name in plain), *degrees), default=0)
    bound = math.prod(
        math.sqrt(sum(float(state[name].square().sum()) for name in names)) for state in (source, reference)
    )
    soft = {
        group: torch.full((size, size), 1 / size, dtype=torch.float64)
        if start is None
        else matrix_of(symmetry.joint(start, group))
        for group, size in ((group, symmetry.num_units(group)) for group in symmetry.groups)
    }

    def objective(matrices: Mapping[str, Tensor]) -> float:
        return sum(
            float((reference[name] * soften(source[name], symmetry.places[name], matrices)).sum()) for name in plain
        ) + sum(soft_product(part, matrices, symmetry.within) for found in parts.values() for part in found)

    value = objective(soft)
    for _ in range(max_steps):
        slopes = {group: torch.zeros_like(matrix) for group, matrix in soft.items()}
        for name in plain:
            for group, slope in gradients(source[name], reference[name], symmetry.places[name], soft):
                slopes[group] += slope
        for part in (part for found in parts.values() for part in found):
            for group, slope in soft_slopes(part, soft, symmetry.within):
                slopes[group] += slope
        corner = solve_groups(slopes, symmetry)
        corners = {group: matrix_of(symmetry.joint(corner, group)) for group in slopes}
        before = value
        soft, value = _best_on_segment(objective, soft, corners, before, power)
        if value - before <= _TOLERANCE * bound:
            break
    return solve_groups(soft, symmetry)


def _nested_parts(
    source: Mapping[str, Tensor], reference: Mapping[str, Tensor], symmetry: Symmetry
) -> dict[str, list[Labelled]]:
    """The weights on which nested groups act, or those around them, in parts that lie in units of the same groups."""
    nested = {name for group, outers in symmetry.within.items() for name in (group, *outers)}
    return {
        name: list(labelled(reference[name], source[name], symmetry.places[name], symmetry.groups))
        for name in weight_names(symmetry, source)
        if any(group in nested for axis in symmetry.places[name] for group in axis.groups)
    }


def _best_on_segment(
    objective: Callable[[Mapping[str, Tensor]], float],
    start: dict[str, Tensor],
    end: dict[str, Tensor],
    start_value: float,
    power: int,
) -> tuple[dict[str, Tensor], float]:
    """The best point between two families of matrices, and its value.

    Along a segment the objective is a polynomial in the step, whose degree is the largest number of groups that meet
    in one tensor: 2 for linear layers and convolutions (the exact line search of a quadratic, from its values at 0, ½
    and 1), more where heads and their channels share an axis. power + 1 values fix it, and its maximum is exact.
    """

    def at(step: float) -> dict[str, Tensor]:
        return {group: torch.lerp(start[group], end[group], step) for group in start}

    nodes = (1 - np.cos(np.pi * np.arange(power + 1) / max(1, power))) / 2  # for these interpolation is well posed
    values = [start_value, *(objective(at(float(node))) for node in nodes[1:])]
    curve = np.polynomial.Polynomial.fit(nodes, values, deg=power, domain=[0, 1])
    roots = curve.deriv().roots()
    inner = roots.real[(abs(roots.imag) < 1e-9) & (roots.real > 0) & (roots.real < 1)]
    candidates = [(float(curve(step)), float(step)) for step in inner]
    best, step = max([(values[0], 0.0), (values[-1], 1.0), *candidates])
    return at(step), best
