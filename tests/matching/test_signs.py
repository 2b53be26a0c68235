"""Permutations for masks by the signs that they carry."""

from __future__ import annotations

import pytest
import torch
from planting import planted, residual_net, vgg_like

from rebasin_lt.errors import InputError
from rebasin_lt.matching.signs import match_signs, signs_of
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.signs import sign_agreement


@pytest.fixture(scope="module")
def independent():
    """Two networks with nothing in common, their symmetry, and a signed mask of the first."""
    source, _, symmetry = planted(residual_net, 0)
    reference = planted(residual_net, 1)[0]
    mask = prune_to_sparsity(source.state_dict(), Mask.ones_of(source), 0.8)
    return source, reference, symmetry, mask.signed_by(source.state_dict())


def fit(mask, symmetry, permutation, reference) -> float:
    """The sum of sign times weight over what the permuted mask keeps, by hand."""
    moved = symmetry.permute({name: tensor.double() for name, tensor in mask.content.items()}, permutation)
    return sum(float((tensor * reference.state_dict()[name].double()).sum()) for name, tensor in moved.items())


@pytest.mark.parametrize("build", [vgg_like, residual_net])
def test_every_sign_of_a_permuted_ticket_finds_its_weight(build) -> None:
    reference, _, symmetry = planted(build, 3)
    state = reference.state_dict()
    moved = symmetry.permute(state, symmetry.random(torch.Generator().manual_seed(5)))
    mask = prune_to_sparsity(moved, Mask.ones_of(reference), 0.7).signed_by(moved)
    assert sign_agreement(mask, state) < 0.7
    found = match_signs(moved, reference, symmetry, masks={"m": mask}).masked["m"]
    assert sign_agreement(mask.permuted(symmetry, found), state) == 1


def test_signs_fit_better_than_before_and_than_under_the_match_of_the_weights(independent) -> None:
    source, reference, symmetry, mask = independent
    found = match_signs(source, reference, symmetry, masks={"m": mask})
    best = fit(mask, symmetry, found.masked["m"], reference)
    for other in (symmetry.identity(), found.permutation):
        assert best > fit(mask, symmetry, other, reference)


def test_magnitudes_of_the_source_have_no_say_and_its_signs_only_where_the_mask_has_none(independent) -> None:
    source, reference, symmetry, mask = independent
    state = source.state_dict()
    generator = torch.Generator().manual_seed(0)
    resized = {
        name: tensor * torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    turned = {name: -tensor for name, tensor in state.items()}
    found = {
        name: match_signs(given, reference, symmetry, masks={"signed": mask, "unsigned": mask.unsigned}).masked
        for name, given in (("as it is", state), ("resized", resized), ("turned", turned))
    }
    for name in ("as it is", "resized", "turned"):
        assert found[name]["signed"] == found["as it is"]["signed"]
    assert found["resized"]["unsigned"] == found["as it is"]["unsigned"] == found["as it is"]["signed"]
    assert found["turned"]["unsigned"] != found["as it is"]["unsigned"]


def test_the_network_itself_is_matched_by_its_weights(independent) -> None:
    source, reference, symmetry, mask = independent
    found = match_signs(source, reference, symmetry, masks={"m": mask}, seed=3)
    plain = match_weights(source, reference, symmetry, method="frank_wolfe", seed=3)
    assert found.permutation == plain.permutation
    assert found.objective == plain.objective
    assert match_signs(source, reference, symmetry).masked == {}


def test_signs_of_a_mask_are_a_state_of_signs() -> None:
    state = {"w": torch.tensor([[2.0, -3.0], [0.0, 4.0]]), "b": torch.ones(2), "steps": torch.tensor(5)}
    mask = Mask({"w": torch.tensor([[True, True], [True, False]])})
    signs = signs_of(mask, state)
    assert signs["w"].tolist() == [[1, -1], [1, 0]]
    assert signs["b"].tolist() == [0, 0]
    assert {name: tensor.dtype for name, tensor in signs.items()} == {n: tensor.dtype for n, tensor in state.items()}
    turned = Mask({"w": torch.tensor([[-1, 1], [0, 0]], dtype=torch.int8)})
    assert signs_of(turned, state)["w"].tolist() == [[-1, 1], [0, 0]]


def test_a_mask_of_another_network_is_refused(independent) -> None:
    source, reference, symmetry, _ = independent
    for dtype in (torch.bool, torch.int8):
        mask = Mask({"elsewhere": torch.ones(2, 2, dtype=dtype)})
        with pytest.raises(InputError, match="mask names elsewhere, which the network does not have"):
            match_signs(source, reference, symmetry, masks={"m": mask})
