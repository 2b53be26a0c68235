"""Masks between another network's mask and a network's own magnitudes."""

from __future__ import annotations

import torch

from rebasin_lt.batches import Network, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import remove_lowest


def mix_with_magnitude(mask: Mask, state: Network, share: float) -> Mask:
    """The `share` of the way from `mask`, such as π(m_A), to the one-shot magnitude mask of `state` of equal count.

    0 gives the mask, 1 the magnitude mask M, over all layers together. Of the d weights in which they differ,
    round(share · d) are exchanged: the smallest of those that only the mask keeps for the largest of those that
    only M keeps. That is the top set of a bonus for being in the mask plus any increasing function of |w|, raw,
    scaled or ranked: these all run through the same masks, and `share` measures the way in weights instead of in units
    of a bonus. A signed mask gives a signed one: what comes in has its sign in `state`. Ties as in `remove_lowest`.
    Raises InputError for a share outside [0, 1] and a mask that does not fit.

        >>> state = {"weight": torch.tensor([[1.0, -4.0], [3.0, 2.0]])}
        >>> mask = rb.Mask({"weight": torch.tensor([[True, False], [False, True]])})
        >>> rb.mix_with_magnitude(mask, state, 0.5)["weight"].tolist()
        [[False, True], [False, True]]
    """
    if not 0 <= share <= 1:
        raise InputError(f"share is {share}, expected a number from 0 (the mask) to 1 (the magnitudes)")
    state = state_of(state)
    magnitude = one_shot_like(state, mask)
    size = {name: state[name].cpu().abs() for name in mask}
    leaving = Mask({name: kept & ~magnitude[name] for name, kept in mask.items()})
    coming = Mask({name: kept & ~mask[name] for name, kept in magnitude.items()})
    exchanged = round(share * leaving.num_kept)
    stays = remove_lowest(size, leaving, exchanged)
    waits = remove_lowest(size, coming, coming.num_kept - exchanged)
    mixed = Mask({name: (kept & magnitude[name]) | stays[name] | waits[name] for name, kept in mask.items()})
    if not mask.is_signed:
        return mixed
    own = mixed.signed_by(state).content
    return Mask({name: torch.where(kept, mask.content[name], own[name]) * mixed[name] for name, kept in mask.items()})
