"""The experts of a mixture aligned to one another: hidden units in the same order, as far as they have any in common.

Hidden units of an expert may be permuted without a change of the function. So all experts of a layer can be brought in
the order of one, after which what is done to their weights one by one, a mean or one mask for all, means something.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rebasin_lt.batches import Network, device_of, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.matching.activation import check_symmetry
from rebasin_lt.matching.family import match_together
from rebasin_lt.matching.labelled import Labelled, labelled
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.same_tokens import SameTokens, of_own_tokens
from rebasin_lt.matching.shared import all_like
from rebasin_lt.matching.similarity import group_similarity
from rebasin_lt.matching.weight import weights_in_double
from rebasin_lt.precision import full_precision
from rebasin_lt.settings.choices import check_known
from rebasin_lt.settings.options import ALIGNED_BY
from rebasin_lt.symmetry.mixtures import Mixture, find_mixtures, mixture_label
from rebasin_lt.symmetry.observation import Observation
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.routes import Reached, Route
from rebasin_lt.symmetry.trace import Symmetry


@dataclass(frozen=True)
class AlignedExperts:
    """How the experts of each mixture are to be permuted, and how alike they are before and after.

    `similarity`: mixture -> the mean over its other experts of the cosine of their weights with those of the one that
    all are aligned to, before and after.

        >>> rb.AlignedExperts(rb.Permutation({}), (), 0, {"experts": (0.1, 0.6)}).similarity["experts"][1]
        0.6
    """

    permutation: Permutation
    mixtures: tuple[Mixture, ...]
    expert: int
    similarity: Mapping[str, tuple[float, float]]


def align_experts(
    network: Network,
    symmetry: Symmetry,
    *,
    by: str = "weights",
    batches: Iterable[Any] | None = None,
    expert: int = 0,
) -> AlignedExperts:
    """The permutation after which the hidden units of all experts of a layer are in the order of one of them.

    It changes nothing that the network computes. `by` "weights", those of each expert are matched to those of
    `expert` by their inner product, exactly where an expert has one group of hidden units. By "activations", the
    correlation of their hidden units on `batches`, of which all experts must see the same examples or tokens. The
    experts of a layer are those that `find_mixtures` finds. Raises InputError for a network without any, or with fewer
    than `expert` says; for batches where none are looked at, or none where some are; and for activations of experts
    that see different tokens: if all were like `expert`, what they do in the same rows would differ.

        >>> class Experts(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.first, self.gate = nn.Linear(3, 5), nn.Linear(5, 2)
        ...         self.w1, self.w2 = (nn.Parameter(torch.randn(2, 4, 5)) for _ in "12")
        ...
        ...     def forward(self, x):
        ...         x = self.first(x)
        ...         hidden = torch.einsum("ehi,bi->ebh", self.w1, x).relu()
        ...         return torch.einsum("eho,ebh,be->bo", self.w2, hidden, self.gate(x).softmax(-1))
        >>> network = Experts()
        >>> found = rb.align_experts(network, rb.trace_symmetry(network, torch.zeros(7, 3)))
        >>> before, after = found.similarity["the network"]
        >>> before <= after
        True
    """
    check_known("by", by, ALIGNED_BY)
    if (batches is None) != (by == "weights"):
        raise InputError(
            "batches is given, but experts are aligned by weights: leave it out"
            if batches is not None
            else "batches is not given, but experts are aligned by activations: give some"
        )
    state = state_of(network)
    check_symmetry(symmetry, state, "network")
    mixtures = mixtures_to_align(symmetry, expert, by)
    seen = {} if batches is None else _seen(state, batches, symmetry, mixtures, expert)
    exact = weights_in_double(state, symmetry)
    found = dict(symmetry.identity())
    for mixture in mixtures:
        found |= _aligned(mixture, exact, symmetry, expert, seen)
    permutation = Permutation(found, symmetry.within)
    after = weights_in_double(symmetry.permute(exact, permutation), symmetry)
    similarity = {
        mixture_label(mixture): (_cosine(mixture, exact, symmetry, expert), _cosine(mixture, after, symmetry, expert))
        for mixture in mixtures
    }
    return AlignedExperts(permutation, mixtures, expert, similarity)


def mixtures_to_align(symmetry: Symmetry, expert: int = 0, by: str = ALIGNED_BY[0]) -> tuple[Mixture, ...]:
    """The mixtures of a network.

    Raises InputError if it has none, or one of fewer experts than `expert` says; and for activations, if hidden units
    of one show nowhere, or never where two experts see the same.
    """
    mixtures = find_mixtures(symmetry)
    if not mixtures:
        raise InputError("the network has no mixture of experts whose hidden units can be permuted")
    for mixture in mixtures:
        if not 0 <= expert < mixture.num_experts:
            raise InputError(
                f"expert is {expert}, but {mixture_label(mixture)} has {mixture.num_experts}: expected 0 to "
                f"{mixture.num_experts - 1}"
            )
        for group in mixture.hidden[0] if by == "activations" else ():
            _check_seen(mixture, group, symmetry.observations[group])
    return mixtures


def _check_seen(mixture: Mixture, group: str, points: Sequence[Observation]) -> None:
    if not points:
        raise InputError(
            f"the hidden units {group} of {mixture_label(mixture)} show in nothing that the network computes, as where "
            "one product of several tensors sums over them: align them by weights"
        )
    if all(isinstance(point.route, Route) for point in points):
        raise of_own_tokens(mixture)


def _parts(mixture: Mixture, state: Mapping[str, Tensor], symmetry: Symmetry, first: int, other: int) -> list[Labelled]:
    """The weights of two experts, of `first` as the reference, by the hidden units of the mixture's first expert."""
    parts: list[Labelled] = []
    inside = mixture.hidden[0]
    path = mixture.path
    if path:
        units = list(itertools.product(*(range(symmetry.groups[group]) for group in path)))
        for name in filter(symmetry.is_learned, mixture.tensors[0]):
            for part in labelled(state[name], state[name], symmetry.places[name], (*path, *inside)):
                if set(path) <= set(part.groups):
                    parts.append(_of_units(part, path, units[first], units[other]))
        return parts
    for one, ours, theirs in zip(*(mixture.tensors[k] for k in (0, first, other)), strict=True):
        if one in symmetry.parameters:
            parts += labelled(state[ours], state[theirs], symmetry.axes[one], inside)
    return parts


def _of_units(part: Labelled, path: Sequence[str], first: Sequence[int], other: Sequence[int]) -> Labelled:
    """The weights of one joint unit of the reference and one of the source."""
    for group, mine, theirs in zip(path, first, other, strict=True):
        every = part.first(group)
        part = every._replace(reference=every.reference[mine], source=every.source[theirs])
    return part


def _aligned(
    mixture: Mixture,
    state: Mapping[str, Tensor],
    symmetry: Symmetry,
    expert: int,
    seen: Mapping[tuple[str, int], Mapping[str, Tensor]],
) -> dict[str, Tensor]:
    """The index of every hidden group of a mixture."""
    inside, rows = mixture.hidden[0], []
    within = {name: [outer for outer in symmetry.within.get(name, ()) if outer in inside] for name in inside}
    for other in range(mixture.num_experts):
        if (mixture.name, other) in seen:
            own = seen[mixture.name, other]
            parts: list[Labelled] = []
        else:
            own = {}
            parts = [part for part in _parts(mixture, state, symmetry, expert, other) if part.groups]
        rows.append(match_together(inside, parts, own, within, keep=True)[1])
    if mixture.outer is not None:
        sizes = [symmetry.groups[group] for group in mixture.path]
        every = {name: torch.stack([found[name] for found in rows]) for name in inside}
        return {name: index.reshape(*sizes, *index.shape[1:]) for name, index in every.items()}
    return {
        own: found[name]
        for groups, found in zip(mixture.hidden, rows, strict=True)
        for name, own in zip(inside, groups, strict=True)
    }


def _cosine(mixture: Mixture, state: Mapping[str, Tensor], symmetry: Symmetry, expert: int) -> float:
    """The mean over the other experts of the cosine of their weights with those of one."""
    values = []
    for other in (other for other in range(mixture.num_experts) if other != expert):
        parts = _parts(mixture, state, symmetry, expert, other)
        sides = ([part.reference for part in parts], [part.source for part in parts])
        squares = [sum(float(tensor.square().sum()) for tensor in side) for side in sides]
        product = sum(part.inner_product() for part in parts)
        values.append(product / (squares[0] * squares[1]) ** 0.5 if min(squares) > 0 else 0.0)
    return sum(values) / len(values)


def _seen(
    state: Mapping[str, Tensor], batches: Iterable[Any], symmetry: Symmetry, mixtures: Sequence[Mixture], expert: int
) -> dict[tuple[str, int], dict[str, Tensor]]:
    """The correlations of hidden units of the expert with those of each of its layer, by mixture and number.

    For each group of the first expert, a matrix of shape (units of the expert, units of the other).
    """
    wanted = {group for mixture in mixtures for groups in mixture.hidden for group in groups}
    moments: dict[tuple[str, int, str, int], CrossMoments] = {}
    device, num_batches = device_of(state), 0
    alike, tokens = all_like(state, symmetry, mixtures, expert), SameTokens()
    with torch.no_grad():
        for call in calls_of(batches, symmetry.form):
            num_batches += 1
            held: list[dict[tuple[str, int], Tensor]] = [{}, {}]

            def visit(
                group: str, k: int, units: list[Any], held: Sequence[dict[tuple[str, int], Tensor]] = held
            ) -> None:
                for own, found in zip(held, units, strict=True):
                    every = found.every if isinstance(found, Reached) else found  # of all tokens, chosen or not
                    if group in wanted and every is not None:
                        own[group, k] = every.flatten(0, -2).clone()

            with full_precision(device):
                symmetry.observe([state, alike], call.to(device), visit)
            for mixture in mixtures:
                for key, side, reference in _sides(mixture, held[0], expert):
                    moments.setdefault(key, CrossMoments(side.shape[-1])).update(side, reference)
                for (_, other, _, _), side, reference in _sides(mixture, held[1], expert):
                    if other != expert:
                        tokens.update(mixture, side, reference)
    if not num_batches:
        raise InputError("batches is empty, expected at least one batch")
    tokens.check(mixtures)
    found: dict[tuple[str, int], dict[str, Tensor]] = {}
    for mixture in mixtures:
        for other in range(mixture.num_experts):
            for name in mixture.hidden[0]:
                own = [
                    m
                    for (home, number, group, _), m in moments.items()
                    if (home, number, group) == (mixture.name, other, name)
                ]
                size = len(own[0].products)
                found.setdefault((mixture.name, other), {})[name] = group_similarity(size, own, "correlation").matrix
    return found


def _sides(
    mixture: Mixture, held: Mapping[tuple[str, int], Tensor], expert: int
) -> Iterator[tuple[tuple[str, int, str, int], Tensor, Tensor]]:
    """What hidden units of each expert did in one call, and what those of the one they are aligned to did.

    With mixture, number of the expert, group, and number of the observation.
    """
    for place, name in enumerate(mixture.hidden[0]):
        points = sorted(k for group, k in held if group == name)
        for k in points:
            if mixture.outer is not None:
                sides = list(held[name, k].reshape(len(held[name, k]), mixture.num_experts, -1).unbind(1))
            else:
                sides = [held[groups[place], k] for groups in mixture.hidden]
            if len({side.shape for side in sides}) > 1:
                raise InputError(
                    f"the experts of {mixture_label(mixture)} see different tokens, on which their hidden units cannot "
                    "be compared: align them by weights"
                )
            for other, side in enumerate(sides):
                yield (mixture.name, other, name, k), side, sides[expert]
