"""Pairs of units that activations leave open, settled by their weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.family import family_of, match_family
from rebasin_lt.matching.weight import gains, inner_product, is_curved, weight_names, weight_similarity
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

Lives = Mapping[str, tuple[Tensor, Tensor]]  # group -> live units of the source and of the reference; twice (n,), bool


def settle_ties(
    permutation: Permutation,
    lives: Lives,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
) -> Permutation:
    """The same permutation, with the pairs that are not live rematched among themselves by their weights.

    A pair with a dead unit has similarity 0, whichever it is, so activations leave it open. These pairs exchange
    partners to maximise the inner product of reference and permuted source weights, group after group until nothing
    improves (coordinate ascent as in Git Re-Basin, arXiv 2209.04836, Algorithm 1). No two live units are paired that
    were not, so live pairs and the activation objective stay exactly as they are. Units of a nested group exchange
    partners within their outer unit, and an outer unit only if no pair inside of it is live.
    """
    open_groups = [group for group in symmetry.groups if len(_open(group, permutation, lives, symmetry)) > 1]
    improved = True
    while improved:
        improved = False
        for group in open_groups:
            settled = _settle(group, lives, source, reference, symmetry, permutation)
            if settled is not None:
                permutation, improved = settled, True
    return permutation


def _open(group: str, permutation: Permutation, lives: Lives, symmetry: Symmetry) -> Tensor:
    """The reference units whose pair is not live, nor any inside of them; shape (n,), int64."""
    closed = _live_pairs(group, permutation, lives, symmetry)
    for other, outers in symmetry.within.items():
        if group in outers:
            closed = closed | _live_pairs(other, permutation, lives, symmetry).reshape(len(closed), -1).any(1)
    return (~closed).nonzero().squeeze(1)


def _live_pairs(group: str, permutation: Permutation, lives: Lives, symmetry: Symmetry) -> Tensor:
    source, reference = lives[group]
    return reference & source[symmetry.joint(permutation, group)]


def _settle(
    group: str,
    lives: Lives,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
) -> Permutation | None:
    """The permutation with the group's open pairs rematched; None if that gains nothing."""
    rows = _open(group, permutation, lives, symmetry)
    if len(family_of(group, symmetry.within)) > 1:
        return _settle_family(group, rows, lives, source, reference, symmetry, permutation)
    indices = symmetry.joint(permutation, group)
    columns = indices[rows]
    similarity = weight_similarity(group, source, reference, symmetry, permutation, rows)
    forbidden = torch.outer(lives[group][1][rows], lives[group][0][columns])
    if group in symmetry.within:
        outer = rows // symmetry.groups[group]
        forbidden = forbidden | (outer[:, None] != outer)
    similarity = similarity.masked_fill(forbidden, -1 - 2 * float(similarity.abs().sum()))
    order = solve_assignment(similarity, group)
    if not gains(similarity, order):
        return None
    rematched = torch.arange(len(indices))
    rematched[rows] = rows[order]
    step = Permutation({**symmetry.identity(), group: _rows(rematched, group, symmetry)}, symmetry.within)
    settled = step.compose(permutation)
    if is_curved(symmetry, group):
        names = weight_names(symmetry, source, group)
        before, after = (inner_product(names, source, reference, symmetry, p) for p in (permutation, settled))
        if after <= before:
            return None
    return settled


def _settle_family(
    group: str,
    rows: Tensor,
    lives: Lives,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
) -> Permutation | None:
    """The permutation with some of a group's units, and what is inside of them, rematched; None without a gain."""
    if len(rows) < 2:
        return None
    names = weight_names(symmetry, source, group)
    ours, theirs = ({**state, **{name: state[name].cpu().double() for name in names}} for state in (source, reference))
    most = sum(float(ours[name].norm() * theirs[name].norm()) for name in names)
    apart = {
        name: -(1 + 2 * most) * torch.outer(lives[name][1], lives[name][0]).double()
        for name in family_of(group, symmetry.within)
    }
    step = match_family(group, ours, theirs, symmetry, permutation, apart, rows.tolist())
    settled = step.compose(permutation)
    before, after = (inner_product(names, ours, theirs, symmetry, p) for p in (permutation, settled))
    return settled if after - before > 1e-12 * abs(before) else None


def _rows(joint: Tensor, group: str, symmetry: Symmetry) -> Tensor:
    """The index of a group from that of all its units, none of which leaves its outer unit."""
    size = symmetry.groups[group]
    return (joint % size).reshape(*symmetry.around(group), size)
