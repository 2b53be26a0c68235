"""Images that were not normalised are noticed, and units that are observed nowhere; all else passes in silence."""

from __future__ import annotations

import copy

import pytest
import torch
from planting import images, planted, randomised, vgg_like
from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.inputs import warn_if_unnormalised
from rebasin_lt.symmetry.trace import trace_symmetry


@pytest.mark.parametrize(
    ("pixels", "values"),
    [
        (torch.linspace(0, 255, 48).round().reshape(1, 3, 4, 4), "from 0 to 255 .mean 128, standard deviation 76"),
        (torch.linspace(0, 1, 16).reshape(1, 1, 4, 4), "from 0 to 1 .mean 0.5, standard deviation 0.31"),
        (torch.arange(48, dtype=torch.float64).reshape(1, 3, 4, 4), "from 0 to 47 "),
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
        torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4),  # for a network that takes bytes
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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_integers_are_refused_by_a_network_that_was_traced_on_floats(dtype: torch.dtype) -> None:
    source, reference, symmetry = planted(vgg_like, 0)
    batches = [torch.randint(0, 256, (20, 3, 4, 4)).to(dtype)]
    with pytest.raises(
        InputError, match=rf"^inputs are {dtype}, but the network was traced on torch\.float64: [^\n]*$"
    ):
        match_activations(source, reference, batches, symmetry)


class Bytes(nn.Module):
    """Takes pixels as they are stored."""

    def __init__(self) -> None:
        super().__init__()
        self.net = vgg_like()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(pixels.double() / 128 - 1)


def test_integers_serve_a_network_that_was_traced_on_them_and_floats_do_not() -> None:
    pixels = torch.randint(0, 256, (40, 3, 4, 4)).to(torch.uint8)
    source = randomised(Bytes, 0)
    symmetry = trace_symmetry(source, pixels[:2])
    reference = copy.deepcopy(source)
    planted_one = symmetry.random(torch.Generator().manual_seed(0))
    reference.load_state_dict(symmetry.permute(source.state_dict(), planted_one))
    found = match_activations(source, reference, [pixels], symmetry)
    assert all(torch.equal(found.permutation[g][live], planted_one[g][live]) for g, live in found.live.items())
    with pytest.raises(InputError, match=r"inputs are torch\.float64, but the network was traced on torch\.uint8"):
        match_activations(source, reference, images(20), symmetry)


def test_units_within_a_branch_are_matched_by_their_weights_and_a_warning_says_so() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down, self.out = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            branches = (lambda h: self.down(self.up(h).relu()), lambda h: self.down(self.up(h).sin()))
            return self.out(torch.cond(x.sum() > 0, *branches, (x,)))

    network, twin = Branching(), Branching()
    symmetry = trace_symmetry(network, torch.zeros(2, 5))
    hidden = symmetry.random(torch.Generator().manual_seed(1))
    twin.load_state_dict(symmetry.permute(network, hidden))
    with pytest.warns(UserWarning, match=r"^units of \S+ are observed nowhere, as those that only a branch of"):
        found = match_activations(network, twin, [torch.randn(64, 5)], symmetry)
    assert found.permutation == hidden
    unseen = {group for group, points in symmetry.observations.items() if not points}
    assert [symmetry.groups[group] for group in unseen] == [6]  # what the branches return is observed
