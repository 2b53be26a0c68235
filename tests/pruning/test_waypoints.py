from __future__ import annotations

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.waypoints import waypoints


def test_the_papers_chain_takes_nineteen_rounds():
    assert len(waypoints([0.8, 0.9, 0.95, 0.97], 0.2)) == 19
    assert len(waypoints([0.8], 0.2)) == 8


def test_a_target_on_the_chain_takes_no_extra_round():
    assert waypoints([0.2, 0.36, 0.488], 0.2) == [0.2, 0.36, 0.488]


@pytest.mark.parametrize(
    ("targets", "fraction", "message"),
    [
        ([], 0.2, r"imp targets are \[\], expected sparsities between 0 and 1"),
        ([0.5, 0.5], 0.2, r"imp targets are \[0.5, 0.5\], expected increasing sparsities"),
        ([0.9, 0.8], 0.2, r"imp targets are \[0.9, 0.8\], expected increasing sparsities"),
        ([0.0, 0.5], 0.2, r"imp targets are \[0.0, 0.5\], expected sparsities between 0 and 1"),
        ([0.5, 1.0], 0.2, r"expected sparsities between 0 and 1"),
        ([0.5], 0.0, r"imp fraction is 0.0, expected a number between 0 and 1"),
        ([0.5], 1e-17, r"imp fraction is 1e-17, expected a number between 0 and 1, at least 0.0001"),  # never there
        ([0.5], 1.0, r"imp fraction is 1.0, expected a number between 0 and 1"),
    ],
)
def test_waypoints_reject_impossible_chains(targets, fraction, message):
    with pytest.raises(InputError, match=message):
        waypoints(targets, fraction)


def test_a_chain_goes_on_from_where_a_mask_is():
    assert waypoints([0.36, 0.488], 0.2, start=0.2) == [0.36, 0.488]
    with pytest.raises(InputError, match=r"imp targets are \[0.2, 0.5\], but the mask to start from is at 0.2000"):
        waypoints([0.2, 0.5], 0.2, start=0.2)
