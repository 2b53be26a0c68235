"""The tensor in what a network answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from rebasin_lt.errors import InputError

NAMES = ("logits", "out", "output", "prediction", "predictions")
"""Entries and attributes of answers that are the answer itself."""


def answer_of(output: Any) -> Tensor:
    """The tensor that is judged: the output itself, the first of a tuple, or what is called as one of `NAMES`.

    Raises InputError for an output in which none can be told.

    >>> import torch
    >>> answer_of({"logits": torch.ones(1), "loss": torch.zeros(())})
    tensor([1.])
    """
    if isinstance(output, Tensor):
        return output
    for name in NAMES:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    parts = list(output.values()) if isinstance(output, Mapping) else output
    if isinstance(parts, tuple | list):
        tensors = [part for part in parts if isinstance(part, Tensor)]
        if len(tensors) == 1 or (tensors and not isinstance(output, Mapping)):
            return tensors[0]
    raise InputError(
        f"network returns a {type(output).__name__}, in which no answer can be told: expected a tensor, a tuple that "
        f"begins with one, or one called {', '.join(NAMES[:2])}; wrap it in a module that returns the tensor to judge"
    )


def tensors_of_answer(output: Any) -> Iterator[Tensor]:
    """Every tensor in tuples, lists, dicts and dataclasses, however deep; what is neither is left out."""
    if isinstance(output, Tensor):
        yield output
        return
    parts: Any = ()
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, tuple | list):
        parts = output
    elif is_dataclass(output):
        parts = [getattr(output, field.name) for field in fields(output)]
    for part in parts:
        yield from tensors_of_answer(part)
