"""Global unstructured magnitude pruning with exact counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import removals, remove_lowest


def magnitude_prune(state: Mapping[str, Tensor], mask: Mask, fraction: float) -> Mask:
    """Remove the `fraction` of the *kept* weights that is smallest in magnitude, over all layers together.

    Exactly round(fraction · kept) weights go. Among equal magnitudes the earlier goes first: the order of the mask's
    names, then the flat index. The inputs are unchanged. Raises InputError for a fraction outside [0, 1] and for a
    mask that does not fit `state`.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"pruning fraction is {fraction}, expected a number from 0 to 1")
    return _prune_count(state, mask, round(fraction * mask.num_kept))


def prune_to_sparsity(state: Mapping[str, Tensor], mask: Mask, sparsity: float) -> Mask:
    """Prune by magnitude until exactly round(sparsity · weights) of the mask's weights are gone.

    Raises InputError for a sparsity outside [0, 1) or below the mask's own.
    """
    return _prune_count(state, mask, removals(mask, sparsity))


def one_shot_like(state: Mapping[str, Tensor], mask: Mask) -> Mask:
    """The one-shot magnitude mask of a network that keeps as many weights of the mask's tensors together as the mask.

    Raises InputError as `magnitude_prune`.
    """
    return magnitude_prune(state, Mask.ones_like(state, mask), mask.sparsity)


def waypoints(targets: Sequence[float], fraction: float) -> list[float]:
    """Sparsity after each round of iterative pruning: `fraction` of what is left per round, every target hit exactly.

    The chain 1−(1−f)^r is cut at each target and goes on from there, so one run serves all targets. The masks beyond
    the first target are therefore not those of separate runs, which would not have stopped there. Raises InputError
    unless the targets increase within (0, 1) and the fraction lies in (0, 1).
    """
    if not 0 < fraction < 1:
        raise InputError(f"imp fraction is {fraction}, expected a number between 0 and 1")
    if not targets or not all(0 < target < 1 for target in targets):
        raise InputError(f"imp targets are {list(targets)}, expected sparsities between 0 and 1")
    if any(later <= earlier for earlier, later in pairwise(targets)):
        raise InputError(f"imp targets are {list(targets)}, expected increasing sparsities")
    rounds: list[float] = []
    sparsity = 0.0
    for target in targets:
        while sparsity < target:
            sparsity = 1 - (1 - sparsity) * (1 - fraction)
            if sparsity > target - 1e-9:  # a chain that lands on the target must not need a round more for rounding
                sparsity = target
            rounds.append(sparsity)
    return rounds


def _prune_count(state: Mapping[str, Tensor], mask: Mask, count: int) -> Mask:
    mask.check_fits(state)
    return remove_lowest({name: state[name].detach().abs() for name in mask}, mask, count)
