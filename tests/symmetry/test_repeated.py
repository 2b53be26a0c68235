"""The same symmetry is found in every run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rebasin_lt.symmetry.trace import trace_symmetry


class InTwo(nn.Module):
    """Numbers that are summed for each pair of an input and an output: they could lie in either of the two."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = nn.Linear(3, 6), nn.Parameter(torch.randn(5, 6, 3)), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave((self.enter(x) @ self.inner.sum(-1).T).relu())


def test_units_that_could_lie_in_either_of_two_groups_lie_in_the_first() -> None:
    """In every run, or a permutation saved by one would not fit in the next."""
    held = []  # atoms, so that those of the next trace lie elsewhere in memory
    for _ in range(12):
        held.append(trace_symmetry(InTwo(), torch.randn(4, 3), verify=False))
        assert held[-1].within == {"inner[1]": ("enter.weight",)}
