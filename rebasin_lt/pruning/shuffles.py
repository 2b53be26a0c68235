"""A mask with some of its structure destroyed: what a permuted mask must beat before alignment can take the credit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.generators import check_generator
from rebasin_lt.symmetry.trace import Symmetry

TRADES = 20
"""Global trades of `shuffle_degrees`. In one trade between two equally dense rows an entry moves with probability 1/2,
so what has never moved halves with each: 20 leave one entry in a million, and any row is reached from any other (log2
of 4096 rows is 12)."""


def permute_randomly(masks: Sequence[Mask], symmetry: Symmetry, generator: torch.Generator | None = None) -> list[Mask]:
    """The masks of one network, and their signs, under one random permutation of its units.

    Uniform over each group. Everything that does not depend on which unit is which survives: layer sparsities,
    degrees as multisets, paths through the network. Several masks move together, as those of several sparsities do
    under a matched permutation.
    Raises InputError for a mask that does not fit the symmetry's network, and a generator that is none of the CPU's.

        >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> mask = rb.magnitude_prune(network, rb.Mask.ones_of(network), 0.5)
        >>> moved = rb.permute_randomly([mask], rb.trace_symmetry(network, torch.zeros(2, 3)))[0]
        >>> [row["kept"] for row in moved.report()] == [row["kept"] for row in mask.report()]
        True
    """
    permutation = symmetry.random(generator)
    return [mask.permuted(symmetry, permutation) for mask in masks]


def shuffle_layerwise(mask: Mask, generator: torch.Generator | None = None) -> Mask:
    """Each tensor's entries in random order, with their signs: layer sparsities survive, rows and columns do not.

    The control of Su et al. (*Sanity-checking pruning methods*, NeurIPS 2020); also the random mask with the layer
    allocation of another mask. Raises InputError for a generator that is none of the CPU's.

        >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> mask = rb.magnitude_prune(network, rb.Mask.ones_of(network), 0.5)
        >>> [row["kept"] for row in rb.shuffle_layerwise(mask).report()] == [row["kept"] for row in mask.report()]
        True
    """
    check_generator(generator)
    return Mask({
        name: tensor.reshape(-1)[torch.randperm(tensor.numel(), generator=generator)].reshape(tensor.shape)
        for name, tensor in mask.content.items()
    })


def shuffle_degrees(mask: Mask, generator: torch.Generator | None = None, trades: int = TRADES) -> Mask:
    """Rewire each tensor at random with every unit's in- and out-degree kept exactly.

    A linear weight keeps the sums of its rows and of its columns. A convolution is one such matrix (out, in) per kernel
    position, rewired on its own: it keeps the kept weights of every output unit and of every input unit at each
    kernel position, hence also their sums over the kernel. Which inputs an output is wired to becomes random.

    Curveball (Strona et al., Nature Communications 2014): two rows hand round at random what only one of them has.
    All rows are paired at once, at random, in each of `trades` rounds (global trades: Carstens et al., ESA 2018), which
    converges to the uniform distribution over all matrices with these sums. Where the sums admit one matrix only, as
    in a depthwise convolution, nothing moves. The result has no signs: a connection
    that is new has none. Raises InputError for a generator that is none of the CPU's.

        >>> mask = rb.Mask({"weight": torch.rand(6, 5) > 0.5})
        >>> shuffled = rb.shuffle_degrees(mask)
        >>> torch.equal(shuffled["weight"].sum(0), mask["weight"].sum(0))
        True
    """
    check_generator(generator)
    return Mask({name: _rewired(tensor, generator, trades) for name, tensor in mask.items()})


def _rewired(tensor: Tensor, generator: torch.Generator | None, trades: int) -> Tensor:
    rows, columns = (*tensor.shape, 1)[:2]
    matrices = tensor.reshape(rows, columns, -1).permute(2, 0, 1)
    kept = matrices.reshape(-1, columns).clone()
    for _ in range(trades):
        _trade_(kept, rows, generator)
    return kept.reshape(matrices.shape).permute(1, 2, 0).reshape(tensor.shape).contiguous()


def _trade_(kept: Tensor, rows: int, generator: torch.Generator | None) -> None:
    """One global trade, in place, in each of the matrices that `kept` stacks, shape (matrices · rows, columns)."""
    order = torch.rand(len(kept) // rows, rows, generator=generator).argsort(dim=1)
    order += torch.arange(0, len(kept), rows)[:, None]
    half = rows // 2
    first, second = order[:, :half].reshape(-1), order[:, half : 2 * half].reshape(-1)
    a, b = kept[first], kept[second]
    pair, column = (a ^ b).nonzero(as_tuple=True)  # ordered by pair
    column = column[(torch.rand(len(pair), generator=generator, dtype=torch.float64) + pair).argsort()]
    sizes = torch.bincount(pair, minlength=len(a))
    place = torch.arange(len(pair)) - (sizes.cumsum(0) - sizes)[pair]
    to_a = place < (a & ~b).sum(dim=1)[pair]
    both = a & b
    kept[first] = both.index_put((pair, column), to_a)
    kept[second] = both.index_put((pair, column), ~to_a)
