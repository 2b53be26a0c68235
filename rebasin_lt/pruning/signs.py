"""Signs of weights: given to a network before it trains under a mask, and compared with another network's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rebasin_lt.batches import Network, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask


class SignsSet(NamedTuple):
    """The numbers of weights that a mask keeps, of those whose sign was turned, and of zeros, which have none."""

    kept: int
    turned: int
    zero: int

    def describe(self) -> str:
        return f"signs of {self.kept:,} kept weights set: {self.turned:,} turned, {self.zero:,} are 0 and stay 0"


@torch.no_grad()
def set_signs_(weights: Mapping[str, Tensor], mask: Mask) -> SignsSet:
    """Set w = |w| · sign on the weights that a signed mask keeps, in place; all other bits stay.

    Mask and signs carry what is learnt in a ticket, magnitudes hardly matter: AWS (ICLR 2025, arXiv 2504.05357) and
    Sign-In (NeurIPS 2025, arXiv 2504.12801). Here the magnitudes are those of the weights that are there, such as a
    rewind point's. Raises InputError for a mask without signs, or one that does not fit.

        >>> weights = {"weight": torch.tensor([0.5, -0.25, 0.0, 3.0])}
        >>> set_signs_(weights, Mask({"weight": torch.tensor([-1, -1, -1, 0], dtype=torch.int8)}))
        SignsSet(kept=3, turned=1, zero=1)
        >>> weights["weight"].tolist()
        [-0.5, -0.25, 0.0, 3.0]
    """
    _check_signed(mask)
    mask.check_fits(weights)
    turned = zero = 0
    for name, sign in mask.content.items():
        weight = weights[name]
        sign = sign.to(weight.device)
        turns = weight.sign() * sign == -1
        zero += int(((weight == 0) & (sign != 0)).sum())
        turned += int(turns.sum())
        weight.copy_(torch.where(turns, -weight, weight))
    return SignsSet(mask.num_kept, turned, zero)


def sign_agreement(mask: Mask, reference: Network) -> float:
    """The share of the kept weights whose sign in a signed mask is that of the reference's weight, in [0, 1].

    Chance is one half. Mask and reference are in the same order of units. A reference's weight of 0 agrees with
    neither sign. Raises InputError for a mask without signs, or one that does not fit.

        >>> mask = Mask({"weight": torch.tensor([-1, 1, 0], dtype=torch.int8)})
        >>> sign_agreement(mask, {"weight": torch.tensor([-0.1, -2.0, 5.0])})
        0.5
    """
    _check_signed(mask)
    weights = state_of(reference)
    mask.check_fits(weights)
    same = sum(int((weights[name].cpu().sign() * sign == 1).sum()) for name, sign in mask.content.items())
    return same / max(1, mask.num_kept)


def _check_signed(mask: Mask) -> None:
    if mask and not mask.is_signed:
        raise InputError(
            "the mask has no signs: expected one that IMP of this release left, or Mask.signed_by(the ticket's weights)"
        )
