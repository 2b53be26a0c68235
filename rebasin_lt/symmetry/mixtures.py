"""The mixtures of experts in a network: parts of one form, side by side, that read the same and write to the same.

Experts are found in two forms. *Exchanged*: their hidden units are a group that is nested in one of experts, whether
their weights lie in tensors with an axis of experts, or in tensors of their own that change places. *Listed*: modules
in a list that cannot change places, such as experts of whom a later one overrules an earlier. No name of an
architecture tells them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import prod

import torch
from torch import Tensor, fx

from rebasin_lt.symmetry.axis_type import AxisType
from rebasin_lt.symmetry.infer import AN_INPUT
from rebasin_lt.symmetry.nodes import plain_name
from rebasin_lt.symmetry.row_units import ROW_LOOKUPS
from rebasin_lt.symmetry.stacks import stacked_state, unstacked_state
from rebasin_lt.symmetry.trace import Symmetry


@dataclass(frozen=True)
class Mixture:
    """The experts of one layer.

    `name`: the module that holds them. `hidden`: for each expert, the groups inside of it, in the same order; of
    experts that change places the same for each, which are nested in `outer`. `tensors`: for each expert, the names of
    its weights and buffers, in the same order; of experts that change places the `Symmetry.places` of those of all.
    `around`: the groups that `outer` is nested in, where experts change places within groups of experts.

        >>> rb.Mixture("experts", (("w1[1]",),) * 4, (("w1", "w2"),) * 4, outer="w1").num_experts
        4
    """

    name: str
    hidden: tuple[tuple[str, ...], ...]
    tensors: tuple[tuple[str, ...], ...]
    outer: str | None = None
    around: tuple[str, ...] = ()

    @property
    def num_experts(self) -> int:
        return len(self.hidden)

    @property
    def path(self) -> tuple[str, ...]:
        """The groups whose joint units are the experts, the outermost first; none if they keep their places."""
        return () if self.outer is None else (*self.around, self.outer)


def find_mixtures(symmetry: Symmetry) -> tuple[Mixture, ...]:
    """The mixtures of a network, in the order of its parameters.

    Experts that change places are groups around nested ones: whole tensors, or units in which some matrix lies without
    the units inside, and along its other axis with what it reads, a router. Heads are none, mixed or gated: in each of
    them activations meet; nor branches whose answers lie end to end. Listed ones are numbered modules of the same names
    and shapes of tensors, whose units are in the same groups outside of them and in one group each inside, and none of
    which uses what another computes, as layers in a row do.

        >>> class Mixed(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.gate, self.experts = nn.Linear(3, 2), nn.ModuleList()
        ...         for _ in range(2):
        ...             self.experts.append(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)))
        ...
        ...     def forward(self, x):
        ...         answers = torch.stack([expert(x) for expert in self.experts])
        ...         return torch.einsum("ebo,be->bo", answers, self.gate(x).softmax(-1))
        >>> (mixture,) = rb.find_mixtures(rb.trace_symmetry(Mixed(), torch.zeros(4, 3)))
        >>> mixture.name, mixture.num_experts, mixture.outer, mixture.hidden
        ('experts', 2, 'experts.0.0.weight', (('experts.0.0.weight[1]',), ('experts.0.0.weight[1]',)))
    """
    return (*_exchanged(symmetry), *(mixture for mixture in _listed(symmetry) if _is_whole(mixture, symmetry)))


def _exchanged(symmetry: Symmetry) -> Iterator[Mixture]:
    for outer in symmetry.groups:
        path = (*symmetry.within.get(outer, ()), outer)
        inside = tuple(group for group, around in symmetry.within.items() if around[: len(path)] == path)
        if not inside or not _lie_together(symmetry, path):
            continue
        deep = [name for name in symmetry.places if _acts(symmetry, name, (outer,)) and _acts(symmetry, name, inside)]
        heads = not symmetry.meetings.isdisjoint(path) and symmetry.stacks.keys().isdisjoint(deep)
        if heads or not symmetry.branches.isdisjoint(path) or _read_side_by_side(symmetry, deep, outer):
            continue
        around = [name for name in symmetry.places if _acts(symmetry, name, (outer,)) and name not in deep]
        homes = {name.rpartition(".")[0] for name in deep}
        routers = [name for name in around if _is_router(symmetry, name, path)]
        own = [name for name in around if name.rpartition(".")[0] in homes]
        own = _meeting_experts(symmetry, own, deep)
        if not set(routers) <= set(own) or not symmetry.stacks.keys().isdisjoint(deep):
            size = prod(symmetry.groups[group] for group in path)
            yield Mixture(_common(homes), (inside,) * size, (tuple([*deep, *own]),) * size, outer, path[:-1])


def _lie_together(symmetry: Symmetry, path: Sequence[str]) -> bool:
    """Whether nested groups are one axis of units wherever the last of them acts, as groups of experts are."""
    axes = [axis for places in symmetry.places.values() for axis in places]
    return all(set(path) <= set(block.groups) for axis in axes for block in axis.blocks if path[-1] in block.groups)


def _read_side_by_side(symmetry: Symmetry, deep: Collection[str], outer: str) -> bool:
    """Whether modules change places with the columns of a weight that reads what all of them answer, end to end: they
    are branches, each with a part of its own in the result."""
    whole = [name for name in deep if name not in symmetry.stacks]
    return len(whole) < len(deep) and any(
        outer in axis.groups and len(axis.groups) > 1 for name in whole for axis in symmetry.places[name]
    )


def _meeting_experts(symmetry: Symmetry, names: Sequence[str], deep: Collection[str]) -> list[str]:
    """Those tensors that first meet what is computed from some others: biases of experts do, a router does not."""
    alone: dict[fx.Node, str] = {}  # step that only gives parts of one tensor -> that tensor
    computed: set[fx.Node] = set()
    met: dict[str, bool] = {}
    stack_of = {member: stack for stack, members in symmetry.stacks.items() for member in members}
    for node in symmetry.graph.nodes:
        member = symmetry.inputs.get(node.name)
        if member is not None:
            name = stack_of.get(member, member)
            computed |= {node} if name in deep else set()
            alone |= {node: name} if name in names else {}
            continue
        given = node.all_input_nodes
        inside = not computed.isdisjoint(given)
        computed |= {node} if inside else set()
        if given and given[0] in alone and (len(given) == 1 or plain_name(node) in ROW_LOOKUPS):
            alone[node] = alone[given[0]]
            continue
        for source in given:
            if source in alone:
                met.setdefault(alone[source], inside)
    return [name for name in names if met.get(name, True)]


def _common(modules: Iterable[str]) -> str:
    """The module that holds all of these, also those of several numbers."""
    single = (module.partition("{")[0].rpartition(".")[0] if "{" in module else module for module in modules)
    paths = [module.split(".") for module in single]
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in alike)


def _acts(symmetry: Symmetry, name: str, groups: Sequence[str]) -> bool:
    return any(
        group in axis.groups for axis in symmetry.places.get(name, symmetry.axes.get(name, ())) for group in groups
    )


def _is_router(symmetry: Symmetry, name: str, path: tuple[str, ...]) -> bool:
    """Whether a tensor has the experts along one axis, and what it reads along another: inputs, or no heads' units.

    One row for each: several are the queries and keys of a head, in an order that a rotation by place fixes.
    """
    axes = symmetry.places[name]
    around = {group for outers in symmetry.within.values() for group in outers}
    given = {(found.name, found.axis) for found in symmetry.frozen if found.reason == AN_INPUT}
    reads = [k for k, axis in enumerate(axes) if set(axis.groups) - around or (name, k) in given]
    experts = prod(symmetry.groups[group] for group in path)
    rows = any(axis.groups == path and axis.size == experts for axis in axes)
    return name not in symmetry.stacks and bool(reads) and rows


def _listed(symmetry: Symmetry) -> Iterator[Mixture]:
    found: dict[str, dict[int, list[str]]] = {}
    for name in symmetry.axes:
        for number in re.finditer(r"(?:^|\.)(\d+)\.", name):
            members = found.setdefault(name[: number.start(1)].removesuffix("."), {})
            members.setdefault(int(number[1]), []).append(name)
    for prefix, members in found.items():
        mixture = _mixture_of(prefix, [members[number] for number in sorted(members)], symmetry)
        if mixture is not None:
            yield mixture


def _is_whole(mixture: Mixture, symmetry: Symmetry) -> bool:
    """Whether nothing in listed experts changes places, and all that is nested in, or around, their units is inside."""
    stacked = {name for names in symmetry.stacks.values() for name in names}
    every = {group for groups in mixture.hidden for group in groups}
    families = [{inner, *outers} for inner, outers in symmetry.within.items()]
    apart = all(family <= every or family.isdisjoint(every) for family in families)
    return apart and all(stacked.isdisjoint(names) for names in mixture.tensors)


def _mixture_of(prefix: str, members: Sequence[list[str]], symmetry: Symmetry) -> Mixture | None:
    start = len(prefix) + 1 if prefix else 0
    if len(members) < 2 or len({tuple(name[start:].partition(".")[2] for name in names) for names in members}) > 1:
        return None
    maps = [_same_form(members[0], names, symmetry) for names in members]
    if any(mapped is None for mapped in maps):
        return None
    shared = {group for group in maps[0] or {} if all((mapped or {})[group] == group for mapped in maps)}
    hidden = tuple(tuple(mapped[group] for group in mapped if group not in shared) for mapped in maps if mapped)
    every = [group for groups in hidden for group in groups]
    outside = {name for name in symmetry.axes if not any(name in names for names in members)}
    if not every or len(set(every)) < len(every) or any(_acts(symmetry, name, every) for name in outside):
        return None
    if not _are_beside_one_another(prefix, symmetry.graph):
        return None
    return Mixture(prefix, hidden, tuple(map(tuple, members)))


def _same_form(first: Sequence[str], other: Sequence[str], symmetry: Symmetry) -> dict[str, str] | None:
    """The group of `other` for each of `first`, where the same axes have the same blocks; None where they differ."""
    mapped: dict[str, str] = {}
    for one, two in zip(first, other, strict=True):
        ours, theirs = symmetry.axes[one], symmetry.axes[two]
        if len(ours) != len(theirs) or not all(_same_axis(a, b, mapped) for a, b in zip(ours, theirs, strict=True)):
            return None
    return mapped if len(set(mapped.values())) == len(mapped) else None


def _same_axis(first: AxisType, other: AxisType, mapped: dict[str, str]) -> bool:
    if first.size != other.size or len(first.blocks) != len(other.blocks):
        return False
    for ours, theirs in zip(first.blocks, other.blocks, strict=True):
        if len(ours.groups) != len(theirs.groups) or not torch.equal(ours.positions, theirs.positions):
            return False
        if any(mapped.setdefault(a, b) != b for a, b in zip(ours.groups, theirs.groups, strict=True)):
            return False
    return True


def _are_beside_one_another(prefix: str, graph: fx.Graph) -> bool:
    """Whether no numbered member of a list of modules uses what another of them computes."""
    seen: dict[fx.Node, set[str]] = {}  # node -> the members that it depends on
    number = re.compile(rf"(?:^|\.){re.escape(prefix)}\.?(\d+)(?:\.|$)") if prefix else re.compile(r"^(\d+)(?:\.|$)")
    ran = set()
    for node in graph.nodes:
        before = {member for source in node.all_input_nodes for member in seen[source]}
        stack = [str(entry[0]) for entry in (node.meta.get("nn_module_stack") or {}).values()]
        own = {match[1] for path in stack if (match := number.search(path))}
        if own and before - own:
            return False
        ran |= own
        seen[node] = before | own
    return len(ran) > 1


def mixture_label(mixture: Mixture) -> str:
    """The module of a mixture, in words where it is the network itself."""
    return mixture.name or "the network"


def over_experts(
    tensors: Mapping[str, Tensor], mixture: Mixture, symmetry: Symmetry, change: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """The tensors with those of the experts changed: `change` gets and gives (experts, ...), for each part of them.

    Tensors that are not there, as those of a mask are only some, are left out; of listed experts all are, then.
    """
    changed = dict(tensors)
    if mixture.outer is not None:
        for name in mixture.tensors[0]:
            members = symmetry.stacks.get(name, (name,))
            if all(member in tensors for member in members):
                whole = stacked_state({member: tensors[member] for member in members}, symmetry.stacks)
                whole[name] = _over_units(whole[name], symmetry.places[name], mixture.path, change)
                changed |= unstacked_state(whole, symmetry.stacks)
        return changed
    for names in zip(*mixture.tensors, strict=True):
        if all(name in tensors for name in names):
            together = change(torch.stack([tensors[name] for name in names]))
            changed |= dict(zip(names, together.unbind(), strict=True))
    return changed


def _over_units(
    tensor: Tensor, axes: Sequence[AxisType], path: Sequence[str], change: Callable[[Tensor], Tensor]
) -> Tensor:
    result = tensor.clone()
    for dim, axis in enumerate(axes):
        for positions in _positions(axis, path):  # shape: (units, places)
            rows = tensor.movedim(dim, 0)[positions.to(tensor.device)]
            result.movedim(dim, 0)[positions.to(tensor.device)] = change(rows)
    return result


def _positions(axis: AxisType, path: Sequence[str]) -> Iterator[Tensor]:
    """The positions of each joint unit of nested groups that lie together: tensors of shape (units, places)."""
    if len(path) == 1:
        yield from axis.positions_of(path[0])
        return
    for block in (block for block in axis.blocks if set(path) <= set(block.groups)):
        units = block.positions.movedim([block.groups.index(group) for group in path], list(range(len(path))))
        yield units.flatten(len(path)).flatten(0, len(path) - 1)
