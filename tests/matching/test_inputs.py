"""Images that were not normalised are noticed; everything else passes in silence."""

from __future__ import annotations

import pytest
import torch
from planting import images, planted, vgg_like

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.inputs import warn_if_unnormalised


@pytest.mark.parametrize(
    ("pixels", "values"),
    [
        (torch.linspace(0, 255, 48).round().reshape(1, 3, 4, 4), "from 0 to 255 .mean 128, standard deviation 76"),
        (torch.linspace(0, 1, 16).reshape(1, 1, 4, 4), "from 0 to 1 .mean 0.5, standard deviation 0.31"),
        (torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4), "from 0 to 47 "),
    ],
)
def test_pixels_are_warned_about_with_both_values(pixels: torch.Tensor, values: str) -> None:
    with pytest.warns(UserWarning, match=f"images run {values}.*normalised ones have mean 0 and standard deviation 1"):
        warn_if_unnormalised(pixels)


@pytest.mark.parametrize(
    "inputs",
    [
        torch.randn(2, 3, 4, 4),
        torch.zeros(2, 3, 4, 4),
        torch.randint(0, 5000, (4, 16)),  # tokens
        torch.rand(8, 48),  # features
        torch.rand(2, 16, 4, 4),  # activations of another network
        torch.empty(0, 3, 4, 4),
    ],
)
def test_other_inputs_pass(inputs: torch.Tensor) -> None:
    warn_if_unnormalised(inputs)


def test_matching_looks_at_the_first_batch_and_reads_batches_once() -> None:
    source, reference, symmetry = planted(vgg_like, 0)
    batches = [batch.abs() for batch in images(20, 20)]
    told: list[tuple[int, int]] = []
    for given in (batches, iter(batches)):
        with pytest.warns(UserWarning, match="images run from 0") as caught:
            match_activations(
                source, reference, given, symmetry, progress=lambda done, total: told.append((done, total))
            )
        assert len(caught) == 1
    assert told == [(1, 2), (2, 2), (1, 0), (2, 0)]
