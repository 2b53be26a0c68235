"""What says how much an expert counts stays when experts are merged, wherever it lies."""

from __future__ import annotations

import torch
from nested import Experts, Listed
from torch import Tensor, nn

from rebasin_lt.matching.shared import merged_experts
from rebasin_lt.symmetry.trace import trace_symmetry


class Corrected(Experts):
    """The router is a module of its own; beside the experts lies what corrects its choice, and what scales shares."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("correction", torch.randn(4))
        self.scale = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        scores = self.gate(x).sigmoid()
        chosen = (scores + self.correction).topk(2, -1)[1]
        shares = torch.zeros_like(scores).scatter(-1, chosen, scores.gather(-1, chosen)) * self.scale
        hidden = (torch.einsum("ehd,bd->ebh", self.w1, x) + self.b1).relu()
        return self.leave(x + torch.einsum("edh,ebh,be->bd", self.w2, hidden, shares))


class Judging(nn.Module):
    """An expert that says by itself how much it counts, with what it answers beside that."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5))
        self.w2, self.b2, self.own = (nn.Parameter(torch.randn(*size)) for size in ((6, 5), (6,), (6,)))

    def forward(self, x: Tensor) -> Tensor:
        answer = (x @ self.w1.T + self.b1).relu() @ self.w2.T + self.b2
        return (x @ self.own).sigmoid()[:, None] * answer


class Judged(Listed):
    """The sum of such experts, without a router."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Judging() for _ in range(4))

    def mixed(self, x: Tensor) -> Tensor:
        return sum(expert(x) for expert in self.experts)


def test_what_corrects_or_scales_shares_beside_the_experts_stays() -> None:
    torch.manual_seed(0)
    network = Corrected()
    merged = merged_experts(network.state_dict(), trace_symmetry(network, torch.randn(4, 3)))
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(merged[name], tensor)}
    assert changed == {"w1", "b1", "w2"}


def test_gate_in_each_experts_own_module_stays() -> None:
    network = Judged()
    merged = merged_experts(network.state_dict(), trace_symmetry(network, torch.randn(4, 3)))
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(merged[name], tensor)}
    assert changed == {f"experts.{k}.{name}" for k in range(4) for name in ("w1", "b1", "w2", "b2")}
