"""Random masks: how many weights each layer keeps, in exact numbers, and which ones by lot."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import check_sparsity
from rebasin_lt.settings.generators import check_generator


def random_uniform(mask: Mask, sparsity: float, generator: torch.Generator | None = None) -> Mask:
    """A random mask with the names and shapes of `mask` and the same sparsity in every layer.

    The layers' counts differ from that by less than one weight. Raises InputError for a sparsity outside [0, 1), and a
    generator that is none of the CPU's.

        >>> dense = rb.Mask.ones_of(rb.build_network("mlp"))
        >>> [round(row["sparsity"], 1) for row in rb.random_uniform(dense, 0.8).report()]
        [0.8, 0.8, 0.8, 0.8]
    """
    return random_counts(mask, uniform_counts(mask, _num_kept(mask, sparsity)), generator)


def random_erk(mask: Mask, sparsity: float, generator: torch.Generator | None = None) -> Mask:
    """A random mask with the names and shapes of `mask` and Erdős-Rényi-kernel layer densities (`erk_counts`).

    Raises InputError for a sparsity outside [0, 1), and a generator that is none of the CPU's.

        >>> dense = rb.Mask.ones_of(rb.build_network("mlp"))
        >>> round(rb.random_erk(dense, 0.8).sparsity, 2)
        0.8
    """
    return random_counts(mask, erk_counts(mask, _num_kept(mask, sparsity)), generator)


def random_counts(mask: Mask, counts: Mapping[str, int], generator: torch.Generator | None = None) -> Mask:
    """A random mask with the names and shapes of `mask` that keeps exactly counts[name] weights of each tensor.

    Raises InputError for a count that a tensor cannot have, and a generator that is none of the CPU's.
    """
    check_generator(generator)
    return Mask({name: _by_lot(tensor, counts[name], generator) for name, tensor in mask.items()})


def uniform_counts(tensors: Mapping[str, Tensor], num_kept: int) -> dict[str, int]:
    """The number of weights of each tensor to keep for equal densities, `num_kept` in total."""
    return _rounded(tensors, _densities(tensors, dict.fromkeys(tensors, 1.0), num_kept), num_kept)


def erk_counts(tensors: Mapping[str, Tensor], num_kept: int) -> dict[str, int]:
    """The number of weights of each tensor to keep by Erdős-Rényi-kernel, `num_kept` in total.

    Densities are proportional to (n_in + n_out + k_w + k_h) / (n_in · n_out · k_w · k_h), of a linear weight to
    (n_in + n_out) / (n_in · n_out); a layer that would exceed 1 is dense, and the others share the rest in proportion
    (Evci et al., *Rigging the lottery*, ICML 2020, section 3). Counts are rounded by largest remainder, the earlier
    name first among equals. Unlike in that paper's experiments, the classifier is a layer like the others.
    """
    proportions = {name: sum(tensor.shape) / max(1, tensor.numel()) for name, tensor in tensors.items()}
    return _rounded(tensors, _densities(tensors, proportions, num_kept), num_kept)


def _densities(tensors: Mapping[str, Tensor], proportions: Mapping[str, float], num_kept: int) -> dict[str, float]:
    """min(1, ε · proportion) with the one ε for which `num_kept` weights are kept.

    A layer above 1 leaves more to the others, so ε only grows as layers become dense, and none comes back.
    """
    dense: set[str] = set()
    while True:
        rest = num_kept - sum(tensors[name].numel() for name in dense)
        shares = sum(proportions[name] * tensors[name].numel() for name in tensors if name not in dense)
        scale = rest / shares if shares else 0.0
        above = {name for name in tensors if name not in dense and scale * proportions[name] > 1}
        if not above:
            return {name: 1.0 if name in dense else scale * proportions[name] for name in tensors}
        dense |= above


def _rounded(tensors: Mapping[str, Tensor], densities: Mapping[str, float], num_kept: int) -> dict[str, int]:
    """Whole numbers by largest remainder, `num_kept` in total."""
    exact = {name: densities[name] * tensor.numel() for name, tensor in tensors.items()}
    exact = {name: round(value, 6) for name, value in exact.items()}  # so that 2.9999999 is 3
    counts = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(tensors, key=lambda name: counts[name] - exact[name])  # stable: the earlier name first
    for name in by_remainder[: num_kept - sum(counts.values())]:
        counts[name] += 1
    return counts


def _num_kept(mask: Mask, sparsity: float) -> int:
    check_sparsity(sparsity)
    return mask.num_weights - round(sparsity * mask.num_weights)


def _by_lot(tensor: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if not 0 <= count <= tensor.numel():
        raise InputError(f"counts has {count} for a tensor of {tensor.numel()} weights, expected 0 to that")
    kept = torch.zeros(tensor.numel(), dtype=torch.bool)
    kept[torch.randperm(tensor.numel(), generator=generator)[:count]] = True
    return kept.reshape(tensor.shape)
