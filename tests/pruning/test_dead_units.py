from itertools import pairwise

import pytest
import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.dead_units import find_dead_units
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.symmetry.trace import trace_symmetry


def chain(*widths, activation=nn.Tanh):
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def masked(network, keep, seed):
    generator = torch.Generator().manual_seed(seed)
    names = prunable_names(network)
    state = network.state_dict()
    mask = Mask({name: torch.rand(state[name].shape, generator=generator) < keep for name in names})
    mask.apply_(network)
    return mask


def dead_of(network, mask, example):
    return find_dead_units(network, trace_symmetry(network, example), mask)


def test_hand_made_chain_dies_through_others():
    network = chain(2, 3, 3, 1)
    mask = Mask({
        "0.weight": torch.tensor([[1, 0], [0, 0], [1, 1]]).bool(),  # unit 1 has no input
        "2.weight": torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]]).bool(),  # so unit 1 of the next dies through it
        "4.weight": torch.tensor([[0, 1, 1]]).bool(),  # nothing reads unit 0, nor, through it, unit 0 of the first
    })
    found = dead_of(network, mask, torch.randn(2, 2))
    first, second = "0.weight", "2.weight"
    assert found.no_incoming[first].tolist() == [False, True, False]
    assert found.no_incoming[second].tolist() == [False, False, False]
    assert found.unreached[second].tolist() == [False, True, False]
    assert found.no_outgoing[second].tolist() == [True, False, False]
    assert found.unread[first].tolist() == [True, False, False]
    assert found.dead[first].tolist() == [True, True, False] == found.dead[second].tolist()
    assert {name: int(kept.sum()) for name, kept in found.effective.items()} == {
        "0.weight": 2, "2.weight": 1, "4.weight": 1,
    }  # fmt: skip
    assert [row["through_others"] for row in found.report()] == [1, 1]
    assert [row["dead"] for row in found.report()] == [2, 2]


@pytest.mark.parametrize("seed", range(6))
def test_chain_agrees_with_perturbed_inputs_and_gradients(seed):
    """Oracle: random weights, so that a path that exists shows in a value or a gradient."""
    network = chain(5, 9, 8, 7, 3).double()
    mask = masked(network, 0.17, seed)
    found = dead_of(network, mask, torch.randn(2, 5).double())
    values = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, __, output, name=name: values.update({name: output}))
    inputs = torch.randn(16, 5, dtype=torch.float64)
    outputs = network(inputs)
    for group in found.dead:
        before = values[group.removesuffix(".weight")]  # the linear layer's own output, of shape (16, units)
        constant = (before - before[:1]).abs().amax(0) == 0
        assert torch.equal(found.unreached[group], constant)
        gradient = torch.autograd.grad(outputs.sin().sum(), before, retain_graph=True)[0]
        assert torch.equal(found.unread[group], gradient.abs().amax(0) == 0)


@pytest.mark.parametrize(
    ("arch", "shape", "keep"),
    [("resnet20", (3, 16, 16), 0.02), ("vgg11_bn", (3, 32, 32), 0.008), ("mlp", (1, 8, 8), 0.05)],
)
def test_removing_the_weights_of_dead_units_changes_no_output(arch, shape, keep):
    """Without biases an unreached unit is zero, so that nothing at all may change."""
    network = build_network(arch, width=0.5, input_shape=shape).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    mask = masked(network, keep, seed=1)
    found = dead_of(network, mask, torch.randn(2, *shape))
    images = torch.randn(4, *shape)
    before = network(images)
    assert found.effective.num_kept < mask.num_kept
    found.effective.apply_(network)
    assert torch.equal(network(images), before)
    assert before.std() > 0  # some path is left: else this test shows nothing


def test_a_residual_cycle_does_not_keep_itself_alive():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.up, self.down, self.head = (
                nn.Linear(3, 4),
                nn.Linear(4, 5),
                nn.Linear(5, 4),
                nn.Linear(4, 2),
            )

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + self.down(self.up(x).relu()))

    network = Block()
    names = ["stem.weight", "up.weight", "down.weight", "head.weight"]
    mask = Mask({name: torch.zeros_like(network.get_parameter(name), dtype=torch.bool) for name in names})
    for name, position in (
        ("up.weight", (2, 1)),
        ("down.weight", (1, 2)),
        ("stem.weight", (0, 0)),
        ("head.weight", (0, 0)),
    ):
        mask[name][position] = True
    found = dead_of(network, mask, torch.randn(2, 3))
    assert found.unreached["stem.weight"].tolist() == [False, True, True, True]
    assert found.unread["up.weight"].all()
    assert {name: int(kept.sum()) for name, kept in found.effective.items()} == {
        "stem.weight": 1, "up.weight": 0, "down.weight": 0, "head.weight": 1,
    }  # fmt: skip


def test_a_dense_network_has_no_dead_unit_and_an_unmasked_layer_is_dense():
    network = chain(4, 6, 5, 2)
    everything = Mask.ones_like(network.state_dict())
    assert not any(dead.any() for dead in dead_of(network, everything, torch.randn(2, 4)).dead.values())
    first = Mask({"0.weight": torch.zeros(6, 4, dtype=torch.bool)})
    found = dead_of(network, first, torch.randn(2, 4))
    assert found.unreached["0.weight"].all()
    assert found.unreached["2.weight"].all()
    assert not found.unread["2.weight"].any()


def test_flattened_maps_are_alive_while_one_pixel_is_read():
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2))
    kept = torch.zeros(2, 48, dtype=torch.bool)
    kept[0, 16 + 5] = True
    mask = Mask({"0.weight": torch.ones(3, 1, 3, 3, dtype=torch.bool), "3.weight": kept})
    found = dead_of(network, mask, torch.randn(2, 1, 4, 4))
    assert found.unread["0.weight"].tolist() == [True, False, True]
    assert int(found.effective["0.weight"].sum()) == 9


class Mixed(nn.Module):
    """Queries and keys that no weight reads, and a norm that mixes units."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Linear(4, 6), nn.LayerNorm(6)
        self.query, self.key, self.value, self.head = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(6, 7), nn.Linear(7, 2)

    def forward(self, x):
        x = self.norm(self.stem(x))
        attention = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        return self.head(attention @ self.value(x))


def test_groups_that_no_weight_can_judge_are_held_alive():
    network = Mixed()
    names = ["stem.weight", "query.weight", "key.weight", "value.weight", "head.weight"]
    mask = Mask({name: torch.ones_like(network.get_parameter(name), dtype=torch.bool) for name in names})
    mask["stem.weight"][2], mask["value.weight"][3] = False, False
    mask["query.weight"][1], mask["key.weight"][1] = False, False
    found = dead_of(network, mask, torch.randn(2, 3, 4))
    assert not found.dead["stem.weight"].any()  # LayerNorm gives unit 2 a value that depends on the others
    assert found.dead["value.weight"].tolist() == [unit == 3 for unit in range(7)]
    assert found.unreached["query.weight"].tolist() == [unit == 1 for unit in range(5)]
    assert not found.unread["query.weight"].any()


def test_a_depthwise_convolution_passes_its_units_on():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    mask = Mask.ones_like(network.state_dict())
    mask["0.weight"][1] = False
    found = dead_of(network, mask, torch.randn(2, 3, 5, 5))
    assert found.dead["0.weight"].tolist() == [False, True, False, False]
    assert int(found.effective["1.weight"].sum()) == 27


def test_a_mask_of_another_network_is_refused():
    network = chain(4, 6, 2)
    with pytest.raises(InputError, match="mask names other.weight, which the network does not have"):
        find_dead_units(
            network, trace_symmetry(network, torch.randn(2, 4)), Mask({"other.weight": torch.ones(2, 2) > 0})
        )
