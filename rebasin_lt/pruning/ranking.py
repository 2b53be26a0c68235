"""Pruning by a score: the lowest go, over all tensors together, in exact numbers and by one rule for ties."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask


def remove_lowest(scores: Mapping[str, Tensor], mask: Mask, count: int) -> Mask:
    """Remove those `count` of the *kept* weights that have the lowest scores, over all tensors together.

    `scores` has a tensor of its weight's shape for every name of the mask, on any device. Among equal scores the
    earlier goes first: the order of the mask's names, then the flat index. The inputs are unchanged. Raises InputError
    for scores that do not fit the mask, or that are not finite where a weight is kept, and for a mask without tensors.
    """
    if not mask:
        raise InputError("the mask names no weight: there is nothing to prune")
    mask.check_fits(scores)
    kept = torch.cat([tensor.reshape(-1) for tensor in mask.values()])
    values = torch.cat([scores[name].detach().cpu().reshape(-1) for name in mask])
    candidates = kept.nonzero().squeeze(1)
    values = values[candidates]
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            "the scores of the weights to prune hold NaN or infinity: the training that made them diverged, "
            "or the scores overflow"
        )
    kept[candidates[_lowest(values, count)]] = False
    parts = torch.split(kept, [tensor.numel() for tensor in mask.values()])
    return Mask({name: part.reshape(mask[name].shape) for name, part in zip(mask, parts, strict=True)})


def removals(mask: Mask, sparsity: float) -> int:
    """The number of weights that must still go until exactly round(sparsity · weights) of the mask's weights are gone.

    Raises InputError for a sparsity outside [0, 1) or below the mask's own.
    """
    check_sparsity(sparsity)
    count = round(sparsity * mask.num_weights) - (mask.num_weights - mask.num_kept)
    if count < 0:
        raise InputError(f"sparsity is {sparsity}, but the mask is at {mask.sparsity:.4f} already")
    return count


def check_sparsity(sparsity: float) -> None:
    """Raise InputError for a sparsity outside [0, 1)."""
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity is {sparsity}, expected at least 0 and below 1")


def _lowest(values: Tensor, count: int) -> Tensor:
    """Indices of the `count` lowest values, the earlier ones among equals: selection, which is faster than sorting."""
    if count == 0:
        return torch.empty(0, dtype=torch.long)
    threshold = values.kthvalue(count).values
    below = (values < threshold).nonzero().squeeze(1)
    ties = (values == threshold).nonzero().squeeze(1)
    return torch.cat([below, ties[: count - len(below)]])
