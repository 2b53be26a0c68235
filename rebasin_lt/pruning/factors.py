"""A weight as a product of two factors, which can change its sign without standing still at 0."""

from __future__ import annotations

from torch import Tensor


def balanced_factors(weight: Tensor, balance: float = 1.0, sign: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The factors m and w of a weight, m · w = weight, with m² − w² = `balance` (Sign-In, arXiv 2504.12801).

    Gradient flow on m and w keeps m² − w² as it is and moves their product by −(m² + w²) times its gradient, where
    m² + w² is √(balance² + 4 weight²): with a balance above 0 a weight passes 0 at a speed, and so can change its sign.
    `sign` is a tensor whose signs m gets; positive ones without it. Shapes and dtype are the weight's.

        >>> import torch
        >>> m, w = balanced_factors(torch.tensor([0.0, -2.0]))
        >>> (m * w).round(decimals=4).tolist(), (m**2 - w**2).round(decimals=4).tolist()
        ([0.0, -2.0], [1.0, 1.0])
    """
    m = ((balance + (balance**2 + 4 * weight.double() ** 2).sqrt()) / 2).sqrt()
    if sign is not None:
        m = m.copysign(sign.double())
    return m.to(weight.dtype), (weight.double() / m).to(weight.dtype)
