"""Global unstructured magnitude pruning with exact counts."""

from __future__ import annotations

from rebasin_lt.batches import Network, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import removals, remove_lowest


def magnitude_prune(state: Network, mask: Mask, fraction: float) -> Mask:
    """Remove the `fraction` of the *kept* weights that is smallest in magnitude, over all layers together.

    Exactly round(fraction · kept) weights go. Among equal magnitudes the earlier goes first: the order of the mask's
    names, then the flat index. The inputs are unchanged. Raises InputError for a fraction outside [0, 1] and for a
    mask that does not fit `state`.

        >>> state = {"weight": torch.tensor([[1.0, -4.0], [3.0, 2.0]])}
        >>> rb.magnitude_prune(state, rb.Mask.ones_like(state), 0.5)["weight"].tolist()
        [[False, True], [True, False]]
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"pruning fraction is {fraction}, expected a number from 0 to 1")
    return _prune_count(state, mask, round(fraction * mask.num_kept))


def prune_to_sparsity(state: Network, mask: Mask, sparsity: float) -> Mask:
    """Prune by magnitude until exactly round(sparsity · weights) of the mask's weights are gone.

    Raises InputError for a sparsity outside [0, 1) or below the mask's own.

        >>> state = {"weight": torch.tensor([[1.0, -4.0], [3.0, 2.0]])}
        >>> half = rb.magnitude_prune(state, rb.Mask.ones_like(state), 0.5)
        >>> rb.prune_to_sparsity(state, half, 0.75)["weight"].tolist()
        [[False, True], [False, False]]
    """
    return _prune_count(state, mask, removals(mask, sparsity))


def one_shot_like(state: Network, mask: Mask) -> Mask:
    """The one-shot magnitude mask of a network that keeps as many weights of the mask's tensors together as the mask.

    Raises InputError as `magnitude_prune`.
    """
    return magnitude_prune(state, Mask.ones_like(state, mask), mask.sparsity)


def _prune_count(state: Network, mask: Mask, count: int) -> Mask:
    state = state_of(state)
    mask.check_fits(state)
    return remove_lowest({name: state[name].abs() for name in mask}, mask, count)
