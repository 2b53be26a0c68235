"""A mask is a state dict under the dense network's parameter names: bools, True = kept; or signs of what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rebasin_lt.batches import Network, network_of, state_of
from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.pruning.prunable import SHORTCUTS, prunable_names
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.safetensors_file import check_format, read_safetensors, write_safetensors

if TYPE_CHECKING:
    from rebasin_lt.symmetry.trace import Symmetry

UNSIGNED_VERSION, SIGNED_VERSION = "1", "2"
"""Of a file with bools, which every release reads; of one with signs."""


class Mask(Mapping[str, Tensor]):
    """Which weights are kept: an immutable mapping from parameter name to a bool tensor on the CPU.

    It is made of bool tensors, or of int8 tensors of −1, 0 and 1: a *signed mask*, which also knows the signs of the
    weights that it keeps. As a mapping both yield bools.

        >>> mask = Mask({"weight": torch.tensor([[-1, 0], [1, 1]], dtype=torch.int8)})
        >>> mask["weight"].tolist(), mask.is_signed
        ([[True, False], [True, True]], True)
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype not in (torch.bool, torch.int8):
                raise InputError(
                    f"mask for {name} has dtype {tensor.dtype}, expected torch.bool, or torch.int8 for its signs"
                )
            if tensor.dtype == torch.int8 and tensor.numel() and not -1 <= int(tensor.min()) <= int(tensor.max()) <= 1:
                raise InputError(
                    f"mask for {name} holds {int(tensor.min())} to {int(tensor.max())}, expected signs: -1, 0 or 1"
                )
        if len({tensor.dtype for tensor in tensors.values()}) > 1:
            raise InputError("the mask has signs for some tensors only, expected them for all or for none")
        self._content = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self._tensors = {name: tensor.bool() for name, tensor in self._content.items()}  # bools are not copied

    @classmethod
    def ones_like(cls, state: Network, names: Iterable[str] | None = None) -> Mask:
        """Everything kept, for `names` or else for every floating tensor of two or more dimensions.

        A state dict does not say what its tensors are: embeddings and shortcuts are taken too, which `ones_of` leaves
        dense. A tensor that stands under several names is taken once, under the first. Raises InputError for a name
        that `state` does not have.
        """
        state = state_of(state)
        names = _matrices(state) if names is None else list(names)
        for name in names:
            if name not in state:
                raise InputError(f"mask names {name}, which the network does not have")
        return cls({name: torch.ones(state[name].shape, dtype=torch.bool) for name in names})

    @classmethod
    def ones_of(cls, network: nn.Module, exclude: Iterable[str] = SHORTCUTS, include: Iterable[str] = ()) -> Mask:
        """Everything kept, for the weights of `network` that can be pruned. Takes and raises what `prunable` does."""
        return cls.ones_like(dict(network_of(network).named_parameters()), prunable_names(network, exclude, include))

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        """Equal in what is kept and, if either is signed, in the signs."""
        if not isinstance(other, Mask) or self.keys() != other.keys() or self.is_signed != other.is_signed:
            return False
        return all(torch.equal(tensor, other.content[name]) for name, tensor in self.content.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kept = f"{self.num_kept:,} of {self.num_weights:,} kept"
        return f"Mask({len(self)} tensors, {kept}, sparsity {self.sparsity:.4f}{', signed' * self.is_signed})"

    @property
    def content(self) -> Mapping[str, Tensor]:
        """The tensors as files hold them: bools, or int8 of −1, 0 and 1 of a signed mask."""
        return self._content

    @property
    def is_signed(self) -> bool:
        """True if the mask knows the signs of what it keeps."""
        return any(tensor.dtype == torch.int8 for tensor in self._content.values())

    @property
    def unsigned(self) -> Mask:
        """The same mask without signs."""
        return Mask(self._tensors) if self.is_signed else self

    def signed_by(self, state: Network) -> Mask:
        """This mask with the signs of the weights in `state`; a kept weight of 0 has the sign 1.

        Raises InputError where the mask does not fit.
        """
        state = state_of(state)
        self.check_fits(state)
        signs = {name: torch.where(state[name].cpu() < 0, -1, 1) for name in self}
        return Mask({name: (sign * self[name]).to(torch.int8) for name, sign in signs.items()})

    def permuted(self, symmetry: Symmetry, permutation: Mapping[str, Tensor]) -> Mask:
        """The mask of the permuted network; signs move with their weights. Raises InputError as `Symmetry.permute`."""
        return Mask(symmetry.permute(self._content, permutation))

    @property
    def num_weights(self) -> int:
        """Prunable weights."""
        return sum(tensor.numel() for tensor in self.values())

    @property
    def num_kept(self) -> int:
        return sum(int(tensor.sum()) for tensor in self.values())

    @property
    def sparsity(self) -> float:
        """Share of the prunable weights that is removed, in [0, 1]."""
        return 1 - self.num_kept / self.num_weights if self.num_weights else 0.0

    def model_sparsity(self, num_parameters: int) -> float:
        """Share of all `num_parameters` of a network that is removed: lower, since much is never pruned."""
        return (self.num_weights - self.num_kept) / max(1, num_parameters)

    @property
    def emptied(self) -> list[str]:
        """Names of the tensors of which no weight is kept: nothing passes through their layers but biases."""
        return [name for name, tensor in self.items() if tensor.numel() and not tensor.any()]

    @property
    def hash(self) -> str:
        """sha256 over names, shapes and bits, and over the signs of a signed mask."""
        return hash_tensors(self._content)

    def report(self) -> list[dict[str, str | int | float]]:
        """One row per tensor: name, kept, weights, sparsity."""
        return [
            {
                "name": name,
                "kept": int(tensor.sum()),
                "weights": tensor.numel(),
                "sparsity": 1 - int(tensor.sum()) / tensor.numel() if tensor.numel() else 0.0,
            }
            for name, tensor in self.items()
        ]

    def check_fits(self, state: Network) -> None:
        """Raise InputError unless every tensor of this mask has its weight, of equal shape, in `state`."""
        state = state_of(state)
        for name, tensor in self.items():
            if name not in state:
                raise InputError(f"mask names {name}, which the network does not have")
            if state[name].shape != tensor.shape:
                raise InputError(
                    f"mask for {name} has shape {tuple(tensor.shape)}, the network has {tuple(state[name].shape)}"
                )

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the pruned weights of `model` to zero, in place. Raises InputError where the mask does not fit."""
        parameters = dict(network_of(model).named_parameters(remove_duplicate=False))
        self.check_fits(parameters)
        for name, tensor in self.items():
            parameters[name].masked_fill_(~tensor.to(parameters[name].device), 0)

    def applied_to(self, state: Network) -> dict[str, Tensor]:
        """The state with its pruned weights zero; new where the mask prunes, else the same tensors.

        Raises InputError where the mask does not fit.
        """
        state = state_of(state) if isinstance(state, nn.Module) else state
        self.check_fits(state)
        return {
            name: tensor.masked_fill(~self[name].to(tensor.device), 0) if name in self else tensor
            for name, tensor in state.items()
        }

    def overlap(self, other: Mask) -> float:
        """Intersection over union of the kept weights; 1 for equal masks. Raises InputError if the shapes differ."""
        if self.keys() != other.keys():
            raise InputError(f"masks name different parameters: {sorted(self.keys() ^ other.keys())[:3]}")
        other.check_fits(self)
        both = sum(int((tensor & other[name]).sum()) for name, tensor in self.items())
        return both / max(1, self.num_kept + other.num_kept - both)

    def save(self, path: Path | str, **metadata: str) -> None:
        """Write `*.mask.safetensors`, atomically, with `metadata` beside the sparsity, hash and format version.

        A signed mask takes a byte per weight, as one without signs does.
        """
        version = SIGNED_VERSION if self.is_signed else UNSIGNED_VERSION
        about = {"format": "rebasin_lt.mask", "version": version, "sparsity": repr(self.sparsity)}
        write_safetensors(path, "mask file", self._content, {**metadata, **about, "sha256": self.hash})

    @classmethod
    def load(cls, path: Path | str) -> Mask:
        """Read a mask file. Raises InputError if there is none, BrokenFileError if it is no mask or damaged."""
        return cls.load_with_metadata(path)[0]

    @classmethod
    def load_with_metadata(cls, path: Path | str) -> tuple[Mask, dict[str, str]]:
        """The mask and what its file says of itself. Raises as `load`."""
        tensors, about = read_safetensors(path, "mask file", ".mask.safetensors")
        check_format(path, about, "mask", "version", (UNSIGNED_VERSION, SIGNED_VERSION))
        for name, tensor in tensors.items():
            _check_values(tensor, name, about["version"] == SIGNED_VERSION, path)
        mask = cls(tensors)
        if about.get("sha256") != mask.hash:
            raise BrokenFileError(f"{path} is damaged: its content does not match the hash written with it")
        return mask, about


def _check_values(tensor: Tensor, name: str, signed: bool, path: Path | str) -> None:
    if not signed and (tensor.dtype != torch.bool or (tensor.numel() and tensor.view(torch.uint8).max() > 1)):
        raise BrokenFileError(f"{path} has {name} of dtype {tensor.dtype}, expected bools, 0 or 1 each")
    if signed and (tensor.dtype != torch.int8 or not torch.equal(tensor, tensor.sign())):
        raise BrokenFileError(f"{path} has {name} of dtype {tensor.dtype}, expected signs, int8 of -1, 0 or 1 each")


def _matrices(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the floating tensors of two or more dimensions, of those that share their memory the first."""
    names: dict[object, str] = {}
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and tensor.dim() >= 2 and tensor.is_floating_point():
            names.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.data_ptr() else name, name)
    return list(names.values())
