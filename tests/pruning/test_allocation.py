"""Exact totals; densities against a search by bisection; ResNet50's by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.allocation import erk_counts, random_counts, random_erk, random_uniform, uniform_counts
from rebasin_lt.pruning.mask import Mask, prunable_names

SHAPES = {"conv1": (16, 3, 3, 3), "conv2": (32, 16, 3, 3), "deep": (64, 32, 1, 1), "linear": (10, 64)}


def dense(shapes):
    return Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})


def by_bisection(shapes, proportions, num_kept):
    """min(1, ε p) with ε found by halving an interval: no set of dense layers is ever reasoned about."""
    low, high = 0.0, 1 / min(proportions.values())
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    for _ in range(200):
        middle = (low + high) / 2
        total = sum(min(1, middle * proportions[name]) * sizes[name] for name in shapes)
        low, high = (middle, high) if total < num_kept else (low, middle)
    return {name: min(1, high * proportions[name]) * sizes[name] for name in shapes}


SIDES = st.integers(1, 12)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, SIDES, SIDES)), min_size=1, max_size=6),
    st.floats(0, 0.999),
)
def test_counts_are_exact_in_total_and_within_one_of_the_densities(shapes, sparsity):
    shapes = {f"w{index}": shape for index, shape in enumerate(shapes)}
    mask = dense(shapes)
    num_kept = mask.num_weights - round(sparsity * mask.num_weights)
    erk = {name: sum(shape) / torch.Size(shape).numel() for name, shape in shapes.items()}
    for counts, proportions in ((erk_counts, erk), (uniform_counts, dict.fromkeys(shapes, 1.0))):
        found = counts(mask, num_kept)
        exact = by_bisection(shapes, proportions, num_kept)
        assert sum(found.values()) == num_kept
        assert all(abs(found[name] - exact[name]) < 1 + 1e-5 for name in shapes)
        assert all(0 <= found[name] <= mask[name].numel() for name in shapes)


@pytest.mark.parametrize("random", [random_uniform, random_erk])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.983])
def test_random_masks_have_the_sparsity_to_one_weight_and_follow_their_generator(random, sparsity):
    mask = dense(SHAPES)
    drawn = random(mask, sparsity, torch.Generator().manual_seed(1))
    assert drawn.num_weights - drawn.num_kept == round(sparsity * mask.num_weights)
    assert {name: tensor.shape for name, tensor in drawn.items()} == {name: mask[name].shape for name in SHAPES}
    assert drawn == random(mask, sparsity, torch.Generator().manual_seed(1))
    assert (drawn == random(mask, sparsity, torch.Generator().manual_seed(2))) == (sparsity == 0)
    assert mask == dense(SHAPES)


def test_what_is_kept_is_drawn_evenly():
    hits = sum(random_uniform(dense({"a": (3, 4)}), 0.75)["a"].float() for _ in range(4000))
    assert hits.sum() == 4000 * 3
    assert (hits / 4000 - 0.25).abs().max() < 0.03


def test_uniform_gives_every_layer_the_same_sparsity_and_erk_small_layers_more():
    uniform, erk = (random(dense(SHAPES), 0.9) for random in (random_uniform, random_erk))
    assert all(abs(row["kept"] - 0.1 * row["weights"]) < 1 for row in uniform.report())
    density = {row["name"]: 1 - row["sparsity"] for row in erk.report()}
    proportion = {name: sum(shape) / torch.Size(shape).numel() for name, shape in SHAPES.items()}
    assert sorted(density, key=density.get) == sorted(proportion, key=proportion.get)
    assert density["conv2"] / density["deep"] == pytest.approx(proportion["conv2"] / proportion["deep"], rel=0.02)


def test_erk_leaves_layers_dense_that_would_have_more_than_all():
    counts = erk_counts(dense({"tiny": (2, 2), "large": (100, 100)}), 300)
    assert counts == {"tiny": 4, "large": 296}


def test_remainders_go_to_the_largest_and_among_equals_to_the_earlier_name():
    assert uniform_counts(dense({"a": (3,), "b": (3,), "c": (4,)}), 4) == {"a": 1, "b": 1, "c": 2}
    assert uniform_counts(dense({"a": (2,), "b": (2,), "c": (2,)}), 4) == {"a": 2, "b": 1, "c": 1}


def test_erk_of_resnet50_by_hand():
    """ε from the formula with the layers that it makes dense at 0.9 written out, in exact numbers of weights."""
    with torch.device("meta"):
        network = build_network("resnet50", num_classes=1000)
    weights = {name: network.get_parameter(name) for name in prunable_names(network, exclude=())}
    counts = erk_counts(weights, 2_550_291)
    assert sum(weight.numel() for weight in weights.values()) == 25_502_912
    assert sum(counts.values()) == 2_550_291
    whole = [name for name, count in counts.items() if count == weights[name].numel()]
    rest = {name: sum(weight.shape) for name, weight in weights.items() if name not in whole}
    scale = (2_550_291 - sum(counts[name] for name in whole)) / sum(rest.values())
    assert whole
    assert all(abs(counts[name] - scale * size) < 1 for name, size in rest.items())
    assert all(scale * sum(weights[name].shape) >= weights[name].numel() for name in whole)


def test_impossible_amounts_are_refused():
    with pytest.raises(InputError, match="sparsity is 1, expected at least 0 and below 1"):
        random_erk(dense(SHAPES), 1)
    with pytest.raises(InputError, match="counts has 5 for a tensor of 4 weights, expected 0 to that"):
        random_counts(dense({"a": (2, 2)}), {"a": 5})
