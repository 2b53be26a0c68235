"""Activation matching: match a source network to a reference by what their units do on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rebasin_lt.batches import Network, check_alike, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.matching.joint import match_jointly
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.objectives import MASK_WEIGHT_MIX, PRESETS, check_activation_settings
from rebasin_lt.matching.similarity import GroupSimilarity, group_similarity
from rebasin_lt.matching.streaming import Pass, Points, stream
from rebasin_lt.matching.ties import settle_ties
from rebasin_lt.matching.two_levels import solve_groups
from rebasin_lt.process.ranks import failing_together
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.stacks import stacked_state
from rebasin_lt.symmetry.trace import Symmetry


@dataclass(frozen=True)
class MatchResult:
    """Permutations that a method of matching found. A mask without one of its own moves as the network does.

    >>> network, twin = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in "ab")
    >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
    >>> hidden = symmetry.random()
    >>> twin.load_state_dict(symmetry.permute(network, hidden))
    <All keys matched successfully>
    >>> found = rb.match_weights(network, twin, symmetry)
    >>> found.permutation == hidden, round(found.objective["0.weight"], 6)
    (True, 1.0)
    """

    permutation: Permutation  # matches the source to the reference
    objective: dict[str, float] = field(default_factory=dict)  # group -> mean over matched live pairs, or 0
    live: dict[str, Tensor] = field(default_factory=dict)  # group -> reference units (`num_units`) whose pair is live
    num_samples: int = 0  # images
    masked: dict[str, Permutation] = field(default_factory=dict)  # mask -> matches what it keeps of the source


def match_activations(
    source: Network,
    reference: Network,
    batches: Iterable[Any],
    symmetry: Symmetry,
    *,
    masks: Mapping[str, Mask] | None = None,
    objective: str = "correlation",
    stream: str = "sum",
    weight_mix: float = 0.0,
    mask_weight_mix: float = MASK_WEIGHT_MIX,
    preset: str | None = None,
    autocast: torch.dtype | None = None,
    channels_last: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> MatchResult:
    """The permutation that matches `source` to `reference`, for all groups from one pass over `batches`.

    Per group the sum over units of the similarity of matched pairs is maximised; every image and site is a sample. No
    group's statistic depends on another's permutation, so one pass serves all. Pairs in which either unit is constant
    everywhere are settled by their weights (`settle_ties`), at no cost to the similarities.

    `masks`: masks of the source, by names of your choice. For each, `MatchResult.masked` holds a permutation of its
    own, found jointly by activations and by those weights of the source that the mask keeps: what it removes need not
    fit. Networks interpolate better under `MatchResult.permutation`, masks train better under these (docs/matching.md).
    `mask_weight_mix` is the share of the weights, in [0, 1]; with 0, masks move as the network does, as in the paper.
    `objective`: the similarity is the Pearson "correlation" (arXiv 2505.05143, Eq. 1), which ignores the scale of each
    unit; the "covariance", centred but not normalised; or "raw", the mean product, neither centred nor normalised
    (Git Re-Basin, arXiv 2209.04836, section 3.1). A unit that is constant at a point has similarity 0 there.
    `stream`: a group seen at several points (a residual stream) counts the similarity at all of them ("sum") or, as
    the paper's code, at its last ("last").
    `weight_mix`: share, in [0, 1], of the similarity of weights in `MatchResult.permutation`; above 0 the best one by
    activations is where `match_jointly` starts, which weighs both in units of a correlation. `MatchResult.objective` is
    that of the activations.
    `preset`: "paper" repeats the published ResNet20 matching, flaws included, for comparison only: the correlation of
    `PaperMoments` (mean of the standard deviations within batches, 1e-4 added to the denominator, equal weight per
    batch), at the last observation, and for the last stream at the one before its last (`paper_points`), for
    network and masks alike. It sets the four arguments before it. Only pairs with a constant unit, which the published
    code leaves to the solver, are settled as above.

    `autocast`: run the networks, not the statistics, in this dtype where torch's autocast thinks it safe. Without, they
    run in the precision of their weights, never in TF32 (`full_precision`).
    `channels_last`: lay images and kernels out with channels last, which changes no more than rounding.

    In every process of `torch.distributed`, once it is initialised, call this with that process's own share of the
    batches, which may be none: samples of all processes count, and all get the same permutation. What fails in one of
    them fails in all.

    `source` and `reference` are networks or state dicts, evaluated in eval mode on the device of the source and not
    modified; `batches` yields input tensors or (input, target) pairs. `progress(done, total)` is called after each
    batch, with total 0 where the length of `batches` is unknown. Warns where there are fewer images than units, where
    units are observed nowhere or on tokens that each network chooses for its experts, which do not count, and where
    images look as if they were not normalised. Raises InputError for an argument with a value it cannot have, networks
    that differ, a symmetry of another network, masks that do not fit, inputs of another kind than were traced (integers
    for floating point), activations that are not finite, or no batch.

        >>> network, twin = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in "ab")
        >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
        >>> hidden = symmetry.random()
        >>> twin.load_state_dict(symmetry.permute(network, hidden))
        <All keys matched successfully>
        >>> rb.match_activations(network, twin, [torch.randn(64, 3)], symmetry).permutation == hidden
        True
    """
    states, masks = [state_of(source), state_of(reference)], masks or {}
    with failing_together():
        check_activation_settings(objective, stream, weight_mix, mask_weight_mix, preset)
        check_alike(states[0], states[1], names=("source", "reference"))
        check_symmetry(symmetry, states[0], "source")
        for mask in masks.values():
            mask.check_fits(states[0])
    similarities, num_samples = _similarities(
        states, batches, symmetry, objective, stream, preset, Pass(autocast, channels_last, progress)
    )
    start = _solved(similarities, states, symmetry)

    def joint(state: Mapping[str, Tensor], mix: float) -> Permutation:
        """The permutation that fits activations and these weights of the source to the reference."""
        if mix == 0 or preset is not None:
            return start
        scaled = {group: found.matrix * found.scale for group, found in similarities.items()}
        return match_jointly(scaled, state, states[1], symmetry, start, mix)

    permutation = joint(states[0], weight_mix)
    return MatchResult(
        permutation,
        objective={group: found.mean(symmetry.joint(permutation, group)) for group, found in similarities.items()},
        live={group: found.live_pairs(symmetry.joint(permutation, group)) for group, found in similarities.items()},
        num_samples=num_samples,
        masked={name: joint(mask.applied_to(states[0]), mask_weight_mix) for name, mask in masks.items()},
    )


def _similarities(
    states: list[dict[str, Tensor]],  # of the source and the reference
    batches: Iterable[Any],
    symmetry: Symmetry,
    objective: str,
    at: str,
    preset: str | None,
    how: Pass,
) -> tuple[dict[str, GroupSimilarity], int]:
    """The similarities of every group's units, and the number of images they were measured on."""
    points, kind = _points(symmetry, at), CrossMoments
    if preset is not None:
        points, kind = PRESETS[preset].points(symmetry), PRESETS[preset].moments()
    moments, num_samples = stream(states, batches, symmetry, points, kind, how)
    similarities = {}
    for group in symmetry.groups:  # each group's moments are let go before the next is worked on
        statistics = [moments.pop((group, point)) for point in points[group] if (group, point) in moments]
        similarities[group] = group_similarity(symmetry.num_units(group), statistics, objective)
    return similarities, num_samples


def _solved(
    similarities: Mapping[str, GroupSimilarity], states: list[dict[str, Tensor]], symmetry: Symmetry
) -> Permutation:
    """The best permutation by activations alone, what these leave open settled by the weights."""
    best = solve_groups({group: similarity.matrix for group, similarity in similarities.items()}, symmetry)
    lives = {group: similarity.live for group, similarity in similarities.items()}
    source, reference = (stacked_state(state, symmetry.stacks) for state in states)
    return settle_ties(best, lives, source, reference, symmetry)


def check_symmetry(symmetry: Symmetry, state: Mapping[str, Tensor], argument: str) -> None:
    """Raise InputError, naming the state's argument, unless the symmetry is one of a network with such a state."""
    missing = [name for name in symmetry.axes if name not in state]
    if missing:
        raise InputError(f"symmetry has {missing[0]}, {argument} does not: trace the symmetry of this network")
    known = {name: tensor for name, tensor in state.items() if name in symmetry.axes}
    symmetry.permute(known, symmetry.identity())  # refuses other shapes, with both values


def _points(symmetry: Symmetry, at: str) -> Points:
    """Which observations of each group count."""
    counts = {group: len(symmetry.observations.get(group, ())) for group in symmetry.groups}
    return {group: range(count) if at == "sum" else range(max(0, count - 1), count) for group, count in counts.items()}
