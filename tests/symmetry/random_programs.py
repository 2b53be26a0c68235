"""Random small networks over all families of rules: each is a chain of steps on tokens of hidden units."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from operators_by_index import _in_ranges
from torch import Tensor, nn

TOKENS = 4
RUNNING: list[nn.Module] = []  # the program that computes now, whose weights steps use: it may be a copy
Step = Callable[[Tensor], Tensor]


class Maker:
    """Makes the parameters that steps need; `width` is the number of units that come in."""

    def __init__(self, owner: nn.Module, rng: random.Random, width: int) -> None:
        self.owner, self.rng, self.width = owner, rng, width

    def weight(self, *shape: int) -> Callable[[], Tensor]:
        name = f"w{len(list(self.owner.parameters(recurse=False)))}"
        self.owner.register_parameter(name, nn.Parameter(torch.randn(shape)))
        return lambda: getattr(RUNNING[-1], name)

    def size(self) -> int:
        return self.rng.choice([4, 6, 8])


def linear(make: Maker) -> Step:
    weight, bias = make.weight(size := make.size(), make.width), make.weight(size)
    return lambda h: F.linear(h, weight(), bias()).tanh()


def residual(make: Maker) -> Step:
    up, down = make.weight(size := make.size(), make.width), make.weight(make.width, size)
    return lambda h: h + F.linear(F.linear(h, up()).sin(), down())


def normed(make: Maker) -> Step:
    weight, bias = make.weight(make.width), make.weight(make.width)
    return lambda h: F.layer_norm(h, h.shape[-1:], weight(), bias())


def gated(make: Maker) -> Step:
    weight = make.weight(make.width, make.width)
    return lambda h: h * F.linear(h.mean(1, keepdim=True), weight()).sigmoid()


def branched(make: Maker) -> Step:
    weight = make.weight(make.size(), make.width)
    return lambda h: torch.cat([F.linear(h, weight()).tanh(), h], -1)


def halves(make: Maker) -> Step:
    def step(h: Tensor) -> Tensor:
        left, right = h.chunk(2, -1)
        return torch.cat([right.sin(), left], -1)

    return step


def product_of_halves(make: Maker) -> Step:
    return lambda h: F.glu(h, -1)


def sliced(make: Maker) -> Step:
    start, step = make.rng.randrange(2), make.rng.choice([1, 2])
    return lambda h: h[..., start::step] if h.shape[-1] > 3 else h


def shuffled(make: Maker) -> Step:
    return lambda h: h.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def turned(make: Maker) -> Step:
    dim = make.rng.choice([1, 2])
    return make.rng.choice([lambda h: h.flip(dim), lambda h: h.roll(1, dim)])


def repeated(make: Maker) -> Step:
    return make.rng.choice([lambda h: h.repeat(1, 1, 2), lambda h: h.repeat_interleave(2, -1)])


def padded(make: Maker) -> Step:
    return lambda h: F.pad(h, (1, 1))


def softmaxed(make: Maker) -> Step:
    dim = make.rng.choice([1, 2])
    return lambda h: h.softmax(dim) + h


def attended(make: Maker) -> Step:
    size = 2 * make.rng.choice([2, 3])
    weights = [make.weight(size, make.width) for _ in range(3)]
    causal = make.rng.random() < 0.3

    def step(h: Tensor) -> Tensor:
        q, k, v = (F.linear(h, weight()).unflatten(-1, (2, -1)).transpose(1, 2) for weight in weights)
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)

    return step


def convolved(make: Maker) -> Step:
    kernel = make.rng.choice([1, 3])
    weight = make.weight(make.size(), make.width, kernel)
    return lambda h: F.conv1d(h.mT, weight(), padding=kernel // 2).mT.tanh()


def in_groups(make: Maker) -> Step:
    weight = make.weight(8, make.width // 2, 1)
    return lambda h: F.conv1d(h.mT, weight(), groups=2).mT


def mixed(make: Maker) -> Step:
    weight = make.weight(TOKENS, TOKENS, 1)
    return lambda h: F.conv1d(h, weight()) + h


def experts(make: Maker) -> Step:
    """Mixtures of experts in every way of choosing them."""
    gate, up, down = make.weight(4, make.width), make.weight(4, make.width, 6), make.weight(4, 6, make.width)
    sort = make.rng.random() < 0.5

    def gates(h: Tensor) -> Tensor:
        weights = F.linear(h, gate()).softmax(-1)
        values, names = weights.topk(2, -1, sorted=sort)
        return {
            "all": lambda: weights,
            "scatter": lambda: torch.zeros_like(weights).scatter(-1, names, values),
            "ones": lambda: F.one_hot(names, 4).sum(-2).to(h.dtype) * weights,
            "equal": lambda: (names[..., None] == torch.arange(4)).to(h.dtype).sum(-2) * weights,
        }[form]()

    def looked_up(h: Tensor) -> Tensor:
        values, names = F.linear(h, gate()).softmax(-1).topk(2, -1, sorted=sort)
        hidden = torch.einsum("btd,btkdh->btkh", h, up()[names]).sin()
        return (torch.einsum("btkh,btkho->btko", hidden, down()[names]) * values[..., None]).sum(2)

    def by_range(h: Tensor) -> Tensor:
        flat = h.flatten(0, 1)
        values, names = F.linear(flat, gate()).softmax(-1).max(-1)
        names, order = names.sort()
        ends = torch.histc(names.to(h.dtype), 4, 0, 3).cumsum(0).to(torch.int32)
        rows = _in_ranges(_in_ranges(flat[order], up(), ends).sin(), down(), ends) * values[order][:, None]
        back = torch.empty_like(order).index_put((order,), torch.arange(len(flat)))
        return rows[back].view(h.shape)

    form = make.rng.choice(["all", "scatter", "ones", "equal", "looked up", "ranges"])
    if form in ("looked up", "ranges"):
        return looked_up if form == "looked up" else by_range
    return lambda h: (
        h + torch.einsum("bteh,eho,bte->bto", torch.einsum("btd,edh->bteh", h, up()).sin(), down(), gates(h))
    )


def chosen(make: Maker) -> Step:
    """Units that are chosen by their size, as values or as names."""
    table, count = make.weight(make.width, 5), make.rng.choice([1, 2])
    return make.rng.choice([
        lambda h: h.topk(count, -1)[0].sum(-1, keepdim=True) * h,
        lambda h: table()[h.argmax(-1)],
        lambda h: h.sin().gather(-1, h.topk(2, -1)[1]),
        lambda h: h.sort(-1)[0],
        lambda h: h.sin().gather(-1, h.argsort(-1)),
        lambda h: torch.zeros_like(h).scatter(-1, h.topk(2, -1)[1], 1.0) + h,
        lambda h: h.argmax(-1, keepdim=True) * 0.1 + h,
        lambda h: h.argsort(-1) * 0.1 + h,
        lambda h: h * (h.argmax(-1, keepdim=True) == torch.arange(h.shape[-1])),
        lambda h: F.embedding(h.argmin(-1), table()),
        lambda h: h.scatter_add(-1, h.topk(2, -1)[1], h.topk(2, -1)[0]),
    ])


def over_tokens(make: Maker) -> Step:
    """Something along the tokens, which stay."""
    places = torch.tensor([2, 0, 1, 3])
    return make.rng.choice([
        lambda h: h + h.max(1, keepdim=True)[0],
        lambda h: h.sort(1)[0],
        lambda h: h.cumsum(1),
        lambda h: h.tanh().cumprod(1),
        lambda h: h.cummax(1)[0],
        lambda h: h.index_select(1, places),
        lambda h: torch.zeros_like(h).index_add(1, places, h),
        lambda h: h.index_put((torch.arange(len(h))[:, None], places[:2]), h.new_zeros(())),
        lambda h: h.gather(1, h.argsort(1)).sin(),
        lambda h: torch.fft.fft(h, dim=1).real,
        lambda h: h + h.logcumsumexp(1),
        lambda h: h.bmm(h.mT).tril() @ h * 0.1,
        lambda h: h + h.amax(1, keepdim=True) - h.var(1, keepdim=True),
    ])


def over_units(make: Maker) -> Step:
    """Something along the units in their order, which fixes them."""
    return make.rng.choice([
        lambda h: h.cumsum(-1),
        lambda h: torch.fft.fft(h, dim=-1).imag,
        lambda h: h * torch.arange(1.0, h.shape[-1] + 1),
        lambda h: h.sort(-1)[0],
        lambda h: h[..., torch.arange(h.shape[-1] - 1)],
    ])


def between(make: Maker) -> Step:
    """Products and distances."""
    rows, form = make.weight(6, make.width), make.weight(5, make.width, make.width)
    return make.rng.choice([
        lambda h: torch.cdist(h, rows()),
        lambda h: F.bilinear(h, h.sin(), form()),
        lambda h: (h @ rows().mT).softmax(-1) @ rows(),
        lambda h: torch.einsum("btc,bsc,bsd->btd", h, h.sin(), h) * 0.2,
    ])


def placed(make: Maker) -> Step:
    table, row = make.weight(TOKENS, make.width), make.weight(make.width)
    return make.rng.choice([
        lambda h: h + table(),
        lambda h: h + table()[torch.arange(TOKENS)],
        lambda h: h * row(),
        lambda h: h + torch.zeros(h.shape[-1]) + torch.ones_like(h),
        lambda h: torch.empty_like(h).copy_(h) + h.new_zeros(h.shape[-1]).add_(row()),
    ])


STEPS: tuple[Callable[[Maker], Step], ...] = (
    *(linear, residual, normed, gated, branched, halves, product_of_halves, sliced, shuffled, turned, repeated, padded),
    *(softmaxed, attended, convolved, in_groups, mixed, experts, chosen, over_tokens, over_units, between, placed),
)


class RandomProgram(nn.Module):
    """A few random steps after a layer, and a layer that reads what is left."""

    def __init__(self, seed: int, steps: int = 5) -> None:
        super().__init__()
        rng = random.Random(seed)
        self.steps: list[Step] = []
        h = torch.randn(2, TOKENS, 5)
        kinds = [linear, *(rng.choice(STEPS) for _ in range(steps)), linear]
        self.names = [kind.__name__ for kind in kinds]
        for kind in kinds:
            width = h.shape[-1]
            if width % 2 or width < 4:  # what needs pairs gets them
                h = self._then(linear, rng, h)
            h = self._then(kind, rng, h)
        self.read = nn.Linear(h.shape[-1], 3)

    def _then(self, kind: Callable[[Maker], Step], rng: random.Random, h: Tensor) -> Tensor:
        self.steps.append(kind(Maker(self, rng, h.shape[-1])))
        RUNNING.append(self)
        h = self.steps[-1](h).detach()
        RUNNING.pop()
        return h

    def forward(self, x: Tensor) -> Tensor:
        RUNNING.append(self)
        try:
            for step in self.steps:
                x = step(x)
        finally:
            RUNNING.pop()
        return self.read(x)


class Several(nn.Module):
    """Random programs side by side: one export serves them all."""

    def __init__(self, seeds: range) -> None:
        super().__init__()
        self.programs = nn.ModuleList(RandomProgram(seed) for seed in seeds)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [program(x) for program in self.programs]
