"""Running a network in float64, whatever precision its code asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_COARSER = {torch.float32, torch.float16, torch.bfloat16}


class _Double(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every floating dtype that is asked for, as in `x.float()`, becomes float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda value: torch.float64 if _is_coarser(value) else value, (args, kwargs or {}))
        return func(*args, **kwargs)


@contextmanager
def in_double() -> Iterator[None]:
    """Within, new tensors and conversions are float64 where code asks for less."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.set_default_dtype(default)


def _is_coarser(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in _COARSER
