"""The straight line between two networks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rebasin_lt.batches import check_alike


def interpolate(state_a: Mapping[str, Tensor], state_b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The network (1 - alpha)·A + alpha·B, new tensors of A's dtypes on A's device; exactly A at 0 and B at 1.

    Floating tensors are interpolated, BN statistics too; integer buffers (step counters) are A's. `alpha` may leave
    [0, 1]. Raises InputError where names or shapes differ.
    """
    check_alike(state_a, state_b, ("state_a", "state_b"))
    return {name: _between(tensor.detach(), state_b[name].detach(), alpha) for name, tensor in state_a.items()}


def _between(first: Tensor, second: Tensor, alpha: float) -> Tensor:
    if not first.is_floating_point():
        return first.clone()
    return torch.lerp(first, second.to(first), alpha)
