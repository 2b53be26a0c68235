import math

import pytest
import torch
from scipy.stats import chisquare

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.dynamic import exchange_fraction, exchange_weights, random_layers, random_scores
from rebasin_lt.pruning.mask import Mask


def sparse_state(keep=0.3):
    shapes = {"a": (8, 5), "b": (4, 3, 3, 3)}
    mask = Mask({name: torch.rand(shape) < keep for name, shape in shapes.items()})
    state = {name: torch.randn(shape) * mask[name] for name, shape in shapes.items()}
    return state, mask, {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3, 0.77, 1.0])
def test_every_count_stays_exactly(fraction):
    state, mask, growth = sparse_state()
    new = exchange_weights(state, mask, fraction, growth)
    for name in mask:
        assert int(new[name].sum()) == int(mask[name].sum())
        assert int((mask[name] & ~new[name]).sum()) <= math.floor(fraction * int(mask[name].sum()) + 1e-9)
    assert (new == mask) == (fraction == 0)


def test_equals_the_algorithm_written_out():
    """Oracle: Algorithm 1 over sorted Python lists."""
    state, mask, growth = sparse_state()
    new = exchange_weights(state, mask, 0.3, growth)
    for name in mask:
        weight, score = state[name].flatten().tolist(), growth[name].flatten().tolist()
        active = {index for index, kept in enumerate(mask[name].flatten().tolist()) if kept}
        count = int(0.3 * len(active) + 1e-9)
        still = active - set(sorted(active, key=lambda index: (abs(weight[index]), index))[:count])
        others = sorted(set(range(len(weight))) - still, key=lambda index: (-abs(score[index]), index))
        assert set(new[name].flatten().nonzero().flatten().tolist()) == still | set(others[:count])


def test_hand_made_exchange_and_ties():
    kept = torch.tensor([[True, True, True, False, False, False]])
    weight = torch.tensor([[0.1, -5.0, 0.1, 0.0, 0.0, 0.0]])
    new = exchange_weights(
        {"w": weight}, Mask({"w": kept}), 1 / 3, {"w": torch.tensor([[0.0, 9.0, 9.0, 1.0, -2.0, 2.0]])}
    )
    assert new["w"].tolist() == [[False, True, True, False, True, False]]
    back = exchange_weights(
        {"w": weight}, Mask({"w": kept}), 1 / 3, {"w": torch.tensor([[3.0, 0.0, 0.0, 1.0, 2.0, 2.0]])}
    )
    assert torch.equal(back["w"], kept)  # dropped and grown again


def test_inputs_are_left_alone():
    state, mask, growth = sparse_state()
    copies = [{name: tensor.clone() for name, tensor in tensors.items()} for tensors in (state, mask, growth)]
    exchange_weights(state, mask, 0.5, growth)
    for tensors, copy in zip((state, mask, growth), copies, strict=True):
        assert all(torch.equal(tensor, copy[name]) for name, tensor in tensors.items())


def test_random_growth_is_uniform_over_what_is_not_kept_after_the_drop():
    kept = torch.tensor([True] * 4 + [False] * 6)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0] + [0.0] * 6)
    grown = torch.zeros(10)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4000):
        grown += exchange_weights({"w": weight}, Mask({"w": kept}), 0.5, random_scores(Mask({"w": kept}), generator))[
            "w"
        ]
    assert grown[2:4].tolist() == [4000, 4000]
    others = torch.cat([grown[:2], grown[4:]])
    assert others.sum() == 8000
    assert chisquare(others.numpy()).pvalue > 1e-3


def test_fraction_falls_by_a_cosine():
    assert exchange_fraction(0, 100, 0.3) == pytest.approx(0.3)
    assert exchange_fraction(50, 100, 0.3) == pytest.approx(0.15)
    assert exchange_fraction(25, 100, 0.4) == pytest.approx(0.2 * (1 + math.sqrt(0.5)))
    assert exchange_fraction(100, 100, 0.3) == exchange_fraction(1000, 100, 0.3) == 0


def test_random_layers_hit_the_sparsity_in_every_tensor():
    dense = Mask({"a": torch.ones(40, 10, dtype=torch.bool), "b": torch.ones(7, 3, dtype=torch.bool)})
    mask = random_layers(dense, 0.9, torch.Generator().manual_seed(1))
    assert [int(tensor.sum()) for tensor in mask.values()] == [40, 2]
    assert mask == random_layers(dense, 0.9, torch.Generator().manual_seed(1))
    assert mask != random_layers(dense, 0.9, torch.Generator().manual_seed(2))
    with pytest.raises(InputError, match="sparsity is 1, expected at least 0 and below 1"):
        random_layers(dense, 1, torch.Generator())


def test_what_cannot_be_is_refused():
    state, mask, growth = sparse_state()
    with pytest.raises(InputError, match="exchange fraction is 1.5, expected a number from 0 to 1"):
        exchange_weights(state, mask, 1.5, growth)
    with pytest.raises(InputError, match="mask names b, which the network does not have"):
        exchange_weights(state, mask, 0.5, {"a": growth["a"]})
    bad = {**growth, "b": growth["b"] / 0}
    with pytest.raises(InputError, match="the growth scores of b hold NaN or infinity"):
        exchange_weights(state, mask, 0.5, bad)
    with pytest.raises(InputError, match="the weights of a hold NaN or infinity"):
        exchange_weights({**state, "a": state["a"] / 0}, mask, 0.5, growth)
