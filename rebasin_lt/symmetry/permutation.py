"""A permutation of every group of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.storage.safetensors_file import check_format, read_safetensors, write_safetensors

PERMUTATION_VERSIONS = ("1", "2")  # the second has nested groups, and is written only where there are some

Within = Mapping[str, Sequence[str]]


class Permutation(Mapping[str, Tensor]):
    """Index vectors by group: `permuted[i] = original[p[i]]`; int64, on the CPU, immutable by convention.

    A group that is nested in others, named in `within` from the outermost on, may be permuted differently in each of
    their units: its index has an axis for each of them, then its own. With p of 2 heads and q, of shape (2, 3), of the
    channels in each, `permuted[head, i] = original[p[head], q[head, i]]`: q is what happens to the head that comes to
    this place. An index that is the same in all units is held as a vector, as that of a group that is not nested.

    >>> permutation = rb.Permutation({"hidden": torch.tensor([2, 0, 1])})
    >>> permutation.inverse()["hidden"].tolist()
    [1, 2, 0]
    >>> heads = {"heads": torch.tensor([1, 0]), "channels": torch.tensor([[2, 0, 1], [0, 1, 2]])}
    >>> rb.Permutation(heads, within={"channels": ["heads"]}).inverse()["channels"].tolist()
    [[0, 1, 2], [1, 2, 0]]
    """

    def __init__(self, indices: Mapping[str, Tensor], within: Within | None = None) -> None:
        """Check that every vector is a permutation. Raises InputError for one that is not."""
        self._indices: dict[str, Tensor] = {}
        self.within: dict[str, tuple[str, ...]] = {}
        given = within if within is not None else getattr(indices, "within", {})
        for group, index in indices.items():
            outers = tuple(given.get(group, ()))
            index = _checked(group, index, len(outers))
            if index.ndim > 1 and bool((index == index[(0,) * len(outers)]).all()):
                index = index[(0,) * len(outers)]
            if index.ndim > 1:
                self.within[group] = outers
            self._indices[group] = index.clone()
        for group in self.within:
            sizes = tuple(len_of(self[outer]) for outer in self.within[group] if outer in self)
            shape = tuple(n for n, o in zip(self[group].shape, self.within[group], strict=False) if o in self)
            if sizes != shape:
                raise InputError(
                    f"permutation of {group} has shape {tuple(self[group].shape)}, expected one row for each of the "
                    f"{' × '.join(map(str, sizes))} units of {', '.join(self.within[group])}"
                )
            outers = self.within[group]
            wrong = [outer for k, outer in enumerate(outers) if self.within.get(outer, outers[:k]) != outers[:k]]
            if wrong or len(set(outers)) < len(outers):
                raise InputError(
                    f"permutation of {group} is within {', '.join(outers)}, expected other groups, each after those "
                    "that it is within itself"
                )

    def __getitem__(self, group: str) -> Tensor:
        return self._indices[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Permutation):
            return NotImplemented
        alike = self.keys() == other.keys() and self.within == other.within
        return alike and all(torch.equal(self[group], other[group]) for group in self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        moved = sum(int((index != torch.arange(len_of(index))).sum()) for index in self.values())
        return f"Permutation({len(self)} groups, {sum(index.numel() for index in self.values())} units, {moved} moved)"

    def expanded(self, group: str, shape: Sequence[int]) -> Tensor:
        """The index of a group with an axis for each group around it, of these sizes, then its own."""
        return self[group].expand(*shape, -1) if self[group].ndim == 1 else self[group]

    def sources(self, groups: Sequence[str], at: Mapping[str, int] | None = None) -> list[Tensor | None]:
        """The unit of each group from which that of a product of groups comes; None for a group that is not permuted.

        Each has an axis for every one of `groups`, of size 1 where it does not depend on that one. Groups around them
        that are not among them are at the units `at`.
        """
        found: list[Tensor | None] = []
        for k, group in enumerate(groups):
            if group not in self:
                found.append(None)
                continue
            index, outers = self[group], self.within.get(group, ())
            sizes = [1] * len(groups)
            for outer in outers:
                if outer in groups:
                    sizes[groups.index(outer)] = index.shape[outers.index(outer)]
            sizes[k] = index.shape[-1]
            index = index[tuple(slice(None) if outer in groups else (at or {})[outer] for outer in outers)]
            there = sorted((groups.index(outer), j) for j, outer in enumerate(o for o in outers if o in groups))
            before = [j for place, j in there if place < k]
            after = [j for place, j in there if place > k]
            found.append(index.permute([*before, index.ndim - 1, *after]).reshape(sizes))
        return found

    def places(
        self, groups: Sequence[str], sizes: Sequence[int], at: Mapping[str, int] | None = None
    ) -> tuple[Tensor, ...]:
        """`sources` as an index of a tensor whose first axes are the groups, of these sizes: broadcast, it permutes."""
        own = [torch.arange(n).reshape([-1 if i == k else 1 for i in range(len(groups))]) for k, n in enumerate(sizes)]
        found = self.sources(groups, at)
        return tuple(mine if source is None else source for mine, source in zip(own, found, strict=True))

    def joint(self, groups: Sequence[str], sizes: Sequence[int]) -> Tensor:
        """The index vector of all joint units of groups of these sizes, those of the first one's units in turn."""
        joint = torch.zeros([1] * len(groups), dtype=torch.int64)
        for size, place in zip(sizes, self.places(groups, sizes), strict=True):
            joint = joint * size + place
        return joint.expand(*sizes).flatten()

    def inverse(self) -> Permutation:
        """The permutation that undoes this one."""
        result = {}
        for group, index in self.items():
            undone, outers = index.argsort(-1), self.within.get(group, ())
            if outers:
                around = Permutation({outer: self[outer] for outer in outers if outer in self}, self.within)
                undone = undone[around.inverse().places(outers, index.shape[:-1])]
            result[group] = undone
        return Permutation(result, self.within)

    def compose(self, other: Permutation) -> Permutation:
        """This one after `other`: `permute(permute(t, a), b)` equals `permute(t, b.compose(a))`, bit for bit.

        Raises InputError for permutations of different groups or sizes.
        """
        sizes, others = ({group: len_of(index) for group, index in p.items()} for p in (self, other))
        if sizes != others:
            group = next(name for name in {**sizes, **others} if sizes.get(name) != others.get(name))
            raise InputError(
                f"permutations do not fit each other: {group} has {sizes.get(group, 'no')} units in one and "
                f"{others.get(group, 'no')} in the other"
            )
        result, within = {}, {**self.within, **other.within}
        for group, index in self.items():
            if group not in within:
                result[group] = other[group][index]
                continue
            if self.within.get(group, within[group]) != within[group]:
                raise InputError(
                    f"permutations do not fit each other: {group} is within {', '.join(self.within[group])} in one and "
                    f"within {', '.join(within[group])} in the other"
                )
            shape = (self if group in self.within else other)[group].shape
            before = other.expanded(group, shape[:-1])[self.places(within[group], shape[:-1])]
            result[group] = before.gather(-1, self.expanded(group, shape[:-1]))
        return Permutation(result, within)

    def save(self, path: Path | str, **metadata: str) -> None:
        """Write a `*.perm.safetensors` file atomically; `metadata` says where the permutation comes from."""
        about = {"format": "rebasin_lt.permutation", "format_version": PERMUTATION_VERSIONS[0], **metadata}
        if self.within:
            about |= {"format_version": PERMUTATION_VERSIONS[1], "within": json.dumps(self.within)}
        write_safetensors(path, "permutation", self, about)

    @classmethod
    def load(cls, path: Path | str) -> Permutation:
        """Read what `save` wrote. Raises InputError for a missing file, BrokenFileError for what is no permutation."""
        indices, about = read_safetensors(path, "permutation", ".perm.safetensors")
        check_format(path, about, "permutation", "format_version", PERMUTATION_VERSIONS)
        try:
            return cls(indices, _read_within(about.get("within", "{}")))
        except InputError as error:
            raise BrokenFileError(f"{path} is not a readable permutation: {error}") from error


def len_of(index: Tensor) -> int:
    """The number of units that an index permutes, in each of the units around them."""
    return index.shape[-1]


def fitting(permutation: Mapping[str, Tensor], groups: Mapping[str, int], within: Within) -> Permutation:
    """A permutation of some of these groups. Raises InputError for other groups, or other sizes than theirs."""
    for group, index in permutation.items():
        if group not in groups:
            known = ", ".join(list(groups)[:3]) + (", ..." if len(groups) > 3 else "")
            raise InputError(f"permutation has a group {group}, which this network does not have: {known}")
        if index.shape[-1:] != (groups[group],):
            raise InputError(f"permutation of {group} has {index.shape[-1]} units, expected {groups[group]}")
        around = tuple(groups[outer] for outer in within.get(group, ()))
        if index.ndim > 1 and tuple(index.shape[:-1]) != around:
            raise InputError(
                f"permutation of {group} has shape {tuple(index.shape)}, expected {groups[group]} units in "
                f"each of {' × '.join(map(str, around)) or 'no'} others"
            )
        named = tuple(getattr(permutation, "within", {}).get(group, within.get(group, ())))
        if named != tuple(within.get(group, ())):
            raise InputError(
                f"permutation of {group} is within {', '.join(named)}, in this network it is within "
                f"{', '.join(within.get(group, ())) or 'none'}"
            )
    return permutation if isinstance(permutation, Permutation) else Permutation(permutation, within)


def _checked(group: str, index: Tensor, num_outers: int) -> Tensor:
    index = torch.as_tensor(index).detach().cpu()
    wrong = index.is_floating_point() or index.is_complex() or index.dtype == torch.bool
    if index.ndim not in {1, 1 + num_outers} or 0 in index.shape[:-1] or wrong:
        raise InputError(f"permutation of {group} is {index.dtype} of shape {tuple(index.shape)}, expected indices")
    index = index.long()
    if not torch.equal(index.sort(-1).values, torch.arange(len_of(index)).expand(index.shape)):
        raise InputError(f"permutation of {group} does not hold each of 0 to {len_of(index) - 1} once")
    return index


def _read_within(text: str) -> Within:
    """The groups around each nested group, from a file that is not trusted."""
    try:
        within = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("its nested groups are no JSON") from error
    if not isinstance(within, dict):
        raise InputError("its nested groups are no object")
    for outers in within.values():
        if not isinstance(outers, list) or not all(isinstance(outer, str) for outer in outers):
            raise InputError("its nested groups are no lists of names")
    return within
