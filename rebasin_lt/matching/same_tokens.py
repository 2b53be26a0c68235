"""Whether the hidden units of experts are shown for the same tokens, row by row.

Each expert may choose tokens of its own, be sent them by an index, by a product or by a sum, or be shown nothing where
it is not chosen. What tells in all of these is that experts that are one and the same do the same on the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.symmetry.mixtures import Mixture, mixture_label

_ENOUGH = 0.5  # of the rows: where fewer are of one token, correlations of equal experts do not tell their units apart


class SameTokens:
    """How many rows are of the same token, of hidden units of experts that are all alike."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}  # by mixture; those in which hidden units of either expert do anything
        self.same: dict[str, int] = {}

    def update(self, mixture: Mixture, units: Tensor, reference: Tensor) -> None:
        """Add rows of one expert and of another, of shape (rows, units): nothing where the expert was not chosen."""
        shown = (units != 0).any(-1) | (reference != 0).any(-1)
        _, same = rows_of_same_tokens(units, reference)
        self.rows[mixture.name] = self.rows.get(mixture.name, 0) + int(shown.sum())
        self.same[mixture.name] = self.same.get(mixture.name, 0) + same

    def check(self, mixtures: Sequence[Mixture]) -> None:
        """Raise InputError for a mixture in which fewer than half of the rows are."""
        for mixture in mixtures:
            if self.same.get(mixture.name, 0) < _ENOUGH * self.rows.get(mixture.name, 0):
                raise of_own_tokens(mixture)


def rows_of_same_tokens(units: Tensor, reference: Tensor) -> tuple[int, int]:
    """In how many rows both do anything, and in how many of these they do the same; each of shape (rows, units).

    That is, but for a factor: the share of its expert, by which what units do may have been multiplied already.
    """
    sides = [_scaled(side) for side in (units, reference)]
    norms = [side.norm(dim=-1) for side in sides]
    along = (sides[0] * sides[1]).sum(-1, keepdim=True) / norms[1].square().clamp(min=1)[:, None]
    apart = (sides[0] - along * sides[1]).norm(dim=-1)
    within = min(10 * torch.finfo(units.dtype).eps ** 0.5, 0.2) * norms[0]
    both = (norms[0] > 0) & (norms[1] > 0)
    return int(both.sum()), int((both & (apart <= within)).sum())


def of_own_tokens(mixture: Mixture) -> InputError:
    """The error for experts that see tokens of their own."""
    return InputError(
        f"the hidden units of {mixture_label(mixture)} show for each token in its own experts alone, so that no two "
        "experts see the same tokens: align them by weights"
    )


def _scaled(units: Tensor) -> Tensor:
    """Rows whose largest value is 1, so that no square is too small for its numbers."""
    units = units if units.dtype == torch.float64 else units.float()
    most = units.abs().amax(-1, keepdim=True)
    return units / torch.where(most > 0, most, 1)
