"""Masks to compare with: what a permuted mask must beat before alignment can take the credit."""

from __future__ import annotations

import torch

from rebasin_lt.pruning.mask import Mask


def shuffle_layerwise(mask: Mask, generator: torch.Generator | None = None) -> Mask:
    """Each tensor's entries in random order: layer sparsities survive, rows, columns and features do not.

    The control of Su et al. (*Sanity-checking pruning methods*, NeurIPS 2020).
    """
    return Mask({
        name: tensor.reshape(-1)[torch.randperm(tensor.numel(), generator=generator)].reshape(tensor.shape)
        for name, tensor in mask.items()
    })
