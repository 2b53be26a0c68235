"""Moments of training, typed: `0it` is the untouched initialisation, `10ep` ten epochs in, `500it` 500 steps in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rebasin_lt.errors import InputError

END = "final"
"""Where a moment may stand: the end of training, whenever that is."""

_PATTERN = re.compile(r"(\d+)(it|ep)")


@dataclass(frozen=True)
class Moment:
    """A number of optimiser steps (`it`) or of epochs (`ep`) after the initialisation.

    The published code calls the weights after its first epoch "epoch 0"; here that moment is `1ep`.
    """

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Read `10ep` or `500it`. Raises InputError for anything else, a bare number included."""
        match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"moment {text!r} is not understood: write epochs as '10ep' or steps as '500it'")
        return cls(int(match[1]), match[2])

    @classmethod
    def is_one(cls, text: object) -> bool:
        """Whether a text names a moment, as `parse` reads them; a path, say, does not."""
        return isinstance(text, str) and _PATTERN.fullmatch(text.strip()) is not None

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    def steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps from the initialisation."""
        return self.count * steps_per_epoch if self.unit == "ep" else self.count

    def epochs(self, steps_per_epoch: int) -> float:
        """Epochs from the initialisation, fractional for a moment inside one."""
        return self.count if self.unit == "ep" else self.count / steps_per_epoch
