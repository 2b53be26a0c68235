"""Small networks whose heads, experts and groups of channels may permute what is inside of them each in its own way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

TOKENS = 7


class Decoder(nn.Module):
    """One block as in Llama: 2 heads of keys and values, 3 queries for each, rotary positions or none, a gated MLP."""

    def __init__(self, rotary: bool = False, kv: int = 2, queries: int = 3, channels: int = 4, width: int = 10) -> None:
        super().__init__()
        self.sizes, self.rotary = (kv, queries, channels), rotary
        self.embed = nn.Embedding(11, width)
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q = nn.Linear(width, kv * queries * channels, bias=False)
        self.k, self.v = (nn.Linear(width, kv * channels, bias=False) for _ in "kv")
        self.o = nn.Linear(kv * queries * channels, width, bias=False)
        self.gate, self.up = (nn.Linear(width, 6, bias=False) for _ in "gu")
        self.down = nn.Linear(6, width, bias=False)
        self.head = nn.Linear(width, 11, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.attended(self.norm1(x))
        h = self.norm2(x)
        return self.head(x + self.down(F.silu(self.gate(h)) * self.up(h)))

    def attended(self, x: Tensor) -> Tensor:
        kv, queries, channels = self.sizes
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, kv * queries, channels).transpose(1, 2)
        k, v = (layer(x).view(batch, length, kv, channels).transpose(1, 2) for layer in (self.k, self.v))
        if self.rotary:
            q, k = self.rotated(q), self.rotated(k)
        shape = (batch, kv, queries, length, channels)
        k, v = (heads[:, :, None].expand(shape).reshape(batch, kv * queries, length, channels) for heads in (k, v))
        return self.o(self.weighed(q, k, v).transpose(1, 2).reshape(batch, length, -1))

    def weighed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    @staticmethod
    def rotated(x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[-2])[:, None] * torch.tensor([1.0, 0.3])
        angles = torch.cat([angles, angles], -1)
        first, second = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()


class Sinks(Decoder):
    """The same with a learned logit for each query head, beside those of the tokens, to which attention may go."""

    def __init__(self) -> None:
        super().__init__(rotary=True)
        self.sinks = nn.Parameter(torch.randn(6))

    def weighed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, length, channels = q.shape
        logits = q @ k.transpose(2, 3) / channels**0.5 + torch.full((length, length), -1e9).triu(1)
        sinks = self.sinks.reshape(1, -1, 1, 1).expand(batch, heads, length, 1)
        logits = torch.cat([logits, sinks], -1)
        found = (logits - logits.max(-1, keepdim=True).values).softmax(-1)[..., :-1]
        return found.to(v.dtype) @ v  # a change of dtype is exported with an assertion about what it is given


class Experts(nn.Module):
    """A mixture of 4 experts of 5 hidden units, in stacked weights, behind a softmax gate."""

    def __init__(self, shared_bias: bool = False) -> None:
        super().__init__()
        self.enter, self.gate, self.leave = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(6, 2)
        self.w1, self.w2 = nn.Parameter(torch.randn(4, 5, 6)), nn.Parameter(torch.randn(4, 6, 5))
        self.b1 = nn.Parameter(torch.randn(5) if shared_bias else torch.randn(4, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        hidden = (torch.einsum("ehd,bd->ebh", self.w1, x) + self.b1).relu()
        given = torch.einsum("edh,ebh->ebd", self.w2, hidden)
        return self.leave(x + torch.einsum("ebd,be->bd", given, self.gate(x).softmax(-1)))


class TopK(Experts):
    """The same behind a gate that chooses two experts for each example."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        logits = self.gate(x)
        best, chosen = logits.topk(2, -1)
        shares = torch.zeros_like(logits).scatter(-1, chosen, best.softmax(-1))
        hidden = (torch.einsum("ehd,bd->ebh", self.w1, x) + self.b1).relu()
        given = torch.einsum("edh,ebh->ebd", self.w2, hidden)
        return self.leave(x + torch.einsum("ebd,be->bd", given, shares))


class Listed(nn.Module):
    """A mixture of 4 experts of 5 hidden units, each a module of its own, behind a softmax gate."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.gate, self.leave = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(6, 2)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        return self.leave(x + self.mixed(x))

    def mixed(self, x: Tensor) -> Tensor:
        shares = self.gate(x).softmax(-1)
        return sum(shares[..., k, None] * expert(x) for k, expert in enumerate(self.experts))


class Weighed(Listed):
    """Experts that cannot change places: what each says counts for more than what those before it say."""

    def mixed(self, x: Tensor) -> Tensor:
        shares = self.gate(x).softmax(-1)
        return sum((k + 2) * shares[..., k, None] * expert(x) for k, expert in enumerate(self.experts))


class ListedTopK(Listed):
    """The same behind a gate that chooses two experts for each example, each of which looks whether it is one."""

    def mixed(self, x: Tensor) -> Tensor:
        best, chosen = self.gate(x).topk(2, -1)
        found = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            found = found + ((chosen == k) * best.softmax(-1)).sum(-1, keepdim=True) * expert(x)
        return found


class Averaged(Listed):
    """The mean of its experts, without a gate."""

    def mixed(self, x: Tensor) -> Tensor:
        return torch.stack([expert(x) for expert in self.experts]).mean(0)


def grouped() -> nn.Module:
    """A grouped convolution between two others: 3 groups of 4 channels, and of 2."""
    first = [nn.Conv2d(2, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()]
    second = [nn.Conv2d(12, 6, 3, padding=1, groups=3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 1)]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def vit() -> nn.Module:
    return VisionTransformer(
        image_size=4, patch_size=2, num_layers=1, num_heads=3, hidden_dim=12, mlp_dim=5, num_classes=5
    )


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 6, dropout=0.0, batch_first=True), 1)


def rotary() -> nn.Module:
    return Decoder(rotary=True)


def floats(*shape: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randn(batch, *shape, dtype=torch.float64)


def tokens(batch: int) -> Tensor:
    return torch.randint(11, (batch, TOKENS))


NESTED: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "vit": (vit, floats(3, 4, 4)),
    "encoder": (encoder, floats(5, 16)),
    "decoder": (Decoder, tokens),
    "rotary": (rotary, tokens),
    "sinks": (Sinks, tokens),
    "experts": (Experts, floats(3)),
    "topk": (TopK, floats(3)),
    "grouped": (grouped, floats(2, 4, 4)),
    "listed": (Listed, floats(3)),
    "listed, topk": (ListedTopK, floats(3)),
    "averaged": (Averaged, floats(3)),
}


def built(name: str, seed: int = 0) -> nn.Module:
    """A network in fp64 with random parameters and statistics: nothing is uniform."""
    torch.manual_seed(seed)
    network = NESTED[name][0]().double().eval()
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in key else torch.randn_like(tensor) / 2)
    return network


@cache
def symmetry_of(name: str) -> Symmetry:
    with torch.random.fork_rng():
        return trace_symmetry(built(name), NESTED[name][1](2))


def planted(name: str, seed: int = 0) -> tuple[nn.Module, nn.Module, Symmetry, Permutation]:
    """A network, the same under a random permutation, their symmetry, and the permutation."""
    network, symmetry = built(name, seed), symmetry_of(name)
    permutation = symmetry.random(torch.Generator().manual_seed(seed))
    twin = copy.deepcopy(network)
    twin.load_state_dict(symmetry.permute(network, permutation))
    return network, twin, symmetry, permutation


def batches(name: str, batch: int = 96) -> list[Any]:
    return [NESTED[name][1](batch)]
