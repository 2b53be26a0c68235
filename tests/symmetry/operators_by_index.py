"""Small networks for the rules of operators that choose, look up, sort, add up and transform; see operators.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
UNITS = 8
GRID, GRIDS = torch.rand(1, 3, 3, 2) * 2 - 1, torch.rand(1, 2, 3, 3, 3) * 2 - 1


class Case(NamedTuple):
    """What is done to hidden units of a kind, with parameters of some shapes."""

    kind: str
    apply: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...] = ()


def on_device(recorded: Callable[..., Tensor], plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator that only other devices have: it is recorded in the graph, and `plain` is what runs here."""
    return lambda *tensors: recorded(*tensors) if torch.compiler.is_exporting() else plain(*tensors)


@torch.library.custom_op("transformers::grouped_mm_fallback", mutates_args=())
def _in_ranges(input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    """As Hugging Face's networks multiply where PyTorch has no operator for it: stands in for theirs."""
    out, start = input.new_zeros(len(input), weight.shape[2]), 0
    for matrix, end in zip(weight, offs.tolist(), strict=True):
        out[start:end] = input[start:end] @ matrix
        start = end
    return out


_in_ranges.register_fake(lambda input, weight, offs: input.new_empty(input.shape[0], weight.shape[2]))


def grouped(product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Each row is multiplied by the matrix that its largest hidden unit names; rows are sorted by that, and back."""

    def operator(h: Tensor, weight: Tensor) -> Tensor:
        names, order = h.argmax(1).sort()
        counts = torch.histc(names.to(torch.float64), UNITS, 0, UNITS - 1)
        rows = product(h[order], weight, counts.cumsum(0).to(torch.int32))
        back = torch.empty_like(order)
        back[order] = torch.arange(len(h))
        return rows[back]

    return operator


def spectra(h: Tensor) -> Tensor:
    """The real and imaginary parts of the sequence's spectrum."""
    return torch.view_as_real(torch.fft.fft(h, dim=2)).flatten(2)


def transform(name: str) -> Callable[[Tensor], Tensor]:
    """The spectrum of the last dimension, or of sites, as real and imaginary parts."""
    dims = {"dim": [2, 3]} if name[-1] in "2n" else {}

    def operator(h: Tensor) -> Tensor:
        given = h if name.startswith(("fft_r", "fft_ih")) else h + 0j
        found = getattr(aten, name)(given, **dims)
        return torch.view_as_real(found.resolve_conj()) if found.is_complex() else found

    return operator


def largest_of(h: Tensor) -> Tensor:
    """The place of each row's largest unit."""
    return h.argmax(1)


CASES: dict[str, Case] = {
    "clone": Case("vector", torch.clone),
    "floor_divide": Case("vector", lambda h, w: torch.floor_divide(h * 9, w.abs() + 1), ((UNITS,),)),
    "rsub": Case("vector", lambda h, w: torch.rsub(h, w), ((UNITS,),)),
    "log_sigmoid": Case("vector", lambda h: aten.log_sigmoid(h)),
    "complex": Case("vector", lambda h: torch.view_as_real(torch.complex(h, h.sin()))),
    "polar": Case("vector", lambda h: torch.view_as_real(torch.polar(h.abs(), h))),
    "outer": Case("vector", lambda h, w: h[:, :, None] * torch.outer(w, w.sin()), ((UNITS,),)),
    "eq": Case("vector", lambda h: (largest_of(h)[:, None] == torch.arange(UNITS)).to(h.dtype)),
    "ne": Case("vector", lambda h: (torch.arange(UNITS) != largest_of(h)[:, None]).to(h.dtype)),
    "empty": Case("vector", lambda h: torch.empty(h.shape).copy_(h)),
    "empty_like": Case("vector", lambda h: torch.empty_like(h).copy_(h)),
    "new_empty": Case("vector", lambda h: h.new_empty(h.shape).copy_(h)),
    "empty_strided": Case("vector", lambda h: torch.empty_strided((3, UNITS), (UNITS, 1)).copy_(h[:3])),
    "arange": Case("vector", lambda h: h * torch.arange(UNITS)),
    "_unsafe_index": Case("vector", lambda h, w: aten._unsafe_index(w, [largest_of(h)]), ((UNITS, 5),)),
    "index_put": Case("vector", lambda h: h.index_put((torch.arange(len(h)), largest_of(h)), h.new_zeros(()))),
    "_unsafe_index_put": Case(
        "vector", lambda h: aten._unsafe_index_put(h, [torch.arange(3), largest_of(h)[:3]], h.new_zeros(()))
    ),
    "index_add": Case("vector", lambda h, w: w.index_add(0, largest_of(h), h @ w).mT @ w, ((UNITS, 5),)),
    "index_copy": Case("vector", lambda h, w: w.index_copy(0, largest_of(h)[:1], h[:1] @ w).mT @ w, ((UNITS, 5),)),
    "gather": Case("vector", lambda h: h.sin().gather(1, h.topk(3)[1])),
    "scatter": Case("vector", lambda h: torch.zeros_like(h).scatter(1, h.topk(3)[1], h.topk(3)[0])),
    "scatter_add": Case("vector", lambda h: h.scatter_add(1, h.topk(3)[1], h.topk(3)[0])),
    "scatter_reduce": Case("vector", lambda h: h.scatter_reduce(1, h.topk(3)[1], h.topk(3)[0], "prod")),
    "one_hot": Case("vector", lambda h: F.one_hot(largest_of(h), UNITS + 1).to(h.dtype)),
    "embedding_bag": Case(
        "vector", lambda h, w: F.embedding_bag((h[:, :3] > 0).long().flatten(), w, torch.arange(3) * 3), ((2, UNITS),)
    ),
    "_embedding_bag": Case(
        "vector",
        lambda h, w: aten._embedding_bag(w, (h[:, :3] > 0).long().flatten(), torch.arange(3) * 3)[0],
        ((2, UNITS),),
    ),
    "_embedding_bag_forward_only": Case(
        "vector",
        lambda h, w: aten._embedding_bag_forward_only(w, (h[:, :3] > 0).long().flatten(), torch.arange(3) * 3)[0],
        ((2, UNITS),),
    ),
    "max": Case("tokens", lambda h: h.max(1)[0]),
    "min": Case("tokens", lambda h: h.min(1)[0]),
    "median": Case("tokens", lambda h: h.median(1)[0]),
    "nanmedian": Case("tokens", lambda h: h.nanmedian(1)[0]),
    "kthvalue": Case("tokens", lambda h: h.kthvalue(2, 1)[0]),
    "mode": Case("tokens", lambda h: h.mode(1)[0]),
    "argmax": Case("vector", lambda h, w: w[h.argmax(1)], ((UNITS, 5),)),
    "argmin": Case("vector", lambda h, w: w[h.argmin(1)], ((UNITS, 5),)),
    "topk": Case("vector", lambda h, w: w[h.topk(2)[1]].flatten(1), ((UNITS, 5),)),
    "sort": Case("tokens", lambda h: h.sort(1)[0]),
    "argsort": Case("vector", lambda h, w: w[h.argsort(1)].flatten(1), ((UNITS, 5),)),
    "msort": Case("tokens", lambda h: aten.msort(h.mT.mT)),
    "histc": Case(
        "vector",
        lambda h, w: (w * torch.histc(largest_of(h).to(h.dtype), UNITS, 0, UNITS - 1)).expand(len(h), -1),
        ((UNITS,),),
    ),
    "cumsum": Case("tokens", lambda h: h.cumsum(1)),
    "cumprod": Case("tokens", lambda h: h.cumprod(1)),
    "logcumsumexp": Case("tokens", lambda h: h.logcumsumexp(1)),
    "cummax": Case("tokens", lambda h: h.cummax(1)[0]),
    "cummin": Case("tokens", lambda h: h.cummin(1)[0]),
    "tril": Case("tokens", lambda h: h.bmm(h.mT).tril() @ h),
    "triu": Case("tokens", lambda h: h.bmm(h.mT).triu() @ h),
    "_fft_r2c": Case("line", lambda h: torch.view_as_real(aten._fft_r2c(h, [2], 0, True))),
    "_fft_c2c": Case("line", lambda h: torch.view_as_real(aten._fft_c2c(h + 0j, [2], 0, True))),
    "_fft_c2r": Case("line", lambda h: aten._fft_c2r(h + 0j, [2], 0, 4)),
    "fft_fftshift": Case("line", lambda h: aten.fft_fftshift(h, [2])),
    "fft_ifftshift": Case("line", lambda h: aten.fft_ifftshift(h, [2])),
    "real": Case("line", lambda h: torch.fft.fft(h, dim=2).real),
    "imag": Case("line", lambda h: torch.fft.fft(h, dim=2).imag),
    "conj": Case("line", lambda h: torch.view_as_real(aten.conj(torch.fft.fft(h, dim=2)).resolve_conj())),
    "_conj": Case("line", lambda h: torch.view_as_real(aten._conj(torch.fft.fft(h, dim=2)).resolve_conj())),
    "resolve_conj": Case("line", lambda h: torch.view_as_real(torch.fft.fft(h, dim=2).conj().resolve_conj())),
    "resolve_neg": Case("line", lambda h: aten.resolve_neg(h)),
    "view_as_real": Case("line", spectra),
    "view_as_complex": Case("vector", lambda h: torch.view_as_complex(torch.stack([h, h.sin()], 2)).real),
    "grid_sampler": Case("image", lambda h: aten.grid_sampler(h, GRID.to(h).expand(len(h), -1, -1, -1), 0, 0, False)),
    "grid_sampler_2d": Case(
        "image", lambda h: aten.grid_sampler_2d(h, GRID.to(h).expand(len(h), -1, -1, -1), 0, 0, False)
    ),
    "grid_sampler_3d": Case(
        "volume", lambda h: aten.grid_sampler_3d(h, GRIDS.to(h).expand(len(h), -1, -1, -1, -1), 0, 0, False)
    ),
    "vdot": Case("vector", lambda h, w: h[:, :1] * h.mean(0).vdot(w), ((UNITS,),)),
    "_grouped_mm": Case(
        "vector",
        grouped(on_device(lambda h, w, ends: aten._grouped_mm(h.bfloat16(), w.bfloat16(), ends), _in_ranges)),
        ((UNITS, UNITS, UNITS),),
    ),
    "transformers::grouped_mm_fallback": Case("vector", grouped(_in_ranges), ((UNITS, UNITS, 6),)),
    "bilinear": Case("vector", lambda h, w: aten.bilinear(h, h.sin(), w), ((5, UNITS, UNITS),)),
    "_trilinear": Case(
        "vector", lambda h, w: aten._trilinear(h, w, h.sin(), [1, 3], [0], [1, 2], [2, 3]), ((5, UNITS, UNITS),)
    ),
    "cdist": Case("tokens", lambda h, w: aten.cdist(h, w), ((6, UNITS),)),
    "_cdist_forward": Case("tokens", lambda h: aten._cdist_forward(h, h.sin(), 2.0, None)),
    "_euclidean_dist": Case("tokens", lambda h: aten._euclidean_dist(h, h.sin())),
    "nansum": Case("image", lambda h: h.nansum((2, 3))),
    "nanmean": Case("image", lambda h: h.nanmean((2, 3))),
    "std_mean": Case("image", lambda h: torch.cat(torch.std_mean(h, (2, 3)), 1)),
    "count_nonzero": Case("image", lambda h: h.relu().count_nonzero((2, 3)).to(h.dtype)),
    "aminmax": Case("line", lambda h: torch.cat(torch.aminmax(h, dim=2), 1)),
}
for kind in ("fft", "rfft", "hfft"):
    for name in (f"fft_{inverse}{kind}{n}" for inverse in ("", "i") for n in ("", "2", "n")):
        CASES[name] = Case("line" if name.endswith("t") else "image", transform(name))
