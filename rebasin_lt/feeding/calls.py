"""Batches as the calls of a network that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.form import Form
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.feeding.reading import Inputs, Targets, read_call


class Fed:
    """Batches, and which of their parts are inputs and which is the label, where the batches themselves do not tell.

    It stands wherever batches are asked for.

    Args:
        batches: any number of them, of any form, read as often as needed
        inputs: names of entries of a dict, or of the first parts of a tuple, as `forward` calls them; the names in the
            batch by those of `forward`, if they differ; or a function of the batch
        targets: name of the label's entry, or a function of the batch

    >>> import torch
    >>> batches = [{"image": torch.ones(2, 3), "noise": torch.ones(2, 3), "kind": torch.tensor([0, 1])}]
    >>> (call,) = calls_of(Fed(batches, inputs={"input": "image"}, targets="kind"), nn.Linear(3, 2))
    >>> call.args[0].shape, call.target
    (torch.Size([2, 3]), tensor([0, 1]))
    """

    def __init__(self, batches: Iterable[Any], inputs: Inputs | None = None, targets: Targets | None = None) -> None:
        self.batches, self.inputs, self.targets = batches, inputs, targets

    def __len__(self) -> int:
        return len(self.batches) if isinstance(self.batches, Sized) else 0

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Calls:
    """The calls of a network that batches stand for, as many times over as the batches can be read."""

    def __init__(self, batches: Fed, form: Form) -> None:
        self.batches, self.form = batches, form

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[ForwardCall]:
        for batch in self.batches:
            yield self.read(batch)

    def read(self, batch: Any) -> ForwardCall:
        """One batch as a call, one that is a call already as it is. Raises InputError as `read_call`."""
        if isinstance(batch, ForwardCall):
            return batch
        return read_call(batch, self.form, self.batches.inputs, self.batches.targets)


def calls_of(batches: Iterable[Any], network: nn.Module | Form, argument: str = "batches") -> Calls:
    """The calls of `network` that `batches` stand for; what are calls already stay as they are.

    Raises InputError for what holds no batches; and each call, when it is read, for one that fits no call.
    """
    if isinstance(batches, Calls):
        return batches
    if not isinstance(batches, Iterable):
        raise InputError(f"{argument} is a {type(batches).__name__}, expected batches: a loader or a list")
    fed = batches if isinstance(batches, Fed) else Fed(batches)
    return Calls(fed, network if isinstance(network, Form) else Form.of(network))
