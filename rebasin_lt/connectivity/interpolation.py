"""The straight line between two networks."""

from __future__ import annotations

import torch
from torch import Tensor

from rebasin_lt.batches import Network, check_alike, state_of


def interpolate(state_a: Network, state_b: Network, alpha: float) -> dict[str, Tensor]:
    """The network (1 - alpha)·A + alpha·B, new tensors of A's dtypes on A's device; exactly A at 0 and B at 1.

    Floating tensors are interpolated, BN statistics too; integer buffers (step counters) are A's. `alpha` may leave
    [0, 1]. Raises InputError where names or shapes differ.

        >>> rb.interpolate({"weight": torch.zeros(2)}, {"weight": torch.ones(2)}, 0.25)["weight"].tolist()
        [0.25, 0.25]
    """
    first, second = state_of(state_a), state_of(state_b)
    check_alike(first, second, ("state_a", "state_b"))
    return {name: _between(tensor, second[name], alpha) for name, tensor in first.items()}


def _between(first: Tensor, second: Tensor, alpha: float) -> Tensor:
    if not first.is_floating_point():
        return first.clone()
    return torch.lerp(first, second.to(first), alpha)
