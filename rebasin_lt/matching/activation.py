"""Activation matching: align a source network to a reference by what their units do on the same inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.batches import Network, check_alike, device_of, inputs_of, nonempty, state_of
from rebasin_lt.matching.inputs import watched
from rebasin_lt.matching.joint import match_jointly
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.paper import PaperMoments, paper_points
from rebasin_lt.matching.similarity import Objective, group_similarity
from rebasin_lt.matching.weight import settle_ties
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

Stream = Literal["sum", "last"]
Preset = Literal["paper"]


@dataclass(frozen=True)
class MatchResult:
    """What `match_activations` or `match_weights` found."""

    permutation: Permutation  # aligns the source to the reference
    objective: dict[str, float]  # group -> mean similarity of its matched live pairs; 0 where none is live
    live: dict[str, Tensor]  # group -> which reference units form a live pair with their source unit; (n,), bool
    num_samples: int  # images


def match_activations(
    source: Network,
    reference: Network,
    batches: Iterable[Any],
    symmetry: Symmetry,
    *,
    objective: Objective = "correlation",
    stream: Stream = "sum",
    weight_mix: float = 0.0,
    preset: Preset | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MatchResult:
    """The permutation that aligns `source` to `reference`, for all groups from one pass over `batches`.

    Per group the sum over units of the similarity of matched pairs is maximised; every image and site is a sample. No
    group's statistic depends on another's permutation, so one pass serves all. Pairs in which either unit is constant
    everywhere are settled by their weights (`settle_ties`), at no cost to the similarities.

    `objective`: the similarity is the Pearson "correlation" (arXiv 2505.05143, Eq. 1), which ignores the scale of each
    unit; the "covariance", centred but not normalised; or "raw", the mean product, neither centred nor normalised
    (Git Re-Basin, arXiv 2209.04836, section 3.1). A unit that is constant at a point has similarity 0 there.
    `stream`: a group seen at several points (a residual stream) counts the similarity at all of them ("sum") or, as
    the paper's code, at its last ("last").
    `weight_mix`: share, in [0, 1], of the similarity of weights; above 0 the solution above is where `match_jointly`
    starts, which weighs both in units of a correlation. `MatchResult.objective` is that of the activations.
    `preset`: "paper" repeats the published ResNet20 matching, flaws included, for comparison only: the correlation of
    `PaperMoments` (mean of the standard deviations within batches, 1e-4 added to the denominator, equal weight per
    batch), at the last observation, and for the last stream at the one before its last (`paper_points`). It sets the
    other three. Only pairs with a constant unit, which the published code leaves to the solver, are settled as above.

    `source` and `reference` are networks or state dicts, evaluated in eval mode on the device of the source and not
    modified; `batches` yields input tensors or (input, target) pairs. `progress(done, total)` is called after each
    batch, with total 0 where the length of `batches` is unknown. Warns where there are fewer images than units, and
    where images look as if they were not normalised. Raises InputError for an argument with a value it cannot have,
    networks that differ, a symmetry of another network, activations that are not finite, or no batch.
    """
    check_settings(objective, stream, weight_mix, preset)
    states = [state_of(source), state_of(reference)]
    check_alike(states[0], states[1], names=("source", "reference"))
    check_symmetry(symmetry, states[0], "source")
    points = paper_points(symmetry) if preset == "paper" else _points(symmetry, stream)
    kind = PaperMoments if preset == "paper" else CrossMoments
    moments, num_samples = _stream(states, watched(batches), symmetry, points, kind, progress)
    _check_finite(moments, symmetry)
    _warn_if_few(num_samples, symmetry.groups)
    similarities = {}
    for group, size in symmetry.groups.items():  # each group's moments are let go before the next is worked on
        statistics = {point: moments.pop((group, point)) for point in points[group]}
        similarities[group] = group_similarity(group, size, statistics, objective)
    assignments = {
        group: similarity.assignment(solve_assignment(similarity.matrix, group))
        for group, similarity in similarities.items()
    }
    assignments = settle_ties(assignments, states[0], states[1], symmetry)
    permutation = Permutation({group: assignment.indices for group, assignment in assignments.items()})
    if weight_mix > 0:
        scaled = {group: similarity.matrix * similarity.scale for group, similarity in similarities.items()}
        permutation = match_jointly(scaled, states[0], states[1], symmetry, permutation, weight_mix)
    live = {group: found.assignment(permutation[group]).live_pairs for group, found in similarities.items()}
    means = {group: found.mean(permutation[group]) for group, found in similarities.items()}
    return MatchResult(permutation, means, live, num_samples)


def check_settings(objective: str, stream: str, weight_mix: float, preset: str | None) -> None:
    """Raise InputError for an argument of `match_activations` with a value it cannot have."""
    for name, value, kind in (("objective", objective, Objective), ("stream", stream, Stream)):
        if value not in get_args(kind):
            raise InputError(f"{name} is {value!r}, expected one of {', '.join(get_args(kind))}")
    if not isinstance(weight_mix, Real) or isinstance(weight_mix, bool) or not 0 <= weight_mix <= 1:
        raise InputError(f"weight_mix is {weight_mix!r}, expected a number from 0 (activations) to 1 (weights)")
    if preset is None:
        return
    if preset not in get_args(Preset):
        raise InputError(f"preset is {preset!r}, expected {' or '.join(map(repr, get_args(Preset)))} or None")
    for name, value, default in (
        ("objective", objective, "correlation"),
        ("stream", stream, "sum"),
        ("weight_mix", weight_mix, 0.0),
    ):
        if value != default:
            raise InputError(f"{name} is {value!r}, but preset {preset!r} sets it: expected its default {default!r}")


def check_symmetry(symmetry: Symmetry, state: Mapping[str, Tensor], argument: str) -> None:
    """Raise InputError, naming the state's argument, unless the symmetry is one of a network with such a state."""
    missing = [name for name in symmetry.axes if name not in state]
    if missing:
        raise InputError(f"symmetry has {missing[0]}, {argument} does not: trace the symmetry of this network")
    known = {name: tensor for name, tensor in state.items() if name in symmetry.axes}
    symmetry.permute(known, symmetry.identity())  # refuses other shapes, with both values


def _points(symmetry: Symmetry, stream: Stream) -> dict[str, range]:
    """Which observations of each group count."""
    counts = {group: len(symmetry.observations.get(group, ())) for group in symmetry.groups}
    return {
        group: range(count) if stream == "sum" else range(max(0, count - 1), count) for group, count in counts.items()
    }


def _stream(
    states: list[dict[str, Tensor]],  # of the source and the reference
    batches: Iterable[Any],
    symmetry: Symmetry,
    points: Mapping[str, range],
    kind: type[CrossMoments] | type[PaperMoments],
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[tuple[str, int], CrossMoments | PaperMoments], int]:
    """Moments by (group, observation), and the number of images, from one pass."""
    moments = {(group, k): kind(symmetry.groups[group]) for group in points for k in points[group]}

    def visit(group: str, k: int, units: list[Tensor]) -> None:
        if (group, k) in moments:
            moments[group, k].update(*units)

    device, num_samples = device_of(states[0]), 0
    states = [states[0], {name: tensor.to(device) for name, tensor in states[1].items()}]
    total = len(batches) if isinstance(batches, Sized) else 0
    for done, batch in enumerate(nonempty(batches), start=1):
        inputs = inputs_of(batch, device)
        symmetry.observe(states, inputs, visit)
        num_samples += len(inputs[0])
        if progress is not None:
            progress(done, total)
    return moments, num_samples


def _check_finite(moments: Mapping[tuple[str, int], CrossMoments | PaperMoments], symmetry: Symmetry) -> None:
    """Raise InputError, naming network and layer, for the first activations, as executed, that are not finite."""
    for group, k in sorted(moments, key=lambda point: symmetry.observations[point[0]][point[1]].step):
        for name, side in (("source", moments[group, k].source), ("reference", moments[group, k].reference)):
            if not bool(torch.isfinite(side.total + side.squares).all()):
                where = symmetry.observations[group][k]
                raise InputError(
                    f"activations of {group} (observation {k}) are NaN or infinite in {name}, first after "
                    f"{where.module or 'the network itself'} ({where.node}): the network diverged, or its inputs are "
                    "not finite"
                )


def _warn_if_few(num_samples: int, groups: Mapping[str, int]) -> None:
    widest = max(groups, key=lambda group: groups[group], default=None)
    if widest is not None and num_samples < groups[widest]:
        warnings.warn(
            f"matching {groups[widest]} units of {widest} on {num_samples} images: with fewer images than units "
            "the permutation is unreliable",
            stacklevel=3,
        )
