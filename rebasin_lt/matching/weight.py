"""Weight similarity: how alike two networks' units are in what they read and in how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from rebasin_lt.matching.labelled import joint_units
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.stacks import stacked_state
from rebasin_lt.symmetry.trace import Symmetry


def gains(similarity: Tensor, order: Tensor) -> bool:
    """Whether matching row i with column order[i] beats the diagonal by more than rounding.

    Rounding is no gain, and must not keep sweeps going.
    """
    gain = similarity.gather(1, order[:, None]).sum() - similarity.trace()
    return bool(gain > 1e-12 * similarity.diagonal().abs().sum())


def weight_names(symmetry: Symmetry, state: Mapping[str, Tensor], group: str | None = None) -> list[str]:
    """The names of the floating parameters on which a group acts, by default of those on which any does.

    Parameters that change places are one stack, in the `state` too (`stacked_state`).

    Buffers are no weights: running statistics move with their units, but how alike they are says how alike the scales
    of two networks' activations are, and they can outweigh all convolutions (a variance grows with the square of what
    it is taken of). Git Re-Basin and C2M3 leave them out too.
    """
    return [
        name
        for name, axes in symmetry.places.items()
        if symmetry.is_learned(name)
        and state[name].is_floating_point()
        and any(axis.groups if group is None else group in axis.groups for axis in axes)
    ]


def weights_in_double(state: Mapping[str, Tensor], symmetry: Symmetry) -> dict[str, Tensor]:
    """The state with the weights on which groups act in fp64 on the CPU, where sums over them are taken.

    What changes places is one stack (`stacked_state`), as in all that is given to functions on weights.
    """
    state = stacked_state(state, symmetry.stacks)
    return {**state, **{name: state[name].to("cpu", torch.float64) for name in weight_names(symmetry, state)}}


def is_curved(symmetry: Symmetry, group: str) -> bool:
    """Whether some tensor meets the group twice, as the weight of a recurrence does: on two axes, or in one block.

    Its inner product is then quadratic in the group's permutation, and what `weight_similarity` promises, which is
    linear, may not come true: a step must be checked against `inner_product`.
    """
    return any(
        sum(max((block.groups.count(group) for block in axis.blocks), default=0) for axis in axes) > 1
        for axes in symmetry.places.values()
    )


def inner_product(
    names: Iterable[str],
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
) -> float:
    """Sum over the named tensors of the inner product of reference and permuted source, in fp64.

    Over all `weight_names` it is what weight matching maximises (arXiv 2209.04836, section 3.2).
    """
    permuted = symmetry.permute({name: source[name] for name in names}, permutation)
    return sum(
        float((tensor.cpu().double() * reference[name].detach().cpu().double()).sum())
        for name, tensor in permuted.items()
    )


def weight_similarity(
    group: str,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
    places: Tensor | None = None,
) -> Tensor:
    """Inner products of the weights that reference units and units of the permuted source are made of and read by.

    Shape (reference units, source units), fp64, on the CPU: the sum over every weight (`weight_names`) and axis on
    which the group acts, all other axes permuted with the source. `places`, indices of shape (n,): of the units at
    these places only. Of a nested group, the units are those of one outer unit after another.
    """
    size = symmetry.num_units(group) if places is None else len(places)
    similarity = torch.zeros(size, size, dtype=torch.float64)
    permuted = symmetry.permute({name: source[name] for name in weight_names(symmetry, source, group)}, permutation)
    for name in permuted:
        ours, theirs = (tensor.detach().cpu().double() for tensor in (permuted[name], reference[name]))
        if group in symmetry.within:
            for both in joint_units(theirs, ours, symmetry.places[name], (*symmetry.within[group], group)):
                first, second = (units if places is None else units[places] for units in both)
                similarity += first @ second.T
            continue
        for dim, axis in enumerate(symmetry.places[name]):
            for positions in axis.positions_of(group):
                chosen = positions if places is None else positions[places]
                units = [tensor.movedim(dim, 0)[chosen].flatten(1) for tensor in (theirs, ours)]
                similarity += units[0] @ units[1].T
    return similarity
