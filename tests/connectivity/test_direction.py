"""What the literature reports, in its direction, on small networks trained on real digits."""

import pytest
from trained import digits, pair

from rebasin_lt.connectivity.barrier import loss_barrier


@pytest.fixture(scope="module")
def errors():
    """Test errors on five points, by correction and alignment."""
    first, second, aligned = pair(norm=True)
    train, test = digits()
    return {
        (correction, name): loss_barrier(
            first, state, second, test, alphas=5, correction=correction, correction_batches=train
        ).error
        for correction in ("none", "bn_reset")
        for name, state in (("before", first), ("after", aligned))
    }


def test_midpoint_of_two_batchnorm_networks_is_near_chance_and_the_reset_brings_it_back(errors) -> None:
    """arXiv 2211.08403 reports 11.7 % to 90.3 % accuracy for a matched ResNet20 of width 4 on CIFAR-10."""
    assert errors["none", "before"][2] > 0.8  # chance is 0.9
    assert errors["none", "after"][2] > errors["bn_reset", "after"][2] + 0.15
    assert errors["none", "before"][2] > errors["bn_reset", "before"][2] + 0.3
    assert errors["bn_reset", "after"][2] < 0.1


@pytest.mark.parametrize("correction", ["none", "bn_reset"])
def test_aligned_line_is_below_the_unaligned_one_at_every_interior_point(errors, correction: str) -> None:
    pairs = zip(errors[correction, "after"], errors[correction, "before"], strict=True)
    assert [after < before for after, before in pairs] == [False, True, True, True, False]
