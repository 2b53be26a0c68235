"""Matching for masks by the signs that travel with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from rebasin_lt.batches import Network, state_of
from rebasin_lt.matching.activation import MatchResult
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry


def match_signs(
    source: Network,
    reference: Network,
    symmetry: Symmetry,
    *,
    masks: Mapping[str, Mask] | None = None,
    seed: int = 0,
) -> MatchResult:
    """For each mask, the permutation under which the signs of what it keeps fit the reference's weights best.

    Maximised is the sum over the kept weights of s · w, s the sign that travels and w the reference's weight where it
    arrives: a sign that agrees counts for |w|, one that does not against it. So a mask lands where the reference has
    large weights of its signs, and the magnitudes of the source, which do not travel, have no say. All other weights
    of the source, biases and scales of normalisation too, are left out. Counting the signs that agree, |w| or not, puts
    masks where the reference has next to no weights, and they train worse (docs/matching.md).

    A signed mask has the signs of its ticket; for one without signs, those of the source's weights are taken. The
    optimum is sought as by `match_weights` with "frank_wolfe", which also gives `MatchResult.permutation`, of the
    network itself, and all else in the result. Neither looks at an image. `seed` fixes the order of groups. Raises
    InputError as `match_weights`, and for masks that do not fit.

        >>> network, twin = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in "ab")
        >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
        >>> hidden = symmetry.random()
        >>> twin.load_state_dict(symmetry.permute(network, hidden))
        <All keys matched successfully>
        >>> mask = rb.magnitude_prune(network, rb.Mask.ones_of(network), 0.5)
        >>> found = rb.match_signs(network, twin, symmetry, masks={"half": mask})
        >>> mask.permuted(symmetry, found.masked["half"]).sparsity
        0.5
    """
    state = state_of(source)
    found = match_weights(source, reference, symmetry, method="frank_wolfe", seed=seed)

    def matched(mask: Mask) -> Permutation:
        return match_weights(signs_of(mask, state), reference, symmetry, method="frank_wolfe", seed=seed).permutation

    return replace(found, masked={name: matched(mask) for name, mask in (masks or {}).items()})


def signs_of(mask: Mask, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of the same names, shapes and types: −1 and 1 where the mask keeps a weight, and 0 everywhere else.

    A mask without signs takes those of the state's weights; a weight of 0 has the sign 1. Raises InputError for a mask
    that does not fit.
    """
    mask.check_fits(state)
    signs = (mask if mask.is_signed else mask.signed_by(state)).content
    return {
        name: signs[name].to(tensor) if name in signs else torch.zeros_like(tensor) for name, tensor in state.items()
    }
