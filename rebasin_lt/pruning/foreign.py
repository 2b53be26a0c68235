"""State dicts pruned by `torch.nn.utils.prune`, as ours: dense names, zeros where pruned, and a mask beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.pruning.mask import Mask

_ORIG, _MASK = "_orig", "_mask"


def import_state(state: Mapping[str, Tensor], names: Collection[str]) -> tuple[dict[str, Tensor], Mask | None]:
    """`state` under the `names` of a network, and the mask in it, if it is pruned.

    A pair `NAME_orig`, `NAME_mask`, as torch.nn.utils.prune and the paper's code keep them, becomes the weight
    orig · mask, with which the network computes what the pruned one did, and the mask, with the weights' signs; what
    had become of the pruned weights is dropped. Raises BrokenFileError for masks without weights, of another shape, or
    of other values than 0 and 1.
    """
    masked = [name.removesuffix(_ORIG) for name in state if name.endswith(_ORIG) and name not in names]
    dense = {name: tensor for name, tensor in state.items() if not _belongs(name, masked)}
    masks = {name: _as_bool(name, state) for name in masked}
    dense.update({name: state[name + _ORIG] * mask for name, mask in masks.items()})
    return dense, Mask(masks).signed_by(dense) if masks else None


def dense_name(name: str, state: Collection[str]) -> str:
    """The name that an entry of `state` has in the dense network: of the weight in a pair `_orig`, `_mask`, its own."""
    dense = name.removesuffix(_ORIG)
    return dense if dense + _MASK in state else name


def _belongs(name: str, masked: Collection[str]) -> bool:
    return any(name in (weight + _ORIG, weight + _MASK) for weight in masked)


def _as_bool(name: str, state: Mapping[str, Tensor]) -> Tensor:
    weight, mask = state[name + _ORIG], state.get(name + _MASK)
    if mask is None:
        raise BrokenFileError(f"{name}{_ORIG} has no {name}{_MASK} beside it: expected both, as torch.nn.utils.prune")
    if mask.shape != weight.shape:
        raise BrokenFileError(
            f"{name}{_MASK} has shape {tuple(mask.shape)}, but {name}{_ORIG} has {tuple(weight.shape)}"
        )
    if not torch.equal(mask, (mask != 0).to(mask.dtype)):
        raise BrokenFileError(f"{name}{_MASK} holds other values than 0 and 1")
    return mask != 0
