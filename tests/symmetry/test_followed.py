"""Networks whose units were lost once: what must be found in each, verified, and that nothing of it is made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from networks import Net, weight
from torch import Tensor, nn

from rebasin_lt.symmetry.trace import trace_symmetry


def linear(**sizes: tuple[int, int]) -> dict[str, nn.Module]:
    return {name: nn.Linear(*size) for name, size in sizes.items()}


class Recurrent(nn.Module):
    """Two layers in both directions, all of which begin at one tensor of zeros."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = cell(5, 6, 2, bidirectional=True, batch_first=True)
        self.read = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.cell(x)[0].mean(1))


def points() -> nn.Module:
    """PointNet: each point by itself, then the largest of each unit."""
    return Net(lambda net, x: net.c(net.b(net.a(x).relu()).max(1)[0]), **linear(a=(5, 6), b=(6, 8), c=(8, 3)))


def linear_attention() -> nn.Module:
    """Causal, by running sums of keys times values (Katharopoulos et al., 2020)."""

    def run(net: Net, x: Tensor) -> Tensor:
        q, k, v = net.q(x).exp(), net.k(x).exp(), net.v(x)
        states = (k[..., None] * v[..., None, :]).cumsum(1)
        return net.c(torch.einsum("btd,btde->bte", q, states) / (q * k.cumsum(1)).sum(-1, keepdim=True))

    return Net(run, **linear(q=(5, 6), k=(5, 6), v=(5, 8), c=(8, 3)))


def messages() -> nn.Module:
    """A graph network: what neighbours send is added up where the edges end."""

    def run(net: Net, x: Tensor) -> Tensor:
        starts, ends = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2, 0, 1])
        h = net.a(x).relu()
        sent = net.b(h.index_select(1, starts)).relu()
        return net.c(torch.zeros_like(h).index_add(1, ends, sent) + h)

    return Net(run, **linear(a=(5, 6), b=(6, 6), c=(6, 3)))


def mixer() -> nn.Module:
    """gMLP: tokens are mixed by a convolution of kernel 1 over their places."""

    def run(net: Net, x: Tensor) -> Tensor:
        u, v = net.a(x).chunk(2, -1)
        return net.c(u * net.mix(net.norm(v)))

    return Net(run, mix=nn.Conv1d(4, 4, 1), norm=nn.LayerNorm(6), **linear(a=(5, 12), c=(6, 3)))


def hidden_tokens() -> nn.Module:
    """Places that a convolution of kernel 1 makes are hidden units; those of its input are not."""
    return Net(
        lambda net, x: net.c(net.down(net.up(x).relu())),
        up=nn.Conv1d(4, 7, 1),
        down=nn.Conv1d(7, 4, 1),
        c=nn.Linear(5, 3),
    )


def sites() -> nn.Module:
    """Learned sites that only kernels of size 1 see may change places."""
    return Net(
        lambda net, x: net.a(x) + (net.conv(net.canvas).flatten(2) @ net.read).sum(1),
        a=nn.Linear(5, 3),
        conv=nn.Conv2d(2, 5, 1),
        canvas=weight(1, 2, 3, 4),
        read=weight(12, 3),
    )


def seen_sites(**settings: object) -> nn.Module:
    return Net(
        lambda net, x: net.a(x) + net.conv(net.canvas).mean((2, 3)) @ net.read,
        a=nn.Linear(5, 3),
        conv=nn.Conv2d(2, 5, **settings),
        canvas=weight(1, 2, 4, 4),
        read=weight(5, 3),
    )


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3))


def branching() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.a(x).relu()
        return net.c(torch.cond(x.sum() > 0, lambda h: net.b(h).relu(), lambda h: h.sin(), (h,)))

    return Net(run, **linear(a=(5, 6), b=(6, 6), c=(6, 3)))


def gated(form: Callable[[Tensor], Tensor]) -> nn.Module:
    """Four stacked experts with hidden units of their own, weighed by a gate."""

    def run(net: Net, x: Tensor) -> Tensor:
        gates = form(net.gate(x).softmax(-1))
        hidden = torch.einsum("bd,edh->beh", x, net.up).relu()
        return torch.einsum("beh,eho,be->bo", hidden, net.down, gates)

    return Net(run, gate=nn.Linear(5, 4), up=weight(4, 5, 6), down=weight(4, 6, 3))


def scattered(gates: Tensor) -> Tensor:
    values, places = gates.topk(2)
    return torch.zeros_like(gates).scatter(-1, places, values)


def ones(gates: Tensor) -> Tensor:
    return F.one_hot(gates.topk(2)[1], 4).sum(1).to(gates.dtype) * gates


def latent() -> nn.Module:
    """Multi-head latent attention: each head is sliced into a part with positions and one without."""

    def run(net: Net, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query = net.q(x).view(batch, tokens, 2, 6)
        plain, placed = query[..., :4], query[..., 4:] * torch.arange(1.0, tokens + 1).view(-1, 1, 1).to(x)
        query = torch.cat([plain, placed], -1).transpose(1, 2)
        key, value = net.kv(x).view(batch, tokens, 2, 11).transpose(1, 2).split([6, 5], -1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return net.c(mixed.transpose(1, 2).flatten(2))

    return Net(run, **linear(q=(5, 12), kv=(5, 22), c=(10, 3)))


TOKENS, VECTOR = (2, 4, 5), (3, 5)
FOUND: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "maximum over points": (points, TOKENS, (6, 8)),
    "linear attention": (linear_attention, TOKENS, (6, 8)),
    "messages": (messages, (2, 3, 5), (6,)),
    "mixer": (mixer, TOKENS, (6,)),
    "hidden tokens": (hidden_tokens, TOKENS, (7,)),
    "sites of kernel 1": (sites, VECTOR, (2, 3, 4, 5)),
    "sites of a stride": (lambda: seen_sites(kernel_size=1, stride=2), VECTOR, (2, 5)),
    "sites of a border": (lambda: seen_sites(kernel_size=1, padding=1), VECTOR, (2, 5)),
    "sites in a row": (lambda: seen_sites(kernel_size=(3, 1)), VECTOR, (2, 4, 5)),
    "spectral norm": (spectral, VECTOR, (6,)),
    "branches": (branching, VECTOR, (6,)),
    "softmax experts": (lambda: gated(lambda gates: gates), VECTOR, (4, 6)),
    "top-k experts": (lambda: gated(scattered), VECTOR, (4, 6)),
    "top-k experts by ones": (lambda: gated(ones), VECTOR, (4, 6)),
    "heads in parts": (latent, TOKENS, (2, 2, 4, 5)),
}


@pytest.mark.parametrize("name", FOUND)
def test_hidden_units_are_found(name: str) -> None:
    torch.manual_seed(0)
    build, shape, sizes = FOUND[name]
    symmetry = trace_symmetry(build(), torch.randn(shape))
    assert tuple(sorted(symmetry.groups.values())) == tuple(sorted(sizes))


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU], ids=["LSTM", "GRU"])
def test_layers_that_begin_at_one_tensor_of_zeros_have_units_of_their_own(cell: type[nn.RNNBase]) -> None:
    symmetry = trace_symmetry(Recurrent(cell), torch.randn(2, 3, 5))
    assert list(symmetry.groups.values()) == [6, 6, 6, 6]


def test_labels_that_are_read_as_numbers_fix_their_units() -> None:
    """An expert's number says how its output is scaled."""

    def run(net: Net, x: Tensor) -> Tensor:
        chosen = net.gate(x).argmax(-1)
        return torch.einsum("bd,bdo->bo", x, net.experts[chosen]) * (1 + chosen)[:, None]

    symmetry = trace_symmetry(Net(run, gate=nn.Linear(5, 4), experts=weight(4, 5, 3)), torch.randn(3, 5))
    assert symmetry.groups == {}
    assert any("numbers that name these units are read by" in item.reason for item in symmetry.frozen)


@pytest.mark.parametrize(
    "copies", [lambda h: h.repeat(1, 2), lambda h: h[:, None].expand(-1, 2, -1).flatten(1)], ids=["repeat", "expand"]
)
def test_of_equal_units_the_first_is_chosen(copies: Callable[[Tensor], Tensor]) -> None:
    """Copies of a unit are equal, so which of them is the largest depends on their places."""
    network = Net(lambda net, x: net.table[copies(net.a(x)).argmax(-1)], a=nn.Linear(5, 6), table=weight(12, 3))
    assert trace_symmetry(network, torch.randn(8, 5)).groups == {"a.weight": 6}


CHOOSERS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "topk": lambda h: h.topk(2, -1),
    "kthvalue": lambda h: h.kthvalue(2, -1, keepdim=True),
    "median": lambda h: h.median(-1, keepdim=True),
    "mode": lambda h: h.mode(-1, keepdim=True),
}


@pytest.mark.parametrize(
    "equal",
    [lambda h: h.repeat(1, 2), lambda h: F.pad(h, (1, 1)), lambda h: torch.cat([h, h.new_zeros(len(h), 2)], 1)],
    ids=["repeat", "pad", "cat"],
)
@pytest.mark.parametrize("name", CHOOSERS)
def test_of_equal_elements_that_topk_chooses_any_units_stay(equal: Callable[[Tensor], Tensor], name: str) -> None:
    """Which of several equal elements it returns depends on where the others are: no permutation of units is safe."""

    def run(net: Net, x: Tensor) -> Tensor:
        hidden = equal(net.a(x))
        return torch.zeros_like(hidden).scatter(-1, CHOOSERS[name](hidden)[1], 1.0) @ net.table

    network = Net(run, a=nn.Linear(5, 6), table=weight(equal(torch.zeros(1, 6)).shape[1], 3))
    symmetry = trace_symmetry(network, torch.randn(8, 5))
    assert symmetry.groups == {}
    assert any(item.reason == f"of equal elements {name} chooses any" for item in symmetry.frozen)


def test_rows_in_the_order_of_labels_are_nobodys_to_permute() -> None:
    """A weight for each row once sorted: the rows' order follows the experts' numbers."""

    def run(net: Net, x: Tensor) -> Tensor:
        names, order = net.gate(x).argmax(-1).sort()
        return torch.einsum("bd,bdo->bo", x[order], net.experts[names]) * net.scale[:, None]

    network = Net(run, gate=nn.Linear(5, 4), experts=weight(4, 5, 3), scale=weight(8))
    x = torch.randn(8, 5)
    with torch.no_grad():
        assert len(set(network.gate(x).argmax(-1).tolist())) > 1
    assert trace_symmetry(Sized(network), x).groups == {}


class Sized(nn.Module):
    """Of the first eight rows alone, so that a weight for each is no matter of the batch's size."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], 3) + self.inner(x[:8]).sum(0)
