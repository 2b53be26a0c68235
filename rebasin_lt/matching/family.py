"""Weight matching of a group with all that are nested in it: the best inner permutation for every pair of its units.

For each pair of an outer unit of the reference and one of the source, the groups inside are matched by the weights of
these two units alone, and what they reach is what the pair is worth; then the outer units are assigned. One pair is
worked on after another, so no more is held than the weights themselves, once more of either network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.labelled import Labelled, labelled, similarity_of
from rebasin_lt.matching.leaves import match_row
from rebasin_lt.matching.two_levels import UnitIndices
from rebasin_lt.matching.weight import weight_names
from rebasin_lt.symmetry.permutation import Permutation, Within
from rebasin_lt.symmetry.trace import Symmetry

_MAX_SWEEPS = 20  # over groups that meet in one tensor, for one pair of outer units


def family_of(group: str, within: Within) -> list[str]:
    """A group and all that are nested in it."""
    return [group, *(other for other, outers in within.items() if group in outers)]


def match_family(
    group: str,
    source: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    symmetry: Symmetry,
    permutation: Permutation,
    similarity: Mapping[str, Tensor] | None = None,
    units: Sequence[int] | None = None,
) -> Permutation:
    """What to do after `permutation` for the group's family to fit the reference's weights best; others stay.

    `similarity` adds a matrix (reference units, source units) for each group of the family, those of a nested group one
    outer unit after another. `units` of the group only, by default all, are matched to one another. The states hold
    fp64 on the CPU. Exact where no two groups inside the same outer unit meet in a tensor, as heads' channels do not;
    else, as in a grouped convolution, these are matched in turn until nothing improves.
    """
    names = family_of(group, symmetry.within)
    state = {name: source[name] for name in weight_names(symmetry, source, group)}
    permuted = symmetry.permute(state, permutation)
    parts = [
        part for name in permuted for part in labelled(reference[name], permuted[name], symmetry.places[name], names)
    ]
    own = {name: matrix[:, symmetry.joint(permutation, name)] for name, matrix in (similarity or {}).items()}
    _, found = _family(group, parts, own, symmetry.within, units)
    return Permutation({**symmetry.identity(), **found}, symmetry.within)


def _family(
    group: str, parts: Sequence[Labelled], own: Mapping[str, Tensor], within: Within, units: Sequence[int] | None = None
) -> tuple[float, UnitIndices]:
    """The best indices of a group and all inside of it, and their value; nothing else acts on `parts`."""
    inside = [name for name in dict.fromkeys([*own, *(n for part in parts for n in part.groups)]) if name != group]
    shallow = [part for part in parts if set(part.groups) == {group}]
    deep = [part.first(group) for part in parts if set(part.groups) != {group}]
    values = similarity_of(shallow, group, own)
    if values is None:
        values = torch.zeros((len(deep[0].source),) * 2, dtype=torch.float64)
    rows = list(range(len(values))) if units is None else list(units)
    if not inside:
        assert units is None, "all units of a group without others inside are matched"
        order = solve_assignment(values, group)
        return float(values.gather(1, order[:, None]).sum()), {group: order}
    if any(set(inside) & set(within.get(name, ())) for name in inside) or not all(map(_is_plain, deep)):
        row = partial(_row_in_turn, inside, deep, own, within, values)
    else:
        row = partial(_row_at_once, inside, deep, own, values)
    chosen = values[rows][:, rows] + torch.stack([row(mine, rows)[0] for mine in rows])
    order = solve_assignment(chosen, group)
    value = float(chosen.gather(1, order[:, None]).sum())
    whole = torch.arange(len(values))
    whole[rows] = torch.tensor(rows)[order]
    # indices of all pairs might be larger than the weights, so those of matched ones are found once more
    matched = {mine: {name: index[0] for name, index in row(mine, [int(whole[mine])])[1].items()} for mine in rows}
    stay = {name: torch.arange(index.shape[-1]).expand(index.shape) for name, index in matched[rows[0]].items()}
    inner = {name: torch.stack([matched.get(mine, stay)[name] for mine in range(len(whole))]) for name in stay}
    return value, {group: whole, **inner}


def _row_at_once(
    inside: Sequence[str],
    deep: Sequence[Labelled],
    own: Mapping[str, Tensor],
    values: Tensor,
    mine: int,
    others: Sequence[int],
) -> tuple[Tensor, UnitIndices]:
    """What the inside of one reference unit is worth with those of some source units, and the indices."""
    every = list(others) == list(range(len(values)))
    parts = [
        part._replace(reference=part.reference[mine], source=part.source if every else part.source[list(others)])
        for part in deep
    ]
    blocks = {
        name: torch.stack([block_of(own[name], mine, other, len(values)) for other in others])
        for name in inside
        if name in own
    }
    return match_row(inside, parts, blocks, others.index(mine) if mine in others else None)


def _row_in_turn(
    inside: Sequence[str],
    deep: Sequence[Labelled],
    own: Mapping[str, Tensor],
    within: Within,
    values: Tensor,
    mine: int,
    others: Sequence[int],
) -> tuple[Tensor, UnitIndices]:
    """The same, one source unit after another, for groups that others are nested in."""
    found = []
    for other in others:
        parts = [part._replace(reference=part.reference[mine], source=part.source[other]) for part in deep]
        blocks = {name: block_of(own[name], mine, other, len(values)) for name in inside if name in own}
        found.append(match_together(inside, parts, blocks, within, keep=mine == other))
    indices = {name: torch.stack([each[name] for _, each in found]) for name in found[0][1]}
    return torch.tensor([value for value, _ in found], dtype=values.dtype), indices


def match_together(
    names: Sequence[str], parts: Sequence[Labelled], own: Mapping[str, Tensor], within: Within, keep: bool
) -> tuple[float, UnitIndices]:
    """The best indices of some groups and their value; `keep` says that leaving all as it is may be good already."""
    families = {
        name: [other for other in names if other == name or name in within.get(other, ())]
        for name in names
        if not set(names) & set(within.get(name, ()))
    }
    roots = [[root for root, family in families.items() if set(family) & set(part.groups)] for part in parts]
    if all(
        len(acting) == 1 == max(map(part.groups.count, part.groups)) for acting, part in zip(roots, parts, strict=True)
    ):
        value, found = 0.0, UnitIndices()
        for root, family in families.items():
            having = [part for part, acting in zip(parts, roots, strict=True) if acting == [root]]
            worth, indices = _family(root, having, {name: own[name] for name in family if name in own}, within)
            value, found = value + worth, found | indices
        return value, found
    within = {name: [outer for outer in within.get(name, ()) if outer in names] for name in names}
    starts = [UnitIndices()] + [_identity(names, parts, own, within)] * keep
    return max((_in_turn(families, parts, own, within, start) for start in starts), key=lambda found: found[0])


def _in_turn(
    families: Mapping[str, Sequence[str]],
    parts: Sequence[Labelled],
    own: Mapping[str, Tensor],
    within: Within,
    start: UnitIndices,
) -> tuple[float, UnitIndices]:
    """One family after another matched, given the others', until nothing improves.

    At first, one that has no indices yet is matched by the weights that no other such one meets.
    """
    identity = _identity([name for family in families.values() for name in family], parts, own, within)
    found, value = dict(start), -math.inf
    for _ in range(_MAX_SWEEPS):
        before, known = value, len(found)
        for family in families.values():
            trial = _with_family(family, parts, own, within, found, identity)
            worth = _value(parts, own, trial, within) if len(trial) == len(identity) else value
            if len(trial) > len(found) or worth - value > 1e-12 * abs(worth):
                found, value = trial, worth
        if len(found) == known < len(identity):  # all meet one another, and none is known: begin with one as it is
            name = next(name for name in identity if name not in found)
            found[name] = identity[name]
        elif value <= before and len(found) == known:
            break
    return value, found


def _with_family(
    family: Sequence[str],
    parts: Sequence[Labelled],
    own: Mapping[str, Tensor],
    within: Within,
    found: UnitIndices,
    identity: UnitIndices,
) -> UnitIndices:
    """What is found already, with the indices of one family the best beside those of the others."""
    done, is_known = Permutation(found, within), family[0] in found
    unknown = {name for name in identity if name not in found} - set(family)
    usable = [part.permuted(done).only(family) for part in parts if unknown.isdisjoint(part.groups)]
    usable = [part for part in usable if part.groups and (is_known or _is_plain(part))]
    at = Permutation({name: found.get(name, identity[name]) for name in family}, within)
    sizes = {name: identity[name].shape for name in family}
    blocks = {name: own[name][:, at.joint([*within[name], name], sizes[name])] for name in family if name in own}
    if not usable and not blocks:
        return found
    best = _family(family[0], usable, blocks, within)[1]
    step = Permutation({**at, **best}, within).compose(at)
    return found | {name: step.expanded(name, sizes[name][:-1]) for name in family}


def _is_plain(part: Labelled) -> bool:
    """Whether no group has two axes."""
    return len(set(part.groups)) == len(part.groups)


def _identity(
    names: Sequence[str], parts: Sequence[Labelled], own: Mapping[str, Tensor], within: Within
) -> UnitIndices:
    sizes = {name: size for part in parts for name, size in zip(part.groups, part.reference.shape, strict=False)}
    for name in sorted(names, key=lambda name: len(within[name])):
        if name not in sizes:  # no weight has it
            around = 1
            for outer in within[name]:
                around *= sizes[outer]
            sizes[name] = len(own[name]) // around
    return {name: torch.arange(sizes[name]).expand(*(sizes[outer] for outer in within[name]), -1) for name in names}


def _value(parts: Sequence[Labelled], own: Mapping[str, Tensor], found: UnitIndices, within: Within) -> float:
    at = Permutation(found, within)
    value = sum(part.permuted(at).inner_product() for part in parts)
    for name, matrix in own.items():
        index = at.joint([*within[name], name], found[name].shape)
        value += float(matrix.gather(1, index[:, None]).sum())
    return value


def block_of(matrix: Tensor, mine: int, other: int, units: int) -> Tensor:
    """The similarities of what is inside of one reference unit and of one source unit, of so many."""
    size = len(matrix) // units
    return matrix[mine * size : (mine + 1) * size, other * size : (other + 1) * size]
