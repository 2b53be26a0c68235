"""One pass over the data: the same images through both networks, every group's units into their moments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rebasin_lt.batches import device_of
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.matching.chosen_rows import ChosenRows
from rebasin_lt.matching.inputs import watched
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.paper import PaperMoments
from rebasin_lt.matching.reached import ReachedMoments
from rebasin_lt.matching.reduction import summed
from rebasin_lt.precision import full_precision
from rebasin_lt.process.ranks import failing_together
from rebasin_lt.symmetry.trace import Symmetry

Moments = CrossMoments | PaperMoments | ReachedMoments
Points = Mapping[str, range]  # which observations of each group count


@dataclass(frozen=True)
class Pass:
    """How the networks are run; see `match_activations`."""

    autocast: torch.dtype | None = None
    channels_last: bool = True
    progress: Callable[[int, int], None] | None = None


def stream(
    states: list[dict[str, Tensor]],  # of the source and the reference
    batches: Iterable[Any],
    symmetry: Symmetry,
    points: Points,
    kind: type[CrossMoments] | type[PaperMoments],
    how: Pass,
) -> tuple[dict[tuple[str, int], Moments], int]:
    """Moments by (group, observation), and the number of images, from one pass over the batches of every process.

    Warns of groups that are observed nowhere, of rows that compare nothing, which are left out (`ChosenRows`), and
    where there are fewer images than units. Raises InputError where there is no batch, and for activations that are
    not finite; and OtherRankFailed where another process failed on its batches.
    """
    _warn_of_unseen([group for group, places in points.items() if not places])
    moments: dict[tuple[str, int], Moments] = {
        (group, k): _moments_of(symmetry, group, k, kind) for group in points for k in points[group]
    }

    def visit(group: str, k: int, units: list[Any]) -> None:
        if (group, k) in moments:
            moments[group, k].update(*units)

    device, num_samples = device_of(states[0]), 0
    lay_out = _with_channels_last if how.channels_last else _as_it_is
    states = [{name: lay_out(tensor.to(device)) for name, tensor in state.items()} for state in states]
    chosen = ChosenRows(states[0], symmetry)
    with failing_together():
        calls = calls_of(batches, symmetry.form)
        total = len(calls)
        for done, call in enumerate(watched(calls), start=1):
            call = call.to(device).laid_out(lay_out)
            with full_precision(device), torch.autocast(device.type, how.autocast, enabled=how.autocast is not None):
                symmetry.observe(states, call, visit)
                chosen.look(call)
            num_samples += call.num_samples
            if how.progress is not None:
                how.progress(done, total)
    num_samples = int(summed(torch.tensor(num_samples)))
    if num_samples == 0:
        raise InputError("batches is empty, expected at least one batch")
    moments = {point: moments.pop(point).all_reduce() for point in [*moments]}
    moments = _without_chosen(moments, chosen.points(), symmetry)
    _check_finite(moments, symmetry)
    _warn_if_few(num_samples, symmetry.groups)
    return moments, num_samples


def _moments_of(
    symmetry: Symmetry, group: str, k: int, kind: type[CrossMoments] | type[PaperMoments]
) -> CrossMoments | PaperMoments | ReachedMoments:
    """Where an observation's samples are added up: those of units that only some samples reach by themselves."""
    num_units = symmetry.num_units(group)
    if symmetry.observations[group][k].route is None:
        return kind(num_units)
    return ReachedMoments(num_units, num_units // symmetry.groups[group])


def _with_channels_last(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _check_finite(moments: Mapping[tuple[str, int], Moments], symmetry: Symmetry) -> None:
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


def _without_chosen(
    moments: dict[tuple[str, int], Moments], chosen: Collection[tuple[str, int]], symmetry: Symmetry
) -> dict[tuple[str, int], Moments]:
    """The moments without those of rows whose tokens each network chooses, with a warning if there were any."""
    left = {point: found for point, found in moments.items() if point not in chosen}
    if groups := list(dict.fromkeys(group for group, k in moments if (group, k) in chosen)):
        alone = [group for group in groups if group not in {name for name, _ in left}]
        by_weights = f"; units of {', '.join(alone)} are matched by their weights alone" if alone else ""
        warnings.warn(
            f"rows of {', '.join(groups)} are not seen to be of the same tokens in both networks, as where experts "
            f"choose theirs: what units do there does not count{by_weights}",
            stacklevel=4,
        )
    return left


def _warn_if_few(num_samples: int, groups: Mapping[str, int]) -> None:
    widest = max(groups, key=lambda group: groups[group], default=None)
    if widest is not None and num_samples < groups[widest]:
        warnings.warn(
            f"matching {groups[widest]} units of {widest} on {num_samples} images: with fewer images than units "
            "the permutation is unreliable",
            stacklevel=4,
        )


def _warn_of_unseen(groups: Sequence[str]) -> None:
    if groups:
        others = f" and {len(groups) - 1} other groups" if len(groups) > 1 else ""
        warnings.warn(
            f"units of {groups[0]}{others} are observed nowhere, as those that only a branch of torch.cond computes, "
            "or that one product of several tensors sums over: they are matched by their weights alone",
            stacklevel=4,
        )
