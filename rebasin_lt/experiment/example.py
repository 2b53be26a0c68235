"""The call of a network that it is traced with: the one place that decides it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.batches import device_of, nonempty, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry.export import example_call

EXAMPLES = 2
"""Examples in a call: one alone would not show which axis is the batch."""


def example_of(
    network: nn.Module,
    input_shape: str | None = None,
    batches: Callable[[], Iterable[Any] | None] = lambda: None,
    inputs_are_said: bool = False,
    known: Sequence[int] | None = None,
    guessed: Sequence[int] | None = None,
) -> ForwardCall:
    """Two examples to trace a network with, on its device; their values do not matter.

    Of the first of these that there is: what the user says (`input_shape`, or `inputs_are_said` of `batches`), the
    network's own `example_input_array`, images of the `known` shape, the first of `batches`, images of the `guessed`
    shape. Raises InputError where there is none, where the network does not take the guessed ones, and as
    `zeros_of` and `calls_of`.
    """
    call = _said(network, input_shape, batches, inputs_are_said)
    if call is None and known is not None:
        call = ForwardCall((torch.zeros(EXAMPLES, *known),))
    if call is None and (found := batches()) is not None:
        call = first_of(found, network)
    device = device_of(state_of(network))
    if call is not None:
        return call.to(device)
    return _guess(network, guessed, device)


def _said(
    network: nn.Module, input_shape: str | None, batches: Callable[[], Iterable[Any] | None], inputs_are_said: bool
) -> ForwardCall | None:
    """The example that the user or the network itself names."""
    if input_shape is not None:
        return ForwardCall((zeros_of(input_shape),))
    found = batches() if inputs_are_said else None
    if found is not None:
        return first_of(found, network)
    return None if getattr(network, "example_input_array", None) is None else example_call(network)


def _guess(network: nn.Module, shape: Sequence[int] | None, device: torch.device) -> ForwardCall:
    name = type(network).__name__
    way_out = (
        "give --data package.module:Class, --input-shape (of one example, such as 12 or 16:int64), or the class an "
        "example_input_array"
    )
    if shape is None:
        raise InputError(f"nothing says which inputs {name} takes: {way_out}")
    call = ForwardCall((torch.zeros(EXAMPLES, *shape, device=device),))
    try:
        with torch.no_grad():
            call.of(network)
    except InputError as error:
        sizes = ", ".join(map(str, shape))
        raise InputError(
            f"nothing says which inputs {name} takes, and it takes no image ({sizes}): {way_out}"
        ) from error
    return call


def first_of(batches: Iterable[Any], network: nn.Module) -> ForwardCall:
    """The first examples of the first of `batches`, as a call. Raises InputError as `calls_of`."""
    call: ForwardCall = next(nonempty(calls_of(batches, network)))
    size = call.num_samples
    return call.laid_out(lambda tensor: tensor[:EXAMPLES] if tensor.dim() and len(tensor) == size else tensor)


def sizes_of(text: str) -> tuple[list[int], torch.dtype]:
    """What `--input-shape` says: the sizes of one example without the batch, and the dtype, float32 if not given.

    >>> sizes_of("3,224,224"), sizes_of("16:int64")
    (([3, 224, 224], torch.float32), ([16], torch.int64))

    Raises InputError for anything else.
    """
    sizes, colon, dtype = text.partition(":")
    parts = [part.strip() for part in sizes.split(",")]
    kind = getattr(torch, dtype.strip(), None) if colon else torch.float32
    if not all(part.isdigit() and int(part) > 0 for part in parts) or not isinstance(kind, torch.dtype):
        raise InputError(
            f"--input-shape is {text!r}, expected the sizes of one example such as 3,224,224 or 12, and a dtype behind "
            "a colon for what is not float32: 16:int64"
        )
    return [int(part) for part in parts], kind


def zeros_of(text: str) -> Tensor:
    """Examples of a shape as `sizes_of` takes it. Raises as it."""
    sizes, kind = sizes_of(text)
    return torch.zeros(EXAMPLES, *sizes, dtype=kind)
