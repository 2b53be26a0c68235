"""Activation matching: align a source network to a reference by what their units do on the same inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.batches import Network, check_alike, device_of, inputs_of, nonempty, state_of
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.weight import Assignment, settle_ties
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

Stream = Literal["sum", "last"]


@dataclass(frozen=True)
class MatchResult:
    """What `match_activations` found."""

    permutation: Permutation  # aligns the source to the reference
    objective: dict[str, float]  # group -> mean similarity of its matched live pairs, in [-1, 1]; 0 where none is live
    live: dict[str, Tensor]  # group -> which reference units form a live pair with their source unit; (n,), bool
    num_samples: int  # images


def match_activations(
    source: Network,
    reference: Network,
    batches: Iterable[Any],
    symmetry: Symmetry,
    *,
    stream: Stream = "sum",
    progress: Callable[[int, int], None] | None = None,
) -> MatchResult:
    """The permutation that aligns `source` to `reference`, for all groups from one pass over `batches`.

    Per group the sum over units of the Pearson correlation of matched pairs is maximised (arXiv 2505.05143, Eq. 1);
    every image and site is a sample. No group's statistic depends on another's permutation, so one pass serves all.
    `stream`: a group seen at several points (a residual stream) counts the correlation at all of them ("sum") or, as
    the paper's code, at its last ("last"). A unit that is constant at a point has correlation 0 there. Pairs in which
    either unit is constant everywhere are settled by their weights (`settle_ties`), at no cost to the correlations.

    `source` and `reference` are networks or state dicts, evaluated in eval mode on the device of the source and not
    modified; `batches` yields input tensors or (input, target) pairs. `progress(done, total)` is called after each
    batch, with total 0 where the length of `batches` is unknown. Warns where there are fewer images than units. Raises
    InputError for networks that differ, a symmetry of another network, activations that are not finite, or no batch.
    """
    if stream not in get_args(Stream):
        raise InputError(f"stream is {stream!r}, expected one of {', '.join(get_args(Stream))}")
    states = [state_of(source), state_of(reference)]
    check_alike(states[0], states[1], names=("source", "reference"))
    _check_symmetry(symmetry, states[0])
    points = {group: _points(symmetry, group, stream) for group in symmetry.groups}
    moments, num_samples = _stream(states, batches, symmetry, points, progress)
    _warn_if_few(num_samples, symmetry.groups)
    assignments, objective = {}, {}
    for group in symmetry.groups:
        statistics = {point: moments.pop((group, point)) for point in points[group]}
        assignments[group], objective[group] = _match_group(group, symmetry.groups[group], statistics)
    assignments = settle_ties(assignments, states[0], states[1], symmetry)
    permutation = Permutation({group: assignment.indices for group, assignment in assignments.items()})
    live = {group: assignment.live_pairs for group, assignment in assignments.items()}
    return MatchResult(permutation, objective, live, num_samples)


def _check_symmetry(symmetry: Symmetry, state: Mapping[str, Tensor]) -> None:
    missing = [name for name in symmetry.axes if name not in state]
    if missing:
        raise InputError(f"symmetry has {missing[0]}, source does not: trace the symmetry of this network")
    known = {name: tensor for name, tensor in state.items() if name in symmetry.axes}
    symmetry.permute(known, symmetry.identity())  # refuses other shapes, with both values


def _points(symmetry: Symmetry, group: str, stream: Stream) -> range:
    """Which observations of the group count."""
    num_points = len(symmetry.observations.get(group, ()))
    return range(num_points) if stream == "sum" else range(max(0, num_points - 1), num_points)


def _stream(
    states: list[dict[str, Tensor]],  # of the source and the reference
    batches: Iterable[Any],
    symmetry: Symmetry,
    points: Mapping[str, range],
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[tuple[str, int], CrossMoments], int]:
    """Moments by (group, observation), and the number of images, from one pass."""
    moments = {(group, k): CrossMoments(symmetry.groups[group]) for group in points for k in points[group]}

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


def _warn_if_few(num_samples: int, groups: Mapping[str, int]) -> None:
    widest = max(groups, key=lambda group: groups[group], default=None)
    if widest is not None and num_samples < groups[widest]:
        warnings.warn(
            f"matching {groups[widest]} units of {widest} on {num_samples} images: with fewer images than units "
            "the permutation is unreliable",
            stacklevel=3,
        )


def _match_group(group: str, num_units: int, statistics: Mapping[int, CrossMoments]) -> tuple[Assignment, float]:
    """The assignment of largest summed correlation, and the mean correlation of its live pairs over their points."""
    similarity = torch.zeros(num_units, num_units, dtype=torch.float64)
    lives = []  # per point, live units of the source and of the reference
    for point, moments in statistics.items():
        correlation = moments.correlation().cpu()
        if not bool(torch.isfinite(correlation).all()):
            raise InputError(f"activations of {group} (observation {point}) are NaN or infinite: the network diverged")
        similarity += correlation
        lives.append((moments.source.live.cpu(), moments.reference.live.cpu()))
    indices = solve_assignment(similarity, group)
    dead = torch.zeros(num_units, dtype=torch.bool)
    live_source, live_reference = (sum(side, start=dead) for side in (zip(*lives, strict=True) if lives else ((), ())))
    num_pairs = sum(int((reference & source[indices]).sum()) for source, reference in lives)
    matched = float(similarity.gather(1, indices[:, None]).sum())
    return Assignment(indices, live_source, live_reference), matched / num_pairs if num_pairs else 0.0
