"""Siblings: steps of a program that are alike but for the tensors that they read, and whose results meet as equals.

Such are the experts of a mixture that are modules of their own: each does the same with tensors of its own, perhaps
with an element of the router's answer, and then all are added up, stacked or laid end to end. Whole experts may change
places, with all their tensors, if the units of the router do so with them.
"""

from __future__ import annotations

import functools
import operator
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from rebasin_lt.symmetry.export import Program, written
from rebasin_lt.symmetry.nodes import hinted_size, identity_of, plain_name, returned_tensors

Family = tuple[fx.Node, ...]  # a step of each unit, in the order of the units
_SUMS = ("add", "maximum", "minimum")  # their operands may come in any order
JOINS = ("cat", "concat", "stack")
_PIECES = ("split", "split_with_sizes", "chunk", "unbind", "tensor_split", "unsafe_split", "unsafe_chunk")
_SMALL = 64  # elements of constants that are compared by value


class Choice(NamedTuple):
    """Where a step takes one unit's part of a tensor that all share, or with which label it compares all of it."""

    source: fx.Node
    dim: int | None  # None for labels
    start: int
    length: int


@dataclass(eq=False)
class Siblings:
    """The steps of units that may change places: of each step, those of all units.

    `choices`: of steps that take what is theirs of a tensor that all share, what that is.
    `exits`: step at which the units meet -> the families that meet there.
    """

    size: int
    families: dict[fx.Node, Family] = field(default_factory=dict)
    choices: dict[fx.Node, Choice] = field(default_factory=dict)
    exits: dict[fx.Node, list[Family]] = field(default_factory=dict)

    def tensors(self, program: Program) -> list[tuple[str, ...]]:
        """The names of parameters and buffers that change places, of each unit in turn."""
        inputs = (node for node in program.graph.nodes if node.op == "placeholder" and node in self.families)
        families = dict.fromkeys(self.families[node] for node in inputs)
        return [tuple(program.state[node.name] for node in family) for family in families]

    def is_closed(self, changed: set[fx.Node]) -> bool:
        """True if nothing else reads what the units compute, and they differ in tensors, not in shared ones alone."""
        for node, family in self.families.items():
            unit = family.index(node)
            readers = [user for user in node.users if returned_tensors(user.meta.get("val")) or user.op == "output"]
            if node in changed and len(readers) > 1:
                return False
            for user in readers:
                inside = user in self.families and self.families[user].index(user) == unit
                if not inside and family not in self.exits.get(user, ()):
                    return False
        return any(family[0].op == "placeholder" for family in self.families.values())


def find_siblings(program: Program, tensors: Mapping[str, Tensor]) -> list[Siblings]:
    """All that a program has. Their tensors' names differ in numbers alone, as those of a list of modules do."""
    search = _Search(program, tensors)
    for node in program.graph.nodes:
        for inner, leaves in _meeting(node):
            for members in search.alike(leaves):
                search.add(inner, members)
    return [group for group in search.found if group.is_closed(search.changed)]


def _meeting(node: fx.Node) -> Iterator[tuple[list[fx.Node], list[fx.Node]]]:
    """For a step at which equals may meet: the steps of that meeting, and what meets."""
    if node.op != "call_function":
        return
    name = plain_name(node)
    if name in JOINS and isinstance(node.args[0], list | tuple):
        yield [node], [operand for operand in node.args[0] if isinstance(operand, fx.Node)]
    elif _is_sum(node) and not any(_goes_on(node, user) for user in node.users):
        inner: list[fx.Node] = []
        leaves: list[fx.Node] = []
        pending = [node]
        while pending:
            here = pending.pop()
            inner.append(here)
            for operand in reversed([value for value in here.args if isinstance(value, fx.Node)]):
                (pending if _is_sum(operand) and _goes_on(operand, here) else leaves).append(operand)
        yield inner, leaves[::-1]


def _is_sum(node: fx.Node) -> bool:
    """Whether a step only adds, or takes the larger, and what it writes into is read nowhere else."""
    name = plain_name(node) if node.op == "call_function" else ""
    if name.removesuffix("_") not in _SUMS or len(node.args) != 2 or node.kwargs:
        return False
    return not name.endswith("_") or (isinstance(node.args[0], fx.Node) and len(node.args[0].users) == 1)


def _goes_on(node: fx.Node, user: fx.Node) -> bool:
    """Whether a sum is only a part of one other sum."""
    alike = _is_sum(user) and plain_name(node).removesuffix("_") == plain_name(user).removesuffix("_")
    return alike and len(node.users) == 1 and user.all_input_nodes.count(node) == 1 and user.args[0] is not user.args[1]


class _Search:
    """What is known of a program while siblings are looked for."""

    def __init__(self, program: Program, tensors: Mapping[str, Tensor]) -> None:
        self.program, self.tensors = program, tensors
        self.changed = written(program.graph)
        self.found: list[Siblings] = []
        self._group_of: dict[fx.Node, Siblings] = {}
        self._same: dict[fx.Node, fx.Node] = {}  # the first step that computes the same
        # Where results are laid end to end again and again, each meets the same ones many times.
        self._mapping = functools.cache(self._mapped)
        self._form = functools.cache(_form)
        counts = Counter(identity_of(tensor) for tensor in tensors.values())
        self._untied = {key for key, count in counts.items() if count == 1}
        first: dict[Hashable, fx.Node] = {}
        for node in program.graph.nodes:
            self._same[node] = first.setdefault(self._key(node), node)

    def _key(self, node: fx.Node) -> Hashable:
        """Equal for steps that compute the same."""
        if node.op == "placeholder":
            if node.name in self.program.state:
                return identity_of(self.tensors[self.program.state[node.name]])
            value = self.program.constants.get(node.name)
            if isinstance(value, Tensor) and not value.is_meta and value.numel() <= _SMALL:
                return str((value.shape, value.dtype, value.flatten().tolist()))
            return node
        writes = any(argument in self.changed for argument in node.all_input_nodes) or node in self.changed
        if writes or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            return node
        return str((node.op, node.target, *fx.map_arg((node.args, node.kwargs), self._same.__getitem__)))

    def alike(self, leaves: Sequence[fx.Node]) -> list[list[dict[fx.Node, fx.Node]]]:
        """Those of some steps that are siblings, in groups: of each the steps before it, by those of the first."""
        groups: list[tuple[fx.Node, list[dict[fx.Node, fx.Node]]]] = []
        repeated = {leaf for leaf in leaves if leaves.count(leaf) > 1}
        for leaf in dict.fromkeys(leaves):
            for first, members in groups:
                found = self._mapping(first, leaf)
                if found is not None:
                    members.append(found)
                    break
            else:
                groups.append((leaf, [{}]))
        kept = []
        for first, members in groups:
            if len(members) > 1 and first.op == "call_function" and len(set(map(frozenset, members[1:]))) == 1:
                members[0] = {node: node for node in members[1]}
                apart = all(len({member[node] for member in members}) == len(members) for node in members[0])
                if apart and repeated.isdisjoint(member[first] for member in members):
                    kept.append(members)
        return kept

    def _mapped(self, first: fx.Node, other: fx.Node) -> dict[fx.Node, fx.Node] | None:
        """The steps before the one that are those before the other; None if they are not alike."""
        found: dict[fx.Node, fx.Node] = {}
        pending = [(first, other)]
        while pending:
            one, two = pending.pop()
            if one in found or (self._same[one] is self._same[two] and one is not first):
                if found.get(one, two) is not two or (one not in found and one in self.changed):
                    return None
                continue
            found[one] = two
            if self._chooses(one, two):
                continue
            if not self._is_alike(one, two):
                return None
            pending += zip(_operands(one), _operands(two), strict=True)
        return found if len(set(found.values())) == len(found) else None

    def _chooses(self, one: fx.Node, two: fx.Node) -> bool:
        """Whether two steps take different parts of one tensor."""
        ours, theirs = choice_of(one), choice_of(two)
        if ours is None or theirs is None or one.target is not two.target or ours.source in self.changed:
            return False
        same = self._same[ours.source] is self._same[theirs.source] and ours.dim == theirs.dim
        return same and ours.length == theirs.length and abs(ours.start - theirs.start) >= ours.length

    def _is_alike(self, one: fx.Node, two: fx.Node) -> bool:
        if one.op != two.op or (one.op != "placeholder" and one.target is not two.target):
            return False
        if self._form(one) != self._form(two):
            return False
        if one.op == "placeholder":
            return self._are_exchanged(one, two)
        if one.op != "call_function" or len(_operands(one)) != len(_operands(two)):
            return False
        # What both write into would hold what the first of them left there.
        writes = plain_name(one).endswith("_") and bool(_operands(one))
        return not writes or self._same[_operands(one)[0]] is not self._same[_operands(two)[0]]

    def _are_exchanged(self, one: fx.Node, two: fx.Node) -> bool:
        """Whether two inputs of the program are parameters or buffers with numbered names, and no others are tied."""
        if one.name not in self.program.state or two.name not in self.program.state:
            return False
        names = [self.program.state[node.name] for node in (one, two)]
        ours, theirs = (self.tensors[name] for name in names)
        if isinstance(ours, nn.Parameter) != isinstance(theirs, nn.Parameter) or ours.dtype != theirs.dtype:
            return False
        own = all(identity_of(tensor) in self._untied for tensor in (ours, theirs))
        return own and len({re.sub(r"\d+", "0", name) for name in names}) == 1

    def add(self, inner: Sequence[fx.Node], members: Sequence[Mapping[fx.Node, fx.Node]]) -> None:
        """Note siblings that meet in some steps; those that were known already get what is new of theirs."""
        families = [tuple(member[node] for member in members) for node in members[0]]
        met = [family for family in families if any(node in self._group_of for node in family)]
        known = {self._group_of.get(node) for family in met for node in family}
        group = known.pop() if known else Siblings(len(members))
        if group is None or known:
            return  # these are units of several kinds, and that one reads what the other computes shows in `is_closed`
        orders = {tuple(map(group.families.get(family[0], ()).index, family)) for family in met}
        order = orders.pop() if orders else tuple(range(len(members)))
        if orders or len(order) != group.size:
            return
        if group not in self.found:
            self.found.append(group)
        for k, family in enumerate(families):
            family = tuple(family[order.index(unit)] for unit in range(group.size))
            for node in family:
                group.families[node], self._group_of[node] = family, group
                if self._chooses(family[0], family[1]):
                    group.choices[node] = choice_of(node)  # type: ignore[assignment]
            if k == 0:
                for step in inner:
                    group.exits.setdefault(step, []).append(family)


def _form(node: fx.Node) -> str:
    """What a step is given, but for which tensors, and the shapes of what it returns."""
    given = fx.map_arg((node.args, node.kwargs), lambda _: None)
    return str((given, [(tuple(tensor.shape), tensor.dtype) for tensor in returned_tensors(node.meta.get("val"))]))


def _operands(node: fx.Node) -> list[fx.Node]:
    """The steps whose results a step is given, in order, some perhaps twice."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found


def choice_of(node: fx.Node) -> Choice | None:
    """The part of a tensor that a step takes; None for one that does something else."""
    if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    if node.target is operator.getitem:
        return _piece(node.args[0], node.args[1])
    name, source = plain_name(node), node.args[0]
    shape = _shape(source)
    given: list[Any] = [*node.args[1:], *[None] * 4]
    if name in ("eq", "ne"):
        return Choice(source, None, given[0], 1) if type(given[0]) is int else None
    if name not in ("select", "slice") or not isinstance(given[0], int) or not shape:
        return None
    dim = given[0] % len(shape)
    size = shape[dim]
    start = given[1] or 0
    if not isinstance(size, int) or not isinstance(start, int) or not isinstance(given[3], int | None):
        return None
    start = max(0, start + size) if start < 0 else min(start, size)
    if name == "select":
        return Choice(source, dim, start, 1)
    return Choice(source, dim, start, hinted_size(_shape(node)[dim])) if given[3] in (None, 1) else None


def _piece(pieces: fx.Node, index: Any) -> Choice | None:
    """One of the pieces into which a step cuts a tensor."""
    if pieces.op != "call_function" or plain_name(pieces) not in _PIECES:
        return None
    source: Any = pieces.args[0]
    given = [*pieces.args[1:], pieces.kwargs.get("dim")]
    shape, parts = _shape(source), [tuple(part.shape) for part in returned_tensors(pieces.meta["val"])]
    dim = (given[0] if plain_name(pieces) == "unbind" else given[1] if len(given) > 1 else 0) or 0
    if not isinstance(dim, int) or not isinstance(shape[dim], int):
        return None
    dim %= len(shape)
    sizes = [part[dim] if len(part) == len(shape) else 1 for part in parts]
    return Choice(source, dim, sum(sizes[:index]), sizes[index])


def _shape(node: Any) -> tuple[Any, ...]:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(value.shape) if isinstance(value, Tensor) else ()
