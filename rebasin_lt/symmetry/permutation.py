"""A permutation of every group of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.storage.safetensors_file import check_format, read_safetensors, write_safetensors

PERMUTATION_VERSION = "1"


class Permutation(Mapping[str, Tensor]):
    """Index vectors by group: `permuted[i] = original[p[i]]`; int64, on the CPU, immutable by convention.

    >>> permutation = rb.Permutation({"hidden": torch.tensor([2, 0, 1])})
    >>> permutation.inverse()["hidden"].tolist()
    [1, 2, 0]
    """

    def __init__(self, indices: Mapping[str, Tensor]) -> None:
        """Check that every vector is a permutation. Raises InputError for one that is not."""
        self._indices: dict[str, Tensor] = {}
        for group, index in indices.items():
            index = torch.as_tensor(index).detach().cpu()
            if index.ndim != 1 or index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
                raise InputError(
                    f"permutation of {group} is {index.dtype} of shape {tuple(index.shape)}, expected indices"
                )
            index = index.long()
            if not torch.equal(index.sort().values, torch.arange(len(index))):
                raise InputError(f"permutation of {group} does not hold each of 0 to {len(index) - 1} once")
            self._indices[group] = index.clone()

    def __getitem__(self, group: str) -> Tensor:
        return self._indices[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Permutation):
            return NotImplemented
        return self.keys() == other.keys() and all(torch.equal(self[group], other[group]) for group in self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        moved = sum(int((index != torch.arange(len(index))).sum()) for index in self.values())
        return f"Permutation({len(self)} groups, {sum(map(len, self.values()))} units, {moved} moved)"

    def inverse(self) -> Permutation:
        """The permutation that undoes this one."""
        return Permutation({group: index.argsort() for group, index in self.items()})

    def compose(self, other: Permutation) -> Permutation:
        """This one after `other`: `permute(permute(t, a), b)` equals `permute(t, b.compose(a))`, bit for bit.

        Raises InputError for permutations of different groups or sizes.
        """
        sizes, others = ({group: len(index) for group, index in p.items()} for p in (self, other))
        if sizes != others:
            group = next(name for name in {**sizes, **others} if sizes.get(name) != others.get(name))
            raise InputError(
                f"permutations do not fit each other: {group} has {sizes.get(group, 'no')} units in one and "
                f"{others.get(group, 'no')} in the other"
            )
        return Permutation({group: other[group][index] for group, index in self.items()})

    def save(self, path: Path | str, **metadata: str) -> None:
        """Write a `*.perm.safetensors` file atomically; `metadata` says where the permutation comes from."""
        about = {"format": "rebasin_lt.permutation", "format_version": PERMUTATION_VERSION, **metadata}
        write_safetensors(path, "permutation", self, about)

    @classmethod
    def load(cls, path: Path | str) -> Permutation:
        """Read what `save` wrote. Raises InputError for a missing file, BrokenFileError for what is no permutation."""
        indices, about = read_safetensors(path, "permutation", ".perm.safetensors")
        check_format(path, about, "permutation", "format_version", (PERMUTATION_VERSION,))
        try:
            return cls(indices)
        except InputError as error:
            raise BrokenFileError(f"{path} is not a readable permutation: {error}") from error
