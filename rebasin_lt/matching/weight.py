"""Weight similarity: how alike two networks' units are in what they read and in how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry


@dataclass(frozen=True)
class Assignment:
    """Matched units of one group, and which of them could be told apart by their activations."""

    indices: Tensor  # (n,), permuted[i] = source[indices[i]]
    live_source: Tensor  # (n,), bool
    live_reference: Tensor  # (n,), bool

    @property
    def live_pairs(self) -> Tensor:
        """Which reference units are live and matched to a live source unit; shape (n,), bool."""
        return self.live_reference & self.live_source[self.indices]


def settle_ties(
    assignments: Mapping[str, Assignment],
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
) -> dict[str, Assignment]:
    """The same assignments, with the pairs that are not live rematched among themselves by their weights.

    A pair with a dead unit has similarity 0, whichever it is, so activations leave it open. These pairs exchange
    partners to maximise the inner product of reference and permuted source weights, group after group until nothing
    improves (coordinate ascent as in Git Re-Basin, arXiv 2209.04836, Algorithm 1). No two live units are paired that
    were not, so live pairs and the activation objective stay exactly as they are.
    """
    assignments = dict(assignments)
    open_groups = [group for group, assignment in assignments.items() if int((~assignment.live_pairs).sum()) > 1]
    improved = True
    while improved:
        improved = False
        for group in open_groups:
            permutation = Permutation({name: assignment.indices for name, assignment in assignments.items()})
            settled = _settle(group, assignments[group], source, reference, symmetry, permutation)
            if settled is not None:
                assignments[group], improved = settled, True
    return assignments


def _settle(
    group: str,
    assignment: Assignment,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
) -> Assignment | None:
    """The group's assignment with its open pairs rematched; None if that gains nothing."""
    rows = (~assignment.live_pairs).nonzero().squeeze(1)
    columns = assignment.indices[rows]
    similarity = weight_similarity(group, source, reference, symmetry, permutation)[rows][:, rows]
    forbidden = torch.outer(assignment.live_reference[rows], assignment.live_source[columns])
    similarity = similarity.masked_fill(forbidden, -1 - 2 * float(similarity.abs().sum()))
    order = solve_assignment(similarity, group)
    gain = similarity.gather(1, order[:, None]).sum() - similarity.trace()
    if gain <= 1e-12 * similarity.diagonal().abs().sum():  # rounding is no gain, and must not keep the sweeps going
        return None
    indices = assignment.indices.clone()
    indices[rows] = columns[order]
    return replace(assignment, indices=indices)


def weight_similarity(
    group: str,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
) -> Tensor:
    """Inner products of the weights that reference units and units of the permuted source are made of and read by.

    Shape (reference units, source units), fp64, on the CPU: the sum over every floating tensor and axis on which the
    group acts, all other axes permuted with the source. Buffers count too.
    """
    size = symmetry.groups[group]
    similarity = torch.zeros(size, size, dtype=torch.float64)
    acted_on = [name for name, axes in symmetry.axes.items() if any(group in axis.groups for axis in axes)]
    permuted = symmetry.permute({name: source[name] for name in acted_on}, permutation)
    for name in acted_on:
        if not source[name].is_floating_point():
            continue
        ours, theirs = (tensor.detach().cpu().double() for tensor in (permuted[name], reference[name]))
        for dim, axis in enumerate(symmetry.axes[name]):
            for positions in axis.positions_of(group):
                units = [tensor.movedim(dim, 0)[positions].flatten(1) for tensor in (theirs, ours)]
                similarity += units[0] @ units[1].T
    return similarity
