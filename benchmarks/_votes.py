"""Tried: one mask that the masks of several networks, all moved to one, vote on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import remove_lowest


def vote(masks: Sequence[Mask], generator: torch.Generator) -> Mask:
    """The weights that most of the masks keep, as many as the first keeps; among equal votes at random."""
    scores = {}
    for name in masks[0]:
        votes = torch.stack([mask[name].double() for mask in masks]).sum(0)
        scores[name] = votes + torch.rand(votes.shape, generator=generator, dtype=torch.float64) / 2
    everything = Mask.ones_like(scores)
    return remove_lowest(scores, everything, everything.num_weights - masks[0].num_kept)
