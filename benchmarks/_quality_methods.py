"""Ways to find a permutation, those that the package offers and those that were tried and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._straight_through import match_by_loss
from rebasin_lt.batches import state_of
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.joint import match_jointly
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.signs import match_signs, signs_of
from rebasin_lt.matching.similarity import GroupSimilarity, group_similarity
from rebasin_lt.matching.ties import settle_ties
from rebasin_lt.matching.two_levels import solve_groups
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pair:
    """Networks A (the source) and B (the reference), and what a method may look at."""

    source: nn.Module  # A at the end of its dense training
    reference: nn.Module  # B, likewise
    early: tuple[nn.Module, nn.Module]  # A and B at the rewind point
    ticket: nn.Module  # A pruned, and trained by the last round of pruning
    mask: Mask  # the ticket's
    symmetry: Symmetry
    batches: Iterable[Any]  # training images, not augmented
    seed: int


Method = Callable[[Pair], Permutation]


def _activations(**settings: Any) -> Method:
    return lambda pair: (
        match_activations(pair.source, pair.reference, pair.batches, pair.symmetry, **settings).permutation
    )


def _weights(method: Any) -> Method:
    return lambda pair: match_weights(pair.source, pair.reference, pair.symmetry, method=method).permutation


def _random(pair: Pair) -> Permutation:
    return pair.symmetry.random(torch.Generator().manual_seed(pair.seed))


def _ticket(pair: Pair) -> Permutation:
    """Match the pruned A instead of the dense one: its activations are those of the weights that the mask keeps."""
    return match_activations(pair.ticket, pair.reference, pair.batches, pair.symmetry).permutation


def _two_moments(pair: Pair) -> Permutation:
    """Correlations at the rewind point and at the end, added up."""
    late = _similarities(pair, pair.source, pair.reference)
    early = _similarities(pair, *pair.early)
    return _solved(pair, {group: late[group].matrix + early[group].matrix for group in late}, late)


def _surviving(pair: Pair) -> Permutation:
    """Correlations, a unit of A weighing as much as the magnitude that pruning leaves around it."""
    late = _similarities(pair, pair.source, pair.reference)
    kept = _pruned(pair.source, pair.mask)
    matrices = {group: found.matrix * _magnitude(group, kept, pair.symmetry)[None, :] for group, found in late.items()}
    return _solved(pair, matrices, late)


def _retained(mix: float) -> Method:
    """Correlations, jointly with the magnitude of B's weights that the permuted mask keeps."""

    def match(pair: Pair) -> Permutation:
        late = _similarities(pair, pair.source, pair.reference)
        start = _solved(pair, {group: found.matrix for group, found in late.items()}, late)
        scaled = {group: found.matrix * found.scale for group, found in late.items()}
        return match_jointly(scaled, _as_state(pair.mask, pair), _magnitudes(pair), pair.symmetry, start, mix)

    return match


def _kept_weights(pair: Pair) -> Permutation:
    """Correlations, jointly with those weights of A that the mask keeps."""
    found = match_activations(pair.source, pair.reference, pair.batches, pair.symmetry, masks={"mask": pair.mask})
    return found.masked["mask"]


def _kept_frank_wolfe(pair: Pair) -> Permutation:
    """By those weights of A that the mask keeps, alone."""
    masks = {"mask": pair.mask}
    return match_weights(pair.source, pair.reference, pair.symmetry, method="frank_wolfe", masks=masks).masked["mask"]


def _straight_through(pair: Pair) -> Permutation:
    """By the loss of B's weights under the mask, from Frank-Wolfe on the kept weights."""
    batches, start = list(pair.batches), _kept_frank_wolfe(pair)
    return match_by_loss(pair.source.state_dict(), pair.reference, batches, pair.symmetry, pair.mask, start)


def _signs(pair: Pair) -> Permutation:
    """By the signs of the ticket's kept weights, against B's weights."""
    masks = {"mask": pair.mask.signed_by(pair.ticket.state_dict())}
    return match_signs(pair.source, pair.reference, pair.symmetry, masks=masks).masked["mask"]


def _counted_signs(pair: Pair) -> Permutation:
    """The same, but every sign that agrees counts alike."""
    ticket = pair.ticket.state_dict()
    signs = {name: tensor.sign() for name, tensor in pair.reference.state_dict().items()}
    states = (signs_of(pair.mask.signed_by(ticket), ticket), signs)
    return match_weights(*states, pair.symmetry, method="frank_wolfe").permutation


def _signs_at_the_rewind_point(pair: Pair) -> Permutation:
    """By the signs of the ticket's kept weights, against B's weights at the rewind point."""
    masks = {"mask": pair.mask.signed_by(pair.ticket.state_dict())}
    return match_signs(pair.source, pair.early[1], pair.symmetry, masks=masks).masked["mask"]


def _composed(pair: Pair) -> Permutation:
    """By the kept weights: at the rewind point, and from there uphill at the end."""
    early, late = (pair.mask.applied_to(state_of(network)) for network in (pair.early[0], pair.source))
    start = match_weights(early, pair.early[1], pair.symmetry, method="frank_wolfe").permutation
    return match_weights(late, pair.reference, pair.symmetry, start=start).permutation


METHODS: dict[str, tuple[str, Method]] = {
    "naive": ("no permutation", lambda pair: pair.symmetry.identity()),
    "random": ("random permutation", _random),
    "paper": ("preset: paper", _activations(preset="paper")),
    "correlation-last": ("correlation, last", _activations(stream="last")),
    "correlation-sum": ("correlation, sum", _activations()),
    "covariance-last": ("covariance, last", _activations(objective="covariance", stream="last")),
    "covariance-sum": ("covariance, sum", _activations(objective="covariance")),
    "weights": ("weights, coordinate descent", _weights("coordinate_descent")),
    "frank-wolfe": ("weights, Frank-Wolfe", _weights("frank_wolfe")),
    "joint-correlation": ("joint ½, correlation", _activations(weight_mix=0.5)),
    "joint-covariance": ("joint ½, covariance", _activations(objective="covariance", weight_mix=0.5)),
    "pruned-weights": ("joint ½, correlation, kept weights", _kept_weights),
    "kept-frank-wolfe": ("weights, Frank-Wolfe, kept weights", _kept_frank_wolfe),
    "signs": ("signs", _signs),
    "signs-early": ("tried: signs, B at the rewind point", _signs_at_the_rewind_point),
    "composed": ("tried: kept weights, along two moments", _composed),
    "straight-through": ("tried: the loss under the mask, straight-through", _straight_through),
    "counted-signs": ("tried: signs, counted", _counted_signs),
    "ticket": ("tried: pruned A", _ticket),
    "two-moments": ("tried: both moments", _two_moments),
    "surviving": ("tried: weighed by what survives", _surviving),
    "retained": ("tried: joint ½ with retained magnitude", _retained(0.5)),
}
"""Name -> title, and how. Those that say "tried" are not in the package."""


def _similarities(pair: Pair, source: nn.Module, reference: nn.Module) -> dict[str, GroupSimilarity]:
    """The correlations of all units of both networks, as `match_activations` takes them."""
    moments: dict[tuple[str, int], CrossMoments] = {}

    def visit(group: str, k: int, units: list[Tensor]) -> None:
        moments.setdefault((group, k), CrossMoments(pair.symmetry.num_units(group))).update(*units)

    states = [state_of(network) for network in (source, reference)]
    for call in calls_of(pair.batches, pair.symmetry.form):
        pair.symmetry.observe(states, call, visit)
    return {
        group: group_similarity(
            pair.symmetry.num_units(group), [m for (g, _), m in moments.items() if g == group], "correlation"
        )
        for group in pair.symmetry.groups
    }


def _solved(pair: Pair, matrices: Mapping[str, Tensor], found: Mapping[str, GroupSimilarity]) -> Permutation:
    lives = {group: similarity.live for group, similarity in found.items()}
    best = solve_groups(matrices, pair.symmetry)
    return settle_ties(best, lives, state_of(pair.source), state_of(pair.reference), pair.symmetry)


def _pruned(network: nn.Module, mask: Mask) -> State:
    return {name: tensor * mask[name] if name in mask else tensor for name, tensor in state_of(network).items()}


def _magnitude(group: str, state: State, symmetry: Symmetry) -> Tensor:
    """The norm of all weights that read or write each unit of a group; shape (n,), fp64."""
    squares = torch.zeros(symmetry.groups[group], dtype=torch.float64)
    for name, axes in symmetry.axes.items():
        for dim, axis in enumerate(axes if state[name].dim() > 1 else ()):
            for positions in axis.positions_of(group):
                squares += state[name].double().movedim(dim, 0)[positions].flatten(1).square().sum(1)
    return squares.sqrt()


def _as_state(mask: Mask, pair: Pair) -> State:
    """The mask as weights of 0 and 1; all that it does not prune is 0."""
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state_of(pair.source).items()}
    return {**zeros, **{name: tensor.float() for name, tensor in mask.items()}}


def _magnitudes(pair: Pair) -> State:
    return {name: tensor.abs() * (name in pair.mask) for name, tensor in state_of(pair.reference).items()}
