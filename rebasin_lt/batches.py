"""Networks and batches, in any form that callers may give them, brought to one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.errors import InputError

Network = nn.Module | Mapping[str, Tensor]
"""A network, or its state dict."""


class Wrapper:
    """A module around one network, `net`, under whose own names masks and checkpoints are written."""

    net: nn.Module


def network_of(module: nn.Module) -> nn.Module:
    """The module whose parameter names masks use: that in a `Wrapper`, such as our LightningModules, or else itself.

    >>> classifier = rb.Classifier("mlp")
    >>> rb.network_of(classifier) is classifier.net
    True
    """
    return module.net if isinstance(module, Wrapper) else module


def state_of(network: Network) -> dict[str, Tensor]:
    """The network's tensors by name, detached and not copied; extra state, which is no tensor, left out.

    Names are those of `network_of`.
    """
    tensors = network_of(network).state_dict() if isinstance(network, nn.Module) else network
    return {name: tensor.detach() for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def check_alike(first: Mapping[str, Tensor], second: Mapping[str, Tensor], names: tuple[str, str]) -> None:
    """Raise InputError, with both values, unless the two states have equal names and shapes; `names` names them."""
    for state, other, (ours, theirs) in ((first, second, names), (second, first, names[::-1])):
        missing = [name for name in state if name not in other]
        if missing:
            raise InputError(f"{ours} has {missing[0]}, {theirs} does not: they must be the same architecture")
    for name, tensor in first.items():
        if tensor.shape != second[name].shape:
            raise InputError(
                f"{name} has shape {tuple(tensor.shape)} in {names[0]} and {tuple(second[name].shape)} in {names[1]}: "
                "they must have the same width"
            )


def device_of(state: Mapping[str, Tensor]) -> torch.device:
    """The device of the state's first tensor."""
    return next((tensor.device for tensor in state.values()), torch.device("cpu"))


def nonempty(batches: Iterable[Any], argument: str = "batches") -> Iterator[Any]:
    """Yield the batches. Raises InputError where there is none."""
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise InputError(f"{argument} is empty, expected at least one batch")


def check_repeatable(batches: Iterable[Any], argument: str = "batches") -> None:
    """Raise InputError for what holds no batches, and for batches that can be read only once, such as a generator."""
    while (inner := getattr(batches, "batches", batches)) is not batches:  # it says only how others are read
        batches = inner
    if not isinstance(batches, Iterable):
        raise InputError(f"{argument} is a {type(batches).__name__}, expected batches: a loader or a list")
    if iter(batches) is batches:
        raise InputError(f"{argument} is a {type(batches).__name__}, which is used up after one pass: give a list")
