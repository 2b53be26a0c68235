"""One for all experts of a layer: the mean of their weights, or the mask of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.mixtures import Mixture, find_mixtures, mixture_label, over_experts
from rebasin_lt.symmetry.trace import Symmetry


def merged_experts(tensors: Mapping[str, Tensor], symmetry: Symmetry) -> dict[str, Tensor]:
    """The tensors with the weights and biases of every expert of a layer replaced by their mean; routers stay.

    >>> layers = nn.ModuleList(nn.Linear(1, 2) for _ in "ab")
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> sorted(rb.merged_experts(network.state_dict(), rb.trace_symmetry(network, torch.zeros(1, 2))))  # no experts
    ['0.bias', '0.weight', '2.bias', '2.weight']
    """
    result = dict(tensors)
    for mixture in find_mixtures(symmetry):
        result = over_experts(
            result, mixture, symmetry, lambda each: each.double().mean(0, keepdim=True).to(each).expand_as(each)
        )
    return result


def with_mask_of(mask: Mask, symmetry: Symmetry, expert: int = 0) -> Mask:
    """The mask with that of one expert for all experts of its layer; signs go with it.

    Raises as `check_shared`.

    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> mask = rb.Mask.ones_of(network)
    >>> rb.with_mask_of(mask, rb.trace_symmetry(network, torch.zeros(1, 2))).sparsity  # no experts
    0.0
    """
    check_shared(mask, symmetry)
    return Mask(all_like(mask.content, symmetry, find_mixtures(symmetry), expert))


def all_like(
    tensors: Mapping[str, Tensor], symmetry: Symmetry, mixtures: Sequence[Mixture], expert: int
) -> dict[str, Tensor]:
    """The tensors with those of one expert for all experts of its layer; routers stay."""
    result = dict(tensors)
    for mixture in mixtures:
        result = over_experts(result, mixture, symmetry, lambda each: each[expert].expand_as(each))
    return result


def check_shared(mask: Mask, symmetry: Symmetry, argument: str = "mask") -> None:
    """Raise InputError for a mask of some of a layer's experts alone, or of none where the network has some."""
    mixtures = find_mixtures(symmetry)
    alike = [(mixture, names) for mixture in mixtures for names in _alike(mixture, symmetry)]
    for mixture, names in alike:
        left = [name for name in names if name not in mask]
        if 0 < len(left) < len(names):
            raise InputError(
                f"{argument} has {next(name for name in names if name in mask)} but not {left[0]}: one mask for all "
                f"experts of {mixture_label(mixture)} needs masks of all"
            )
    if alike and not any(name in mask for _, names in alike for name in names):
        raise InputError(
            f"{argument} has no tensor of an expert, such as {alike[0][1][0]}: there is nothing that the experts of "
            f"{mixture_label(mixtures[0])} could share; give one that was made with them"
        )


def _alike(mixture: Mixture, symmetry: Symmetry) -> Iterator[tuple[str, ...]]:
    """The names of what all experts have alike: one tensor for all, or one of each."""
    if mixture.outer is None:
        yield from zip(*mixture.tensors, strict=True)
    else:
        yield from (symmetry.stacks.get(name, (name,)) for name in mixture.tensors[0])
