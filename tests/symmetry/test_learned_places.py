"""Parameters that lie along sites, tokens and positions: what makes an operator tell places apart must fix them too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from networks import Net, weight
from torch import Tensor, nn

from rebasin_lt.symmetry.trace import trace_symmetry


def scaled(run: Callable[..., Tensor], *canvas: int) -> Net:
    """A learned tensor is worked on, and its sum with the inputs, weighed place by place, is the output."""
    with torch.no_grad():
        places = run(torch.randn(canvas)).flatten().shape[0]
    return Net(
        lambda net, x: F.linear(run(net.canvas).flatten(), net.read) + x, canvas=weight(*canvas), read=weight(5, places)
    )


def attended(**settings: bool) -> Net:
    """Learned keys and values are a memory whose slots may change places, with the bias for each of them."""

    def run(net: Net, x: Tensor) -> Tensor:
        mask = net.bias if settings.get("masked") else None
        queries = net.queries if settings.get("causal") else x[None, None]
        h = F.scaled_dot_product_attention(
            queries, net.keys, net.values, attn_mask=mask, is_causal=settings.get("causal", False)
        )
        return h.sum(2) + x if settings.get("causal") else h[0, 0]

    return Net(run, keys=weight(1, 1, 6, 5), values=weight(1, 1, 6, 5), queries=weight(1, 1, 6, 5), bias=weight(1, 6))


def chosen(run: Callable[[Tensor, Tensor], Tensor]) -> Net:
    """Indices that are computed from a parameter: each says what is taken there."""
    return Net(
        lambda net, x: run(net.a(x), (net.choice > 0).long()) @ net.read,
        a=nn.Linear(5, 4),
        choice=weight(6),
        read=weight(6, 5),
    )


CONVOLVED, KERNEL = (1, 2, 4, 4), torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(0))
NETWORKS: dict[str, tuple[Callable[[], Net], dict[str, int]]] = {
    "memory": (attended, {"keys": 6}),
    "memory with a bias": (lambda: attended(masked=True), {"keys": 6}),
    "causal memory": (lambda: attended(causal=True), {"queries": 5}),
    "convolution": (lambda: scaled(lambda canvas: F.conv2d(canvas, KERNEL.to(canvas)), *CONVOLVED), {}),
    "pooling": (lambda: scaled(lambda canvas: F.max_pool2d(canvas, 2), *CONVOLVED), {"canvas": 2}),
    "pixel shuffle": (lambda: scaled(lambda canvas: F.pixel_shuffle(canvas, 2), 1, 12, 3, 3), {"canvas": 3}),
    "roll of everything": (lambda: scaled(lambda canvas: canvas.roll(1), 3, 4), {}),
    "roll of a dimension": (lambda: scaled(lambda canvas: canvas.roll(1, 1), 3, 4), {"canvas": 3, "canvas[1]": 4}),
    "reflection": (lambda: scaled(lambda canvas: F.pad(canvas, (1, 1), mode="reflect"), 3, 4), {"canvas": 3}),
    # what is chosen lies as its indices do, which may change places with what reads them
    "index_select": (lambda: chosen(lambda h, index: h.index_select(1, index)), {"choice": 6}),
    "index": (lambda: chosen(lambda h, index: h[:, index]), {"choice": 6}),
    "embedding": (
        lambda: chosen(lambda h, index: h.sum(1)[:, None] * F.embedding(index, h[0, :2, None])[:, 0]),
        {"a.weight": 2, "choice": 6},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_places_that_are_told_apart_stay(name: str) -> None:
    torch.manual_seed(0)
    build, groups = NETWORKS[name]
    symmetry = trace_symmetry(build(), torch.randn(5, 5))
    assert dict(symmetry.groups) == groups
