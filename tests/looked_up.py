"""Experts whose weights are looked up for each example, in the ways that there are of laying out their rows."""

from __future__ import annotations

from functools import cache

import torch
from nested import Experts
from torch import Tensor

from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry


class LookedUp(Experts):
    """Each example gets the weights of the two experts that its labels name."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        best, chosen = self.gate(x).topk(2, -1)
        rows, labels = x.repeat_interleave(2, 0), chosen.flatten()
        hidden = self.inside(torch.bmm(self.w1[labels], rows[..., None]).squeeze(-1) + self.b1[labels, 0])
        given = torch.bmm(self.w2[self.read(labels)], hidden[..., None]).squeeze(-1)
        return self.leave(x + (given * best.softmax(-1).reshape(-1, 1)).view(-1, 2, 6).sum(1))

    def inside(self, hidden: Tensor) -> Tensor:
        return hidden.relu()

    def read(self, labels: Tensor) -> Tensor:
        return labels


class InOrder(LookedUp):
    """Rows are sorted by their labels, computed there, and brought back."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        best, chosen = self.gate(x).topk(2, -1)
        labels, order = self.ordered(chosen.flatten())
        hidden = (self.product(self.w1, x[order // 2], labels) + self.b1[labels, 0]).relu()
        given = self.product(self.w2, hidden, labels) * best.softmax(-1).flatten()[order, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(order.shape[0])
        return self.leave(x + given[back].view(-1, 2, 6).sum(1))

    def ordered(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        return labels.sort()

    def product(self, matrices: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        return torch.bmm(matrices[labels], rows[..., None]).squeeze(-1)


class ByOrder(InOrder):
    """The same, where the sorted labels are looked up too."""

    def ordered(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        order = labels.argsort()
        return labels[order], order


class Best(LookedUp):
    """Each example gets the weights of its best expert."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        best, labels = self.gate(x).max(-1)
        hidden = self.inside(torch.bmm(self.w1[labels], x[..., None]).squeeze(-1) + self.b1[labels, 0])
        return self.leave(x + best[:, None] * torch.bmm(self.w2[labels], hidden[..., None]).squeeze(-1))


class OfTokens(LookedUp):
    """The same for each token of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class ByChoice(LookedUp):
    """Each example, or token, gets the weights of both of its experts by labels of more dimensions than one."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        best, labels = self.gate(x).topk(2, -1)
        hidden = self.inside((self.w1[labels] @ x[..., None, :, None]).squeeze(-1) + self.b1[labels][..., 0, :])
        given = (self.w2[self.read(labels)] @ hidden[..., None]).squeeze(-1)
        return self.leave(x + (given * best.softmax(-1)[..., None]).sum(-2))


class InSums(ByChoice):
    """The same in sums that name all of their dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        best, labels = self.gate(x).topk(2, -1)
        hidden = self.inside(torch.einsum("bkhd,bd->bkh", self.w1[labels], x) + self.b1[labels][:, :, 0])
        weights = self.w2[self.read(labels)]
        return self.leave(x + torch.einsum("bkdh,bkh,bk->bd", weights, hidden, best.softmax(-1)))


LOOKED_UP: dict[str, tuple[type[Experts], tuple[int, ...]]] = {
    "rows beside one another": (LookedUp, (3,)),
    "rows in order": (InOrder, (3,)),
    "rows by their order": (ByOrder, (3,)),
    "one row each": (Best, (3,)),
    "tokens": (OfTokens, (5, 3)),
    "by choice": (ByChoice, (3,)),
    "tokens by choice": (ByChoice, (5, 3)),
    "in sums": (InSums, (3,)),
}
"""A network, and the shape of one example of its inputs."""


@cache
def traced(kind: type[Experts], shape: tuple[int, ...]) -> tuple[Experts, Symmetry]:
    """A network in fp64 with random parameters, and its symmetry."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind().double()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter)
        return network, trace_symmetry(network, examples(6, shape))


def examples(batch: int, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
