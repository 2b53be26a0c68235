"""Closed-form REPAIR: exact where a layer sees the same input everywhere, near the measured one after alignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trained import digits, pair, small_vgg

from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.connectivity.batchnorm import clone
from rebasin_lt.connectivity.closed_form import PairMoments, closed_form_line
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.repair import RepairedLine, output_moments
from rebasin_lt.errors import InputError


def ends(build) -> tuple[nn.Module, nn.Module]:
    return build().double(), build().double()


def images(*sizes: int) -> list[Tensor]:
    return [torch.randn(size, 1, 8, 8, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("build", [lambda: nn.Linear(6, 8), lambda: nn.Conv2d(6, 8, 1)])
def test_closed_form_is_exact_for_a_single_layer(build, alpha: float) -> None:
    first, second = build().double(), build().double()
    batches = [torch.randn(size, 6, dtype=torch.float64) + 2 for size in (40, 13)]
    if isinstance(first, nn.Conv2d):
        batches = [batch[:, :, None, None].expand(-1, -1, 3, 2) for batch in batches]
    states = first.state_dict(), second.state_dict()
    (state,) = closed_form_line(first, states, batches)([alpha])
    (measured,) = RepairedLine(first, states, batches).states([alpha])
    for name, tensor in measured.items():
        assert torch.allclose(state[name], tensor, rtol=1e-9, atol=1e-9), name
    (moments,), at_ends = output_moments([clone(first, state)], batches), output_moments([first, second], batches)
    assert torch.allclose(moments[""].std, torch.lerp(at_ends[0][""].std, at_ends[1][""].std, alpha))


def test_closed_form_is_near_the_measured_correction_of_a_trained_vgg() -> None:
    """Midpoint error within 8 percentage points of measured REPAIR's, raw far above; each layer nearer to its goal."""
    first, second, aligned = pair(norm=False)
    train, test = digits()
    errors = {
        correction: loss_barrier(
            first, aligned, second, test, alphas=3, correction=correction, correction_batches=train
        ).error[1]
        for correction in ("none", "repair", "closed_form")
    }
    assert errors["closed_form"] < errors["repair"] + 0.08 < errors["none"]
    states = aligned, second.state_dict()
    (state,) = closed_form_line(first, states, train)([0.5])
    middle = interpolate(*states, 0.5)
    corrected, raw, *at_ends = output_moments([clone(first, each) for each in (state, middle, *states)], train)
    for name in corrected:
        goal = (at_ends[0][name].std + at_ends[1][name].std) / 2
        assert (corrected[name].std / goal - 1).abs().mean() < 0.8 * (raw[name].std / goal - 1).abs().mean(), name


@pytest.mark.parametrize(("alpha", "end"), [(0.0, 0), (1.0, 1)])
def test_closed_form_changes_nothing_at_the_ends(alpha: float, end: int) -> None:
    nets = ends(lambda: small_vgg(norm=False))
    (state,) = closed_form_line(nets[0], (nets[0].state_dict(), nets[1].state_dict()), images(9, 4))([alpha])
    for name, tensor in nets[end].state_dict().items():
        assert torch.allclose(state[name], tensor, rtol=1e-9, atol=1e-9), name


def test_layer_called_twice_compares_its_calls_one_with_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    first, _ = ends(Twice)
    (state,) = closed_form_line(first, (first.state_dict(), first.state_dict()), [torch.randn(9, 4).double()])([0.5])
    assert torch.allclose(state["layer.weight"], first.layer.weight)  # equal ends: correlation 1, nothing to repair


def test_channel_that_cancels_between_the_ends_stays_finite() -> None:
    first, second = ends(lambda: small_vgg(norm=False))
    second[0].load_state_dict({name: -tensor for name, tensor in first[0].state_dict().items()})
    (state,) = closed_form_line(first, (first.state_dict(), second.state_dict()), images(6))([0.5])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def test_pair_moments_equal_numpys_whatever_the_batches() -> None:
    first, second = torch.randn(50, 3, dtype=torch.float64) + 100, torch.randn(50, 3, dtype=torch.float64) - 7
    second += 0.5 * first
    moments = PairMoments(3)
    for start, stop in ((0, 11), (11, 12), (12, 50)):
        moments.update(first[start:stop], second[start:stop])
    expected = [np.cov(first[:, unit], second[:, unit], bias=True)[0, 1] for unit in range(3)]
    assert np.allclose(moments.covariance, expected)


def test_closed_form_rejects_no_batches() -> None:
    net = small_vgg(norm=False)
    with pytest.raises(InputError, match="batches is empty"):
        closed_form_line(net, (net.state_dict(), net.state_dict()), [])
