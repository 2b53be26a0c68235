"""Experts in a list whose answers are brought together by a function of one's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nested import Listed
from torch import Tensor, nn

from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

Mixing = Callable[[Listed, Tensor], Tensor]


class Mixed(Listed):
    """Listed experts, whose answers a function of (self, input) brings together."""

    def __init__(self, mixing: Mixing) -> None:
        super().__init__()
        self.mixing = mixing

    def mixed(self, x: Tensor) -> Tensor:
        return self.mixing(self, x)


def traced(network: nn.Module, *shape: int) -> Symmetry:
    return trace_symmetry(network.double(), torch.randn(shape or (7, 3), dtype=torch.float64))


def shares(net: Listed, x: Tensor) -> Tensor:
    return net.gate(x).softmax(-1)


def written_into(net: Listed, x: Tensor) -> Tensor:
    found, share = torch.zeros_like(x), shares(net, x)
    for k, expert in enumerate(net.experts):
        found += share[:, k : k + 1] * expert(x)
    return found
