"""One call of a network: its arguments, and the label that its answer is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.failure import failing

_WAY_OUT = (
    "; is this what it is called with in training? Say which parts of a batch are its inputs (inputs=NAMES, --inputs, "
    "or a function of the batch)"
)


@dataclass(frozen=True)
class ForwardCall:
    """The arguments of one call of a network, and what its answer is compared with: a label of any kind, or None."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    target: Any = None

    def of(self, network: nn.Module) -> Any:
        """What the network answers. Raises InputError, with what it was given, where it fails."""
        with failing(lambda: f"{type(network).__name__} fails on a batch of {self.described}", _WAY_OUT):
            return network(*self.args, **self.kwargs)

    def to(self, device: torch.device) -> ForwardCall:
        """The same with all tensors on a device.

        The host goes on while they travel to a GPU, but not while they come from one: it would read what is not there.
        """

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=device.type != "cpu")

        return ForwardCall(mapped(self.args, move), mapped(self.kwargs, move), mapped(self.target, move))

    def laid_out(self, lay_out: Callable[[Tensor], Tensor]) -> ForwardCall:
        """The same with something done to each of its input tensors."""
        return replace(self, args=mapped(self.args, lay_out), kwargs=mapped(self.kwargs, lay_out))

    @property
    def label(self) -> Tensor:
        """The target, which must be a tensor. Raises InputError where the batch has none."""
        if not isinstance(self.target, Tensor):
            raise InputError(
                "batches holds inputs without targets, expected (input, target) pairs or a dict with labels; say where "
                "the label is (--targets NAME; in Python targets=NAME, or a function of the batch), or judge by what "
                "needs none (--loss validation_step:NAME; in Python loss=...)"
            )
        return self.target

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors that the network is given, nested ones too."""
        return list(input_tensors((self.args, self.kwargs)))

    @property
    def num_samples(self) -> int:
        """Length of the first input, 0 if there is none."""
        return next((len(tensor) for tensor in self.tensors if tensor.dim()), 0)

    @property
    def described(self) -> str:
        """Its inputs in words, such as `ids (32, 16) int64`."""
        values = [*((str(place), each) for place, each in enumerate(self.args, start=1)), *self.kwargs.items()]
        return ", ".join(f"input {name} {described(value)}" for name, value in values) or "no inputs"


def described(value: Any) -> str:
    """What a value is: shape and dtype of a tensor, else its type."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"({type(value).__name__} of {', '.join(map(str, value))})"
    return (
        f"({type(value).__name__} of {len(value)})" if isinstance(value, tuple | list) else f"({type(value).__name__})"
    )


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with every tensor in it changed, however deep it lies in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: mapped(each, change) for name, each in value.items()}
    if isinstance(value, tuple | list):
        parts = [mapped(each, change) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def input_tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in tuples, lists and dicts, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from input_tensors(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from input_tensors(each)
