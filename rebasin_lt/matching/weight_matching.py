"""Weight matching: match a source network to a reference by their weights alone, without data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.batches import Network, check_alike, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import MatchResult, check_symmetry
from rebasin_lt.matching.coordinate_ascent import ascend, cosine_scale
from rebasin_lt.matching.frank_wolfe import frank_wolfe
from rebasin_lt.matching.labelled import joint_units
from rebasin_lt.matching.weight import inner_product, weight_names, weights_in_double
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.choices import check_known
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

_METHODS = ("coordinate_descent", "frank_wolfe")


def match_weights(
    source_state: Network,
    reference_state: Network,
    symmetry: Symmetry,
    *,
    method: str = "coordinate_descent",
    seed: int = 0,
    max_sweeps: int = 100,
    start: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Mask] | None = None,
) -> MatchResult:
    """The permutation of the source whose weights have a large inner product with the reference's.

    `method`: "coordinate_descent" is Git Re-Basin's Algorithm 1 (arXiv 2209.04836) for any symmetry, heads of attention
    included. Groups are visited in a random order, fixed by `seed`, and each gets its best permutation given the
    others', until a sweep gains nothing or `max_sweeps` are done; the objective never falls. "frank_wolfe" (C2M3, arXiv
    2405.17897), also for any symmetry, moves soft permutations of all groups together, for at most `max_sweeps` steps,
    each with an exact line search; what they round to, or the start if that is better, is then finished by coordinate
    descent. Both find a local optimum.

    All floating parameters count, in fp64 on the CPU, each element alike: large tensors have most to say. Buffers move
    with their units and do not count (`weight_names`).
    `start` is a permutation of every group, by default the identity (for Frank-Wolfe: no preference). `masks` are masks
    of the source by names of your choice: for each, `MatchResult.masked` holds the permutation found in the same way
    from the weights that it keeps. The states, or networks, are not modified.

    In the result, `objective` holds per group the cosine between reference and permuted source of all tensors on which
    it acts, `live` the pairs of units that both have weights other than 0, and `num_samples` is 0. Raises InputError
    for networks that differ, a symmetry of another network, masks that do not fit, weights that are not finite, or an
    argument with a value it cannot have.

        >>> network, twin = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in "ab")
        >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
        >>> hidden = symmetry.random()
        >>> twin.load_state_dict(symmetry.permute(network, hidden))
        <All keys matched successfully>
        >>> rb.match_weights(network, twin, symmetry).permutation == hidden
        True
    """
    _check_settings(method, seed, max_sweeps)
    states = [state_of(source_state), state_of(reference_state)]
    names = ("source_state", "reference_state")
    check_alike(states[0], states[1], names)
    check_symmetry(symmetry, states[0], names[0])
    source, reference = (_exact(state, symmetry, name) for state, name in zip(states, names, strict=True))
    first = symmetry.identity() if start is None else _checked_start(start, symmetry)

    def matched(source: Mapping[str, Tensor]) -> Permutation:
        begin = first
        if method == "frank_wolfe":
            rounded = frank_wolfe(source, reference, symmetry, None if start is None else first, max_steps=max_sweeps)
            every = weight_names(symmetry, source)
            values = [inner_product(every, source, reference, symmetry, p) for p in (first, rounded)]
            begin = rounded if values[1] > values[0] else first
        return ascend(source, reference, symmetry, begin, seed=seed, max_sweeps=max_sweeps)

    permutation = matched(source)
    masked = {
        name: matched(weights_in_double(mask.applied_to(states[0]), symmetry)) for name, mask in (masks or {}).items()
    }
    objective, live = {}, {}
    for group in symmetry.groups:
        names_of = weight_names(symmetry, source, group)
        moved = symmetry.joint(permutation, group)
        inner = inner_product(names_of, source, reference, symmetry, permutation)
        objective[group] = inner * cosine_scale(group, source, reference, symmetry)
        live[group] = _nonzero(reference, symmetry, group) & _nonzero(source, symmetry, group)[moved]
    return MatchResult(permutation, objective, live, num_samples=0, masked=masked)


def _check_settings(method: str, seed: int, max_sweeps: int) -> None:
    check_known("method", method, _METHODS)
    for name, value, least in (("seed", seed, 0), ("max_sweeps", max_sweeps, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} is {value!r}, expected an integer of at least {least}")


def _checked_start(start: Mapping[str, Tensor], symmetry: Symmetry) -> Permutation:
    """The start as a `Permutation`. Raises InputError unless it has every group of the symmetry, and no other."""
    if not isinstance(start, Mapping):
        raise InputError(f"start is a {type(start).__name__}, expected a permutation of every group")
    permutation = start if isinstance(start, Permutation) else Permutation(start, symmetry.within)
    symmetry.permute({}, permutation)  # refuses other groups and sizes, with both values
    missing = [group for group in symmetry.groups if group not in permutation]
    if missing:
        raise InputError(f"start has no permutation of {missing[0]}, expected one of every group")
    return permutation


def _exact(state: Mapping[str, Tensor], symmetry: Symmetry, argument: str) -> dict[str, Tensor]:
    """The state `weights_in_double`. Raises InputError if a tensor that counts is not finite."""
    exact = weights_in_double(state, symmetry)
    for name in weight_names(symmetry, exact):
        if not bool(torch.isfinite(exact[name]).all()):
            raise InputError(f"{name} of {argument} has values that are NaN or infinite: the network diverged")
    return exact


def _nonzero(state: Mapping[str, Tensor], symmetry: Symmetry, group: str) -> Tensor:
    """Which units of the group have any weight that is not 0, shape (n,), bool."""
    found = torch.zeros(symmetry.num_units(group), dtype=torch.bool)
    for name in weight_names(symmetry, state, group):
        if group in symmetry.within:
            path = (*symmetry.within[group], group)
            for units, _ in joint_units(state[name], state[name], symmetry.places[name], path):
                found |= units.any(1)
            continue
        for dim, axis in enumerate(symmetry.places[name]):
            for positions in axis.positions_of(group):
                found |= state[name].movedim(dim, 0)[positions].flatten(1).any(1)
    return found
