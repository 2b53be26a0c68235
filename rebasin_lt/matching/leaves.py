"""What is inside of one outer unit of the reference matched to what is inside of each of the source's, all at once.

For groups that nothing is nested in. The work is that of `match_together` for each pair, in a few products for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rebasin_lt.matching.assignment import solve_assignments
from rebasin_lt.matching.labelled import Labelled
from rebasin_lt.matching.two_levels import UnitIndices

_MAX_SWEEPS = 20


def match_row(
    names: Sequence[str], parts: Sequence[Labelled], own: Mapping[str, Tensor], mine: int | None
) -> tuple[Tensor, UnitIndices]:
    """For some outer units of the source, the best that can be had with one of the reference: values and indices.

    Of each part, the reference is that of one unit, shape (units of each group..., rest), and the source that of some,
    with an axis of outer units before; the one at `mine` among them is at the same place. `own` adds matrices of shape
    (outer units, reference units, source units). Values have shape (outer units,), indices of each group (outer units,
    units). Exact where no two groups meet in a part; else they are matched in turn until nothing improves, first each
    by the weights that no other meets; for the one at the same place also from where it is. What is found for a unit
    does not depend on which others are there.
    """
    again = [part._replace(source=_with_again(part.source, mine)) for part in parts]
    own = {name: _with_again(matrix, mine) for name, matrix in own.items()}
    found: UnitIndices = {}
    worth: dict[str, Tensor] = {}
    is_begun = False
    for _ in range(_MAX_SWEEPS):
        gained, known = False, len(found)
        for name in names:
            similarity = _similarity(name, again, own, found)
            if similarity is None:
                continue
            index = solve_assignments(similarity, name)
            value = similarity.gather(2, index[..., None]).sum((1, 2))
            if name in found:
                now = similarity.gather(2, found[name][..., None]).sum((1, 2))
                better = value - now > 1e-12 * value.abs()
                gained = gained or bool(better.any())
                index, value = torch.where(better[:, None], index, found[name]), torch.where(better, value, now)
            found[name], worth[name] = index, value
        if len(found) < len(names) and len(found) == known:  # all meet one another: begin with one as it is
            name = next(name for name in names if name not in found)
            found[name] = _unmoved(name, again, own)
        elif len(found) == len(names):
            if is_begun and not gained:
                break
            if not is_begun:
                for name in names if mine is not None else ():
                    found[name][-1] = torch.arange(found[name].shape[1])
                is_begun = len(names) > 1
            if not is_begun:
                break
    values = _values(again, own, found)
    if mine is None:
        return values, found
    best = mine if values[mine] >= values[-1] else len(values) - 1
    order = [best if other == mine else other for other in range(len(values) - 1)]
    return values[order], {name: index[order] for name, index in found.items()}


def _with_again(tensor: Tensor, mine: int | None) -> Tensor:
    """The tensors of all outer units, and that of one of them once more."""
    return tensor if mine is None else torch.cat([tensor, tensor[mine : mine + 1]])


def _similarity(name: str, parts: Sequence[Labelled], own: Mapping[str, Tensor], found: UnitIndices) -> Tensor | None:
    """Shape (outer units, reference units, source units), by weights that meet only groups whose indices are known."""
    total = own.get(name)
    for part in parts:
        if name in part.groups and all(other in found for other in part.groups if other != name):
            k = part.groups.index(name)
            source = _moved(part, {other: found[other] for other in part.groups if other != name})
            ours, theirs = source.movedim(k + 1, 1).flatten(2), part.reference.movedim(k, 0).flatten(1)
            product = theirs @ ours.mT
            total = product if total is None else total + product
    return total


def _moved(part: Labelled, found: UnitIndices) -> Tensor:
    """The source of a part with its groups permuted, in each outer unit as is found for it."""
    source = part.source
    for k, name in enumerate(part.groups):
        if name in found:
            index = found[name].reshape([len(source), *(-1 if i == k else 1 for i in range(source.dim() - 1))])
            source = source.gather(k + 1, index.expand(source.shape))
    return source


def _values(parts: Sequence[Labelled], own: Mapping[str, Tensor], found: UnitIndices) -> Tensor:
    values = [(_moved(part, found) * part.reference).flatten(1).sum(1) for part in parts]
    values += [matrix.gather(2, found[name][..., None]).sum((1, 2)) for name, matrix in own.items()]
    return torch.stack(values).sum(0)


def _unmoved(name: str, parts: Sequence[Labelled], own: Mapping[str, Tensor]) -> Tensor:
    sizes = {group: part.source.shape[k + 1] for part in parts for k, group in enumerate(part.groups)}
    count = len(parts[0].source) if parts else len(next(iter(own.values())))
    return torch.arange(sizes[name]).expand(count, -1).clone()
