"""Dynamic sparse training: which weights to exchange while a network trains sparse."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask


def exchange_fraction(step: int, end: float, fraction: float) -> float:
    """Share of each layer's kept weights to exchange at `step`: fraction / 2 · (1 + cos(π · step / end)), 0 from `end`.

    Evci et al., *Rigging the lottery* (ICML 2020), Eq. 1.
    """
    return 0.5 * fraction * (1 + math.cos(math.pi * step / end)) if step < end else 0.0


def exchange_weights(state: Mapping[str, Tensor], mask: Mask, fraction: float, growth: Mapping[str, Tensor]) -> Mask:
    """In each tensor drop the kept weights of smallest magnitude, and keep as many others, of highest growth score.

    Exactly floor(fraction · kept) weights of each tensor are dropped and grown, so every count stays. Grown are those
    of largest |growth| among all that are not kept after the drop. The dropped ones are among these, as in the
    algorithm of Evci et al. (2020, Algorithm 1) and of Mocanu et al. (*Scalable training of artificial neural networks
    with adaptive sparse connectivity*, 2018): one that is grown again was never away. Among equals the earlier flat
    index is dropped and grown first. The scores are dense gradients (RigL) or `random_scores` (SET); they and the
    weights may lie on any device. Unlike in SET, where zeros are approached from either sign separately, magnitudes
    decide. The inputs are unchanged.

    Raises InputError for a fraction outside [0, 1], scores or weights that are missing, of another shape or not finite.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"exchange fraction is {fraction}, expected a number from 0 to 1")
    mask.check_fits(state)
    mask.check_fits(growth)
    return Mask({
        name: _exchanged(name, tensor, state[name].detach(), growth[name].detach(), fraction)
        for name, tensor in mask.items()
    })


def random_scores(mask: Mask, generator: torch.Generator) -> dict[str, Tensor]:
    """Scores by which every weight is equally likely to grow: a random order of each tensor's weights, int64."""
    return {
        name: torch.randperm(tensor.numel(), generator=generator).reshape(tensor.shape) for name, tensor in mask.items()
    }


def random_layers(mask: Mask, sparsity: float, generator: torch.Generator) -> Mask:
    """A random mask of equal sparsity in every tensor: round(sparsity · weights) of each are removed, by lot.

    Raises InputError for a sparsity outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity is {sparsity}, expected at least 0 and below 1")
    return Mask({
        name: scores >= round(sparsity * scores.numel()) for name, scores in random_scores(mask, generator).items()
    })


def _exchanged(name: str, kept: Tensor, weight: Tensor, growth: Tensor, fraction: float) -> Tensor:
    """The new mask tensor, on the weight's device."""
    flat = kept.to(weight.device, copy=True).flatten()
    magnitude, score = weight.abs().flatten(), growth.to(weight.device).abs().flatten()
    for what, values in (("weights", magnitude), ("growth scores", score)):
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"the {what} of {name} hold NaN or infinity: the training that made them diverged")
    count = math.floor(fraction * int(flat.sum()) + 1e-9)  # so that 0.3 of 10 is 3
    flat[_first(magnitude, flat, count)] = False
    flat[_first(score, ~flat, count, descending=True)] = True
    return flat.reshape(kept.shape)


def _first(values: Tensor, among: Tensor, count: int, descending: bool = False) -> Tensor:
    """Flat indices of the `count` smallest or largest values where `among` holds, the earlier first among equals."""
    candidates = among.nonzero().squeeze(1)
    return candidates[torch.sort(values[candidates], stable=True, descending=descending).indices[:count]]
