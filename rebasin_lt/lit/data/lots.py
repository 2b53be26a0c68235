"""Random numbers of one's own: the same every time, and none taken from those of others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class Lots:
    """The generators of torch, NumPy and Python as a seed has them, in force for a while at a time.

    >>> before, lots = torch.get_rng_state(), Lots(0)
    >>> with lots.drawn():
    ...     first = torch.rand(()).item()
    >>> with Lots(0).drawn():
    ...     again = torch.rand(()).item()
    >>> first == again, torch.equal(before, torch.get_rng_state())
    (True, True)
    """

    def __init__(self, seed: int) -> None:
        outer = _states()
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what loaders of others draw from
        self._inner = _states()
        _put(outer)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw from these within a `with`; the next one goes on where it ended."""
        outer = _states()
        _put(self._inner)
        try:
            yield
        finally:
            self._inner = _states()
            _put(outer)


def _states() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002


def _put(states: tuple[Any, Any, Any]) -> None:
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])  # noqa: NPY002
