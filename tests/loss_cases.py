"""Every loss with a small network, data of uneven batches, and its curves out of torch's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZES = (7, 4, 1)  # the last batch holds one


class Net(nn.Module):
    """Two layers over the last dimension of x, and what is made of their answer."""

    def __init__(self, seed: int, width: int, shape: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden, self.head, self.shape = nn.Linear(5, 6), nn.Linear(6, width), shape
        self.double().eval()

    def forward(self, x: Tensor) -> Any:
        return self.shape(self.head(self.hidden(x).relu()))


def same(answer: Tensor) -> Tensor:
    return answer


class Case(NamedTuple):
    """A loss: the answers' shape, data, and both curves out of torch's functions, of all data at once."""

    width: int
    shape: Callable[[Tensor], Tensor]
    inputs: tuple[int, ...]  # of one sample
    labels: Callable[[int], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor] | None
    count: Callable[[Tensor], int]


def ignoring(labels: Tensor) -> Tensor:
    """Some labels are ignored, those of a batch's first sample all but the last of all."""
    kept = torch.where(torch.rand(labels.shape) < 0.4, -100, labels)
    kept[0] = -100
    kept[-1, ..., -1] = labels[-1, ..., -1]
    return kept


def wrong(logits: Tensor, labels: Tensor) -> Tensor:
    kept = labels != -100
    return (logits.argmax(1) != labels)[kept].double().mean()


def next_of(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, labels: function(logits[:, :-1].transpose(1, 2), labels[:, 1:])


CASES = {
    "cross_entropy": Case(4, same, (), lambda n: torch.randint(0, 4, (n,)), F.cross_entropy, wrong, len),
    "pixel_cross_entropy": Case(
        3,
        lambda out: out.movedim(-1, 1),
        (2, 3),
        lambda n: ignoring(torch.randint(0, 3, (n, 2, 3))),
        F.cross_entropy,
        wrong,
        lambda labels: int((labels != -100).sum()),
    ),
    "token_cross_entropy": Case(
        3,
        same,
        (4,),
        lambda n: ignoring(torch.randint(0, 3, (n, 4))),
        lambda logits, labels: F.cross_entropy(logits.transpose(1, 2), labels),
        lambda logits, labels: wrong(logits.transpose(1, 2), labels),
        lambda labels: int((labels != -100).sum()),
    ),
    "next_token_cross_entropy": Case(
        3,
        same,
        (4,),
        lambda n: ignoring(torch.randint(0, 3, (n, 4))),
        next_of(F.cross_entropy),
        next_of(wrong),
        lambda labels: int((labels[:, 1:] != -100).sum()),
    ),
    "bce": Case(
        3,
        same,
        (),
        lambda n: (torch.rand(n, 3) > 0.5).double(),
        F.binary_cross_entropy_with_logits,
        lambda logits, labels: ((logits > 0) != (labels > 0.5)).double().mean(),
        Tensor.numel,
    ),
    "mse": Case(2, same, (3,), lambda n: torch.randn(n, 3, 2).double(), F.mse_loss, None, Tensor.numel),
}


def batches_of(case: Case) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(7)
    return [(torch.randn(size, *case.inputs, 5).double(), case.labels(size)) for size in SIZES]
