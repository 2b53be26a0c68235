"""Networks that each need one thing that a rule asks for; `PARTS` has the sizes of the groups that are left."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from operators_by_index import UNITS, Case, aten, largest_of
from torch import Tensor

in_ranges = torch.ops.transformers.grouped_mm_fallback


def ends(h: Tensor) -> Tensor:
    """How many rows have a largest unit that lies no later than each."""
    return torch.histc(largest_of(h).to(torch.float64), UNITS, 0, UNITS - 1).cumsum(0).to(torch.int64)


def places(h: Tensor) -> Tensor:
    return h.topk(3)[1]


def beside(h: Tensor, result: Tensor) -> Tensor:
    """A result that is the same for all examples, for each of them."""
    return h.sum(1).view(-1, *[1] * result.ndim) * result


def attended(h: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    return beside(h, F.scaled_dot_product_attention(query, key, value, mask))


def in_order(h: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return beside(h, F.scaled_dot_product_attention(query, key, value, is_causal=True))


def of_two(h: Tensor, first: Tensor, second: Tensor, table: Tensor) -> Tensor:
    """Labels of one layer's units, some of which are those of another's."""
    names = (h @ first).argmax(1).index_put((torch.arange(1),), (h @ second).argmax(1)[:1])
    return table[names]


SQUARE, ROWS = (UNITS, UNITS), (UNITS, 5)
PARTS: dict[str, tuple[Case, tuple[int, ...]]] = {
    "look up by ends": (Case("vector", lambda h, w: h @ w[ends(h)], ((20, 5),)), (5,)),
    "look up the first rows": (Case("vector", lambda h, w: w[largest_of(h)], ((UNITS + 1, 5),)), (8, 5)),
    "look up ends": (Case("vector", lambda h: h * ends(h)[largest_of(h)][:, None]), ()),
    "rows of labels": (
        Case("vector", lambda h: F.embedding((h[:, 0] > 0).long(), h.argsort(1).to(h.dtype))),
        (),
    ),
    "rows by labels": (Case("vector", lambda h, w: F.embedding(largest_of(h), w), (ROWS,)), (8, 5)),
    "put": (
        Case("vector", lambda h, w, v: h @ w.index_put((torch.arange(3),), h[:3] @ v), (ROWS, ROWS)),
        (5, 5),  # some rows of the table are written over
    ),
    "put labels among others": (Case("vector", of_two, (SQUARE, SQUARE, ROWS)), (8, 8, 5)),
    "put labels among numbers": (
        Case(
            "vector",
            lambda h: h[:3] * h.new_zeros(3).index_put((torch.arange(3),), largest_of(h)[:3].to(h.dtype))[:, None],
        ),
        (),
    ),
    "add labels": (
        Case(
            "vector",
            lambda h: h[:3] * h.new_zeros(3).index_add(0, torch.arange(3), largest_of(h)[:3].to(h.dtype))[:, None],
        ),
        (),
    ),
    "add by labels": (
        Case("vector", lambda h, w, v: beside(h, w.index_add(0, largest_of(h), h @ v)), (ROWS, ROWS)),
        (8, 5),
    ),
    "gather by units": (Case("vector", lambda h, w: (h @ w).gather(1, places(h)), (SQUARE,)), (8,)),
    "gather beside units": (Case("tokens", lambda h, w: h.gather(1, (h @ w).argsort(1)), (SQUARE,)), (8,)),
    "scatter into labels": (
        Case("vector", lambda h: h.argsort(1).scatter(1, torch.zeros(3, 1, dtype=torch.int64), 0).to(h.dtype)),
        (),
    ),
    "scatter labels": (
        Case("vector", lambda h: torch.zeros_like(h).scatter(1, places(h), places(h).to(h.dtype))),
        (),
    ),
    "scatter beside units": (
        Case("tokens", lambda h, w: torch.zeros_like(h).scatter(1, h.argsort(1), h @ w), (SQUARE,)),
        (8,),
    ),
    "ones by ends": (Case("vector", lambda h: h @ F.one_hot(ends(h), 9).to(h.dtype)), ()),
    "largest in any order": (Case("vector", lambda h, w: h.topk(3, sorted=False)[0] * w, ((3,),)), ()),
    "labels sorted": (Case("vector", lambda h: places(h).sort(1)[0].to(h.dtype)), ()),
    "rows in the order of labels": (Case("vector", lambda h: h[largest_of(h).sort()[1]].cumsum(0)), ()),
    "labels in wide bins": (
        Case("vector", lambda h: beside(h, torch.histc(largest_of(h).to(h.dtype), 4, 0, 7))),
        (),
    ),
    "ranges": (
        Case("vector", lambda h, w: in_ranges(h[:3], w, torch.tensor([1, 2, 3])), ((3, UNITS, 6),)),
        (8, 6),
    ),
    "rows in ranges": (
        Case(
            "vector",
            lambda h, rows, w: beside(h, in_ranges(rows, w, torch.tensor([1, 2, 3]))),
            ((3, 4), (3, 4, 6)),
        ),
        (8, 4, 6),
    ),
    "ends of other rows": (Case("vector", lambda h, w: in_ranges(h, w, ends(h)), ((UNITS, UNITS, 6),)), (6,)),
    "bilinear bias": (
        Case("vector", lambda h, w, b: aten.bilinear(h, h.sin(), w, b), ((5, UNITS, UNITS), (5,))),
        (8, 5),
    ),
    "units as sites": (Case("vector", lambda h, w: F.conv1d(h[:, None], w), ((6, 1, 3),)), (6,)),
    "learned keys": (Case("vector", attended, ((2, 6, 4), (2, 5, 4), (2, 5, 3))), (8, 2, 6, 4, 5, 3)),
    "learned mask": (Case("vector", attended, ((2, 6, 4), (2, 5, 4), (2, 5, 3), (6, 5))), (8, 2, 6, 4, 5, 3)),
    "causal": (Case("vector", in_order, ((2, 6, 4), (2, 5, 4), (2, 5, 3))), (8, 2, 4, 3)),
    "labels and numbers": (
        Case("vector", lambda h: (largest_of(h)[:, None] == torch.tensor([3, 0, 5])).to(h.dtype)),
        (),
    ),
    "running labels": (Case("vector", lambda h: places(h).cumsum(1).to(h.dtype)), ()),
    "running units": (Case("vector", lambda h: h.cumsum(1)), ()),
    "triangle of units": (Case("vector", lambda h: (h[:, :, None] * h.sin()[:, None]).tril()), ()),
    "spectrum of units": (Case("vector", lambda h: torch.view_as_real(torch.fft.fft(h))), ()),
    "pairs of units": (Case("vector", lambda h: torch.view_as_complex(h.view(-1, 4, 2)).exp().real), (4,)),
    "grid": (
        Case(
            "vector",
            lambda h, image, grid: beside(h, aten.grid_sampler(image, grid.tanh(), 0, 0, False)),
            ((2, 5, 4, 4), (2, 3, 3, 2)),
        ),
        (8, 2, 5),
    ),
    "pools of units": (Case("vector", lambda h: F.max_pool1d(h[:, None], 2)), ()),
    "shuffled sites": (Case("vector", lambda h, w: beside(h, F.pixel_shuffle(w, 2)), ((2, 4, 3, 3),)), (8, 2)),
    "rolled as one row": (Case("vector", lambda h, w: beside(h, w.roll(1)), ((4, 3),)), (8,)),
    "padded with units": (Case("vector", lambda h: F.pad(h[:, None], (1, 1), mode="reflect")), ()),
}
