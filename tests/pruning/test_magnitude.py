import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.magnitude import magnitude_prune, one_shot_like, prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.waypoints import waypoints


def state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(13, 7, generator=generator),
        "a.bias": torch.zeros(13),
        "b.weight": torch.randn(5, 13, 3, 3, generator=generator),
    }


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.973, 1.0])
def test_prune_equals_torch_global_unstructured(fraction):
    weights = state()
    linear, conv = nn.Linear(7, 13), nn.Conv2d(13, 5, 3)
    linear.weight.data, conv.weight.data = weights["a.weight"].clone(), weights["b.weight"].clone()
    pairs = [(linear, "weight"), (conv, "weight")]
    torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=fraction)
    mask = magnitude_prune(weights, Mask.ones_like(weights), fraction)
    assert torch.equal(mask["a.weight"], linear.weight_mask.bool())
    assert torch.equal(mask["b.weight"], conv.weight_mask.bool())


def test_rounds_prune_only_what_is_left_and_leave_the_inputs_alone():
    weights = state()
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    first = magnitude_prune(weights, Mask.ones_like(weights), 0.5)
    kept = {name: tensor.clone() for name, tensor in first.items()}
    second = magnitude_prune(weights, first, 0.5)
    assert second.num_kept == first.num_kept - round(0.5 * first.num_kept)
    assert all(bool((~first[name] & second[name]).any()) is False for name in first)
    assert all(torch.equal(weights[name], copies[name]) for name in weights)
    assert all(torch.equal(first[name], kept[name]) for name in first)


def test_kept_weights_are_larger_than_pruned_ones():
    weights = state()
    mask = magnitude_prune(weights, Mask.ones_like(weights), 0.7)
    kept = torch.cat([weights[name].abs()[mask[name]] for name in mask])
    pruned = torch.cat([weights[name].abs()[~mask[name]] for name in mask])
    assert kept.min() > pruned.max()


def test_ties_go_in_the_order_of_names_and_indices():
    weights = {"a": torch.ones(2, 3), "b": -torch.ones(2, 2)}
    mask = magnitude_prune(weights, Mask.ones_like(weights), 0.4)
    assert mask["a"].tolist() == [[False, False, False], [False, True, True]]
    assert bool(mask["b"].all())


def test_memory_layout_does_not_change_the_mask():
    weights = state()
    transposed = {name: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for name, t in weights.items()}
    plain, other = (magnitude_prune(w, Mask.ones_like(w), 0.3) for w in (weights, transposed))
    assert plain == other


@given(st.lists(st.floats(0.01, 0.995), min_size=1, max_size=4, unique=True), st.floats(0.05, 0.6))
def test_every_target_is_hit_exactly_by_the_chain(targets, fraction):
    targets = sorted(targets)
    weights = state()
    mask = Mask.ones_like(weights)
    reached = []
    for sparsity in waypoints(targets, fraction):
        before = mask.sparsity
        mask = prune_to_sparsity(weights, mask, sparsity)
        assert abs(mask.sparsity * mask.num_weights - sparsity * mask.num_weights) <= 0.5 + 1e-6
        assert (1 - mask.sparsity) >= (1 - before) * (1 - fraction) - 1 / mask.num_weights
        reached.append(sparsity)
    assert set(targets) <= set(reached)
    assert reached == sorted(reached)


def test_pruning_rejects_wrong_amounts_and_diverged_weights():
    weights = state()
    mask = Mask.ones_like(weights)
    with pytest.raises(InputError, match="pruning fraction is 1.2, expected a number from 0 to 1"):
        magnitude_prune(weights, mask, 1.2)
    with pytest.raises(InputError, match="sparsity is 1, expected at least 0 and below 1"):
        prune_to_sparsity(weights, mask, 1)
    half = prune_to_sparsity(weights, mask, 0.5)
    with pytest.raises(InputError, match="sparsity is 0.2, but the mask is at 0.5"):
        prune_to_sparsity(weights, half, 0.2)
    weights["a.weight"][0, 0] = float("nan")
    with pytest.raises(InputError, match="hold NaN or infinity: the training that made them diverged"):
        magnitude_prune(weights, mask, 0.5)


def test_one_shot_like_keeps_as_many_of_the_largest_weights_as_the_mask() -> None:
    state = {"a": torch.tensor([9.0, -8.0, 1.0, 2.0]), "b": torch.tensor([7.0, 3.0]), "c": torch.tensor([99.0])}
    mask = Mask({"a": torch.tensor([False, True, True, False]), "b": torch.tensor([True, False])})
    found = one_shot_like(state, mask)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "a": [True, True, False, False],
        "b": [True, False],
    }
