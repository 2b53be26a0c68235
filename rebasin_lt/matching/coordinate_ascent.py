"""Coordinate ascent on weights: one group after another gets its best permutation given the others'."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.family import family_of, match_family
from rebasin_lt.matching.weight import gains, inner_product, is_curved, weight_names, weight_similarity
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry


def ascend(
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    start: Permutation,
    *,
    similarity: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    max_sweeps: int = 100,
) -> Permutation:
    """A permutation that no group alone can better; Git Re-Basin's Algorithm 1 (arXiv 2209.04836).

    Maximises the inner product of reference and permuted source over all weights (`weight_names`), plus, if given, the
    sum over groups and units i of similarity[group][i, p[i]], with matrices of shape (reference units, source
    units). Each sweep visits the groups in a random order, which `seed` fixes. No step lowers the objective: a step
    of a group that meets a tensor twice is taken only if the objective itself grows. Ends when a sweep gains
    nothing, or after `max_sweeps`.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = [group for group in symmetry.groups if group not in symmetry.within]
    permutation = start
    for _ in range(max_sweeps):
        before = permutation
        for k in torch.randperm(len(groups), generator=generator).tolist():
            family = family_of(groups[k], symmetry.within)
            extra = None if similarity is None else {group: similarity[group] for group in family}
            step = _family_step if len(family) > 1 else _step
            permutation = step(groups[k], source, reference, symmetry, permutation, extra)
        if permutation is before:
            break
    return permutation


def _step(
    group: str,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
    similarities: Mapping[str, Tensor] | None,  # of the group: (reference units, source units)
) -> Permutation:
    """The permutation with the group's part replaced by the best; the same object if that gains nothing."""
    indices, extra = permutation[group], None if similarities is None else similarities[group]
    similarity = weight_similarity(group, source, reference, symmetry, permutation)
    if extra is not None:
        similarity = similarity + extra[:, indices]
    order = solve_assignment(similarity, group)
    if not gains(similarity, order):
        return permutation
    stepped = Permutation({**permutation, group: indices[order]}, permutation.within)
    if is_curved(symmetry, group):
        names = weight_names(symmetry, source, group)
        values = [inner_product(names, source, reference, symmetry, p) for p in (permutation, stepped)]
        if extra is not None:
            values = [
                value + float(extra.gather(1, p[group][:, None]).sum())
                for value, p in zip(values, (permutation, stepped), strict=True)
            ]
        if values[1] <= values[0]:
            return permutation
    return stepped


def _family_step(
    group: str,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
    similarities: Mapping[str, Tensor] | None,
) -> Permutation:
    """The permutation with the parts of the group and of all that are nested in it replaced; the same if worse."""
    step = match_family(group, source, reference, symmetry, permutation, similarities)
    stepped, names = step.compose(permutation), weight_names(symmetry, source, group)
    values = [inner_product(names, source, reference, symmetry, p) for p in (permutation, stepped)]
    for name, matrix in (similarities or {}).items():
        for k, p in enumerate((permutation, stepped)):
            values[k] += float(matrix.gather(1, symmetry.joint(p, name)[:, None]).sum())
    return stepped if values[1] - values[0] > 1e-12 * abs(values[0]) else permutation


def cosine_scale(
    group: str, source: Mapping[str, Tensor], reference: Mapping[str, Tensor], symmetry: Symmetry
) -> float:
    """What turns the inner product of the weights on which a group acts into their cosine; 0 if they vanish.

    No permutation changes it.
    """
    names = weight_names(symmetry, source, group)
    squares = [sum(float(state[name].double().square().sum()) for name in names) for state in (source, reference)]
    norm = math.sqrt(squares[0]) * math.sqrt(squares[1])
    return 1 / norm if norm > 0 else 0.0
