"""The network with two weights: its symmetry, and the story that its five training runs tell."""

from __future__ import annotations

import numpy as np
import pytest

from rebasin_lt.analyses.two_weights import TEACHER, two_weights


@pytest.fixture(scope="module")
def result():
    return two_weights(size=21)


def test_loss_does_not_change_when_the_weights_are_swapped(result) -> None:
    losses = np.asarray(result["loss"])
    assert np.allclose(losses, losses.T, atol=1e-6)


def test_loss_equals_a_brute_force_sum(result) -> None:
    x = np.linspace(-1, 1, 64)

    def output(first: float, second: float) -> np.ndarray:
        return np.maximum(first * x, 0) + np.maximum(second * x, 0)

    for row, column in ((3, 17), (12, 0), (20, 9)):
        found = output(result["ticks"][column], result["ticks"][row])
        assert result["loss"][row][column] == pytest.approx(((found - output(*TEACHER)) ** 2).mean(), rel=1e-5)


def test_dense_networks_end_in_minima_that_are_each_others_swap(result) -> None:
    assert result["paths"]["A"][-1] == pytest.approx(TEACHER, abs=1e-3)
    assert result["paths"]["B"][-1] == pytest.approx(TEACHER[::-1], abs=1e-3)
    assert max(result["end_loss"]["A"], result["end_loss"]["B"]) < 1e-6


def test_matching_finds_the_swap_and_moves_the_mask(result) -> None:
    assert result["permutation"] == [1, 0]
    assert result["masks"] == {"lth": [True, False], "naive": [True, False], "permuted": [False, True]}


def test_mask_fits_a_fails_from_b_and_fits_again_when_permuted(result) -> None:
    losses = result["end_loss"]
    nothing = result["loss"][8][8]  # both weights 0
    assert (result["ticks"][8], losses["lth"]) == (pytest.approx(0), pytest.approx(losses["permuted"], rel=1e-4))
    assert losses["lth"] < 0.1 * nothing
    assert losses["naive"] > 0.9 * nothing


def test_paths_stay_where_their_mask_leaves_them_and_start_at_the_masked_initialisation(result) -> None:
    for name, mask in result["masks"].items():
        path = np.asarray(result["paths"][name])
        assert (path[:, ~np.asarray(mask)] == 0).all()
        assert path[0] == pytest.approx(np.asarray(result["initial"][name]) * mask)
