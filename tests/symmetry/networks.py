"""Small networks, each with one structure that permutations must respect; `NETWORKS` has the shapes of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry


class Net(nn.Module):
    """Modules and parameters by name, and a function of them and the inputs."""

    def __init__(self, run: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.run(self, *inputs)


def conv(inputs: int, outputs: int, **settings: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **settings)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def concatenation() -> nn.Module:
    return Net(
        lambda net, x: net.c(torch.cat([net.a(x).relu(), net.b(x).relu()], 1)),
        a=conv(2, 4),
        b=conv(2, 6),
        c=conv(10, 3),
    )


def depthwise() -> nn.Module:
    return Net(lambda net, x: net.c(net.d(net.a(x)).relu()), a=conv(2, 6), d=conv(6, 6, groups=6), c=conv(6, 3))


def grouped() -> nn.Module:
    return Net(lambda net, x: net.c(net.g(net.a(x).relu()).relu()), a=conv(2, 6), g=conv(6, 4, groups=2), c=conv(4, 3))


def squeeze_excitation() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.a(x).relu()
        gate = net.up(net.down(h.mean((2, 3))).relu()).sigmoid()
        return net.c(h * gate[:, :, None, None])

    return Net(run, a=conv(2, 6), down=nn.Linear(6, 3), up=nn.Linear(3, 6), c=conv(6, 3))


def channel_shuffle() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        left, right = net.a(x).chunk(2, 1)
        h = torch.cat([left, net.b(right)], 1)
        n, channels, *sites = h.shape
        return net.c(h.view(n, 2, channels // 2, *sites).transpose(1, 2).reshape(n, channels, *sites))

    return Net(run, a=conv(2, 8), b=conv(4, 4), c=conv(8, 3))


def norm_stream() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        return net.head(net.norm(h + net.down(net.up(net.norm(h)).relu())))

    return Net(
        run, embed=nn.Linear(5, 6), norm=nn.LayerNorm(6), up=nn.Linear(6, 8), down=nn.Linear(8, 6), head=nn.Linear(6, 3)
    )


def attention() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.attend(*[net.embed(x)] * 3, need_weights=False)[0]),
        embed=nn.Linear(5, 8),
        attend=nn.MultiheadAttention(8, 2, batch_first=True),
        head=nn.Linear(8, 3),
    )


def packed_attention() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        batch, tokens, channels = h.shape
        query, key, value = net.qkv(h).reshape(batch, tokens, 3, 2, channels // 2).permute(2, 0, 3, 1, 4)
        mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        return net.head(net.out(mixed.transpose(1, 2).reshape(batch, tokens, channels)))

    return Net(run, embed=nn.Linear(5, 8), qkv=nn.Linear(8, 24), out=nn.Linear(8, 6), head=nn.Linear(6, 3))


def flattened() -> nn.Module:
    return Net(lambda net, x: net.c(net.a(x).relu().flatten(1)), a=conv(2, 6), c=nn.Linear(6 * 16, 3))


def tied() -> nn.Module:
    """One matrix under two names: hidden units are outputs of its first use and inputs of its second."""
    net = Net(
        lambda net, x: F.linear(net.a(x).relu(), net.b.weight.t()), a=nn.Linear(5, 6), b=nn.Linear(5, 6, bias=False)
    )
    net.b.weight = net.a.weight
    return net


def recurrent() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.a(x).tanh()
        for _ in range(2):
            h = net.again(h).tanh()
        return net.c(h)

    return Net(run, a=nn.Linear(5, 6), again=nn.Linear(6, 6), c=nn.Linear(6, 3))


def transposed() -> nn.Module:
    return Net(
        lambda net, x: net.c(net.t(net.a(x).relu()).relu()),
        a=conv(2, 6),
        t=nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2),
        c=conv(4, 3),
    )


def normalised_groups() -> nn.Module:
    return Net(lambda net, x: net.c(net.norm(net.a(x)).relu()), a=conv(2, 6), norm=nn.GroupNorm(2, 6), c=conv(6, 3))


def slopes() -> nn.Module:
    return Net(
        lambda net, x: net.c(net.one(net.each(net.a(x)))), a=conv(2, 6), each=nn.PReLU(6), one=nn.PReLU(), c=conv(6, 3)
    )


def gated() -> nn.Module:
    return Net(lambda net, x: net.c(F.glu(net.a(x), 1)), a=conv(2, 8), c=conv(4, 3))


def shuffled_pixels() -> nn.Module:
    return Net(lambda net, x: net.c(F.pixel_shuffle(net.a(x).relu(), 2)), a=conv(2, 12), c=conv(3, 3))


def einsums() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        h = torch.einsum("nti,ihd->nthd", x, net.a).relu()
        return torch.einsum("nthd,hdo->nto", h, net.c)

    return Net(run, a=weight(5, 2, 4), c=weight(2, 4, 3))


def lookup() -> nn.Module:
    return Net(
        lambda net, x: net.c(net.rows((x.sum((1, 2)) > 0).long()).relu()), rows=nn.Embedding(7, 6), c=nn.Linear(6, 3)
    )


def padded_channels() -> nn.Module:
    """The shortcut of CIFAR ResNets: new channels are zero on it."""
    return Net(
        lambda net, x: net.c((F.pad(net.a(x), (0, 0, 0, 0, 1, 3)) + net.b(x)).relu()),
        a=conv(2, 4),
        b=conv(2, 8),
        c=conv(8, 3),
    )


def without_rule() -> nn.Module:
    """There is no rule for the exponential of a matrix, here of each channel's sites."""

    def run(net: Net, x: Tensor) -> Tensor:
        return net.c(net.b(torch.linalg.matrix_exp(net.a(x).tanh())).relu())

    return Net(run, a=conv(2, 6), b=conv(6, 4), c=conv(4, 3))


def in_place() -> nn.Module:
    """Works in place on what it is given, and on what it observes."""

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.a(x.relu_())
        return net.b(h.relu_().mul_(2)).flatten(1)

    return Net(run, a=conv(2, 6), b=conv(6, 3))


IMAGES, TOKENS, ROWS = (2, 2, 4, 4), (2, 4, 5), (2, 5)
NETWORKS: dict[Callable[[], nn.Module], tuple[int, ...]] = {
    **dict.fromkeys((concatenation, depthwise, grouped, squeeze_excitation, channel_shuffle, flattened), IMAGES),
    **dict.fromkeys((transposed, normalised_groups, slopes, gated, shuffled_pixels, padded_channels), IMAGES),
    **dict.fromkeys((without_rule, in_place), IMAGES),
    **dict.fromkeys((norm_stream, attention, packed_attention, einsums, lookup), TOKENS),
    **dict.fromkeys((tied, recurrent), ROWS),
}


@cache
def traced(build: Callable[[], nn.Module]) -> tuple[nn.Module, Symmetry]:
    """The network in float64 and its symmetry, traced once for all tests."""
    torch.manual_seed(0)
    network = build().double().eval()
    return network, trace_symmetry(network, torch.randn(NETWORKS[build], dtype=torch.float64))


def inputs(build: Callable[[], nn.Module], batch: int = 3, seed: int = 1) -> Tensor:
    """A batch of random inputs, of a size other than that of the trace."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, *NETWORKS[build][1:]), dtype=torch.float64, generator=generator)


def mixed_state(network: nn.Module) -> dict[str, Tensor]:
    """The state dict, every second tensor of it a mask."""
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return {name: tensor > 0 if k % 2 else tensor for k, (name, tensor) in enumerate(state.items())}
