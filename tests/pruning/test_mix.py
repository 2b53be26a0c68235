import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.mix import mix_with_magnitude


def given(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {"a": torch.randn(20, 30, generator=generator), "b": 0.3 * torch.randn(9, 40, generator=generator)}
    mask = Mask({name: torch.rand(tensor.shape, generator=generator) < 0.15 for name, tensor in state.items()})
    return state, mask, prune_to_sparsity(state, Mask.ones_like(state), mask.sparsity)


def test_the_ends_are_the_mask_and_the_magnitude_mask():
    state, mask, magnitude = given()
    assert mix_with_magnitude(mask, state, 0) == mask
    assert mix_with_magnitude(mask, state, 1) == magnitude
    tied = {name: torch.ones_like(tensor) for name, tensor in state.items()}
    assert mix_with_magnitude(mask, tied, 1) == prune_to_sparsity(tied, Mask.ones_like(tied), mask.sparsity)


def test_between_them_counts_stay_and_the_overlap_with_the_mask_falls_evenly():
    state, mask, magnitude = given()
    differ = sum(int((mask[name] & ~magnitude[name]).sum()) for name in mask)
    for share in (0.1, 0.25, 0.5, 0.9):
        mixed = mix_with_magnitude(mask, state, share)
        assert mixed.num_kept == mask.num_kept
        assert sum(int((mask[name] & ~mixed[name]).sum()) for name in mask) == round(share * differ)


def bonus_mask(mask, state, bonus, transform):
    """The top set of (being in the mask) · bonus + transform(|w|), by brute force."""
    size = torch.cat([state[name].abs().reshape(-1) for name in mask])
    score = torch.cat([mask[name].reshape(-1) for name in mask]) * bonus + transform(size)
    kept = torch.zeros(len(score), dtype=torch.bool)
    kept[score.argsort(descending=True)[: mask.num_kept]] = True
    return Mask({n: part.reshape(mask[n].shape) for n, part in zip(mask, kept.split([600, 360]), strict=True)})


@pytest.mark.parametrize("transform", [lambda size: size, lambda size: size.argsort().argsort() / len(size)])
def test_any_bonus_on_any_scale_of_the_magnitudes_is_one_of_these_masks(transform):
    state, mask, magnitude = given()
    differ = sum(int((mask[name] & ~magnitude[name]).sum()) for name in mask)
    for bonus in (0.05, 0.2, 0.5, 0.8):
        expected = bonus_mask(mask, state, bonus, transform)
        exchanged = sum(int((mask[name] & ~expected[name]).sum()) for name in mask)
        assert 0 < exchanged < differ
        assert mix_with_magnitude(mask, state, exchanged / differ) == expected


def test_impossible_shares_and_foreign_masks_are_refused():
    state, mask, _ = given()
    with pytest.raises(InputError, match=r"share is 1.5, expected a number from 0 \(the mask\) to 1 \(the magn"):
        mix_with_magnitude(mask, state, 1.5)
    with pytest.raises(InputError, match="mask names c, which the network does not have"):
        mix_with_magnitude(Mask({"c": mask["a"]}), state, 0.5)
