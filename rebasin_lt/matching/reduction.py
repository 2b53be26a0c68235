"""Sums over the processes of `torch.distributed`; without it there is one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def summed(tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The sum over all processes of the group, which all must call it: a new tensor in fp64, on the same device."""
    return _reduced(tensor, dist.ReduceOp.SUM, group)


def largest(value: float, group: dist.ProcessGroup | None = None) -> float:
    """The largest value of any process of the group, which all must call it."""
    return float(_reduced(torch.tensor(value, dtype=torch.float64), dist.ReduceOp.MAX, group))


_NCCL = "cuda"
"""The kind of device on which NCCL reduces."""


def _place(device: torch.device, backend: str) -> torch.device:
    """Where a tensor of `device` is reduced: NCCL takes it where it lies, if that is a GPU; all others on the CPU.

    The current GPU is that of the tensor only where the process has chosen it: else all processes meet on the first.
    """
    if backend != "nccl":
        return torch.device("cpu")
    return device if device.type == _NCCL else torch.device(_NCCL)


def _reduced(tensor: Tensor, op: Any, group: dist.ProcessGroup | None) -> Tensor:
    if not dist.is_initialized():
        return tensor.to(torch.float64, copy=True)
    copy = tensor.to(_place(tensor.device, dist.get_backend(group)), torch.float64, copy=True)
    dist.all_reduce(copy, op=op, group=group)
    return copy.to(tensor.device)
