"""Permutations for masks: found by the weights that a mask keeps, one per mask from the same pass."""

from __future__ import annotations

import pytest
import torch
from planting import images, planted, vgg_like

from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask


@pytest.fixture(scope="module")
def independent():
    """Two networks with nothing in common, their symmetry, and masks of the first."""
    source, _, symmetry = planted(vgg_like, 0)
    reference = planted(vgg_like, 1)[0]
    ones = Mask.ones_like(source.state_dict())
    masks = {f"{s}": prune_to_sparsity(source.state_dict(), ones, s) for s in (0.0, 0.8, 0.95)}
    return source, reference, symmetry, masks


def test_a_mask_that_keeps_everything_is_matched_as_the_network(independent) -> None:
    source, reference, symmetry, masks = independent
    batches = images(64, 64)
    found = match_activations(source, reference, batches, symmetry, masks=masks, mask_weight_mix=0.3)
    joint = match_activations(source, reference, batches, symmetry, weight_mix=0.3)
    assert found.masked["0.0"] == joint.permutation
    assert found.permutation != joint.permutation
    assert set(found.masked) == set(masks)


def test_each_mask_has_the_permutation_that_it_has_alone_and_batches_are_read_once(independent) -> None:
    source, reference, symmetry, masks = independent
    batches = images(64, 64)
    together = match_activations(source, reference, iter(batches), symmetry, masks=masks)
    for name, mask in masks.items():
        alone = match_activations(source, reference, batches, symmetry, masks={"m": mask})
        assert alone.masked["m"] == together.masked[name]
        assert alone.permutation == together.permutation
    assert together.masked["0.0"] != together.masked["0.95"]


def test_more_of_what_a_mask_keeps_fits_the_reference(independent) -> None:
    source, reference, symmetry, masks = independent
    found = match_activations(source, reference, images(64, 64), symmetry, masks=masks)
    for name in ("0.8", "0.95"):
        kept = masks[name].applied_to(source.state_dict())

        def fit(permutation, kept=kept):
            moved = symmetry.permute({n: kept[n] for n in symmetry.axes}, permutation)
            return sum(float((tensor * reference.state_dict()[n]).sum()) for n, tensor in moved.items())

        assert fit(found.masked[name]) > fit(found.permutation)


def test_without_weights_and_under_the_preset_masks_move_as_the_network(independent) -> None:
    source, reference, symmetry, masks = independent
    for settings in ({"mask_weight_mix": 0.0}, {"preset": "paper"}):
        found = match_activations(source, reference, images(64, 64), symmetry, masks=masks, **settings)
        assert all(permutation == found.permutation for permutation in found.masked.values())


@pytest.mark.parametrize("method", ["coordinate_descent", "frank_wolfe"])
def test_weight_matching_for_a_mask_is_that_of_the_kept_weights(independent, method) -> None:
    source, reference, symmetry, masks = independent
    found = match_weights(source, reference, symmetry, method=method, masks=masks)
    for name, mask in masks.items():
        kept = mask.applied_to(source.state_dict())
        assert found.masked[name] == match_weights(kept, reference, symmetry, method=method).permutation


def test_a_planted_permutation_is_recovered_under_a_mask() -> None:
    source, reference, symmetry = planted(vgg_like, 3)
    mask = prune_to_sparsity(source.state_dict(), Mask.ones_like(source.state_dict()), 0.9)
    found = match_activations(source, reference, images(64, 64), symmetry, masks={"m": mask})
    for group, index in found.masked["m"].items():
        live = found.live[group]
        assert torch.equal(index[live], found.permutation[group][live])


def test_a_mask_of_another_network_is_refused(independent) -> None:
    source, reference, symmetry, _ = independent
    mask = Mask({"elsewhere": torch.ones(2, 2, dtype=torch.bool)})
    for match in (
        lambda: match_activations(source, reference, images(64, 64), symmetry, masks={"m": mask}),
        lambda: match_weights(source, reference, symmetry, masks={"m": mask}),
    ):
        with pytest.raises(InputError, match="mask names elsewhere, which the network does not have"):
            match()


def test_mask_weight_mix_outside_0_and_1_is_refused(independent) -> None:
    source, reference, symmetry, masks = independent
    with pytest.raises(InputError, match=r"mask_weight_mix is 1.5, expected a number from 0 .activations. to 1"):
        match_activations(source, reference, images(64, 64), symmetry, masks=masks, mask_weight_mix=1.5)


def test_applying_a_mask_makes_a_new_state() -> None:
    state = {"w": torch.arange(1.0, 5).view(2, 2), "b": torch.ones(2)}
    mask = Mask({"w": torch.tensor([[True, False], [False, True]])})
    applied = mask.applied_to(state)
    assert applied["w"].tolist() == [[1, 0], [0, 4]]
    assert state["w"].tolist() == [[1, 2], [3, 4]]
    assert applied["b"] is state["b"]
    with pytest.raises(InputError, match="mask names w, which the network does not have"):
        mask.applied_to({"b": state["b"]})
