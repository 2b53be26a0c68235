"""The two factors of a weight: their product, their balance, their sign, and the speed at which a weight learns."""

from __future__ import annotations

import pytest
import torch

from rebasin_lt.pruning.factors import balanced_factors


@pytest.mark.parametrize("balance", [0.01, 1.0, 7.0])
def test_their_product_is_the_weight_and_the_balance_what_is_asked_for(balance) -> None:
    weight = torch.cat([torch.randn(50), torch.tensor([0.0, 1e-8, -1e4])]).double()
    m, w = balanced_factors(weight, balance)
    assert torch.allclose(m * w, weight, rtol=1e-14, atol=0)
    small = weight.abs() < 100  # squares of large ones leave few digits for their difference
    assert torch.allclose((m**2 - w**2)[small], torch.full_like(weight, balance)[small], rtol=1e-9)
    assert (m > 0).all()


def test_m_gets_the_sign_that_it_is_given() -> None:
    weight, sign = torch.tensor([1.0, -1.0, 0.0]), torch.tensor([-3.0, 2.0, -0.1])
    m, w = balanced_factors(weight, 1.0, sign)
    assert m.sign().tolist() == [-1, 1, -1]
    assert torch.allclose(m * w, weight)


def test_a_small_step_moves_the_product_as_the_flow_says() -> None:
    """By −(m² + w²) times its gradient, which is √(balance² + 4 weight²)."""
    weight, gradient = torch.tensor([0.0, 0.5, -2.0]).double(), torch.tensor([1.0, -0.3, 0.2]).double()
    m, w = balanced_factors(weight, 1.0)
    rate = 1e-7
    moved = (m - rate * gradient * w) * (w - rate * gradient * m)
    assert torch.allclose((moved - weight) / rate, -(1 + 4 * weight**2).sqrt() * gradient, atol=1e-6)
