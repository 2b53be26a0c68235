"""Units are observed as they are: permuted weights show permuted units, whatever the other groups do."""

from __future__ import annotations

import gc
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping

import networks as nets
import pytest
import torch
from networks import NETWORKS, inputs, traced
from torch import Tensor, nn

from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

Units = dict[tuple[str, int], list[Tensor]]
by_network = pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)


def observed(symmetry: Symmetry, states: list[Mapping[str, Tensor]], *batch: Tensor) -> Units:
    found: Units = {}

    def visit(group: str, k: int, units: list[Tensor]) -> None:
        assert (group, k) not in found
        found[group, k] = [tensor.reshape(-1, tensor.shape[-1]).clone() for tensor in units]

    symmetry.observe(states, batch, visit)
    return found


@by_network
def test_every_group_is_observed_in_order(build: Callable[[], nn.Module]) -> None:
    network, symmetry = traced(build)
    found = observed(symmetry, [network.state_dict()], inputs(build))
    assert symmetry.observations.keys() == symmetry.groups.keys()
    points = defaultdict(list)
    for group, k in found:
        points[group].append(k)
    assert dict(points) == {group: list(range(len(seen))) for group, seen in symmetry.observations.items()}
    assert all(points[group] for group in symmetry.groups)
    for (group, _), (units,) in found.items():
        assert units.shape[1] == symmetry.num_units(group)
        assert torch.isfinite(units).all()


@by_network
def test_permuted_weights_show_permuted_units(build: Callable[[], nn.Module]) -> None:
    network, symmetry = traced(build)
    state = network.state_dict()
    for group in symmetry.groups:  # by itself: samples stay in their order then
        index = symmetry.random(torch.Generator().manual_seed(3))[group]
        alone = Permutation({**symmetry.identity(), group: index}, symmetry.within)
        found = observed(symmetry, [state, symmetry.permute(state, alone)], inputs(build))
        for (seen, k), (units, moved) in found.items():
            if seen == group:
                index = symmetry.joint(alone, group)
                torch.testing.assert_close(moved, units[:, index], rtol=1e-12, atol=1e-14, msg=f"{group} {k}")


@by_network
def test_units_do_not_depend_on_the_permutations_of_other_groups(build: Callable[[], nn.Module]) -> None:
    """Each sample stays where it is, so that statistics over two networks' samples can be taken group by group."""
    network, symmetry = traced(build)
    state = network.state_dict()
    permutation = symmetry.random(torch.Generator().manual_seed(3))
    found = observed(symmetry, [state, symmetry.permute(state, permutation)], inputs(build))
    for (group, k), (units, moved) in found.items():
        index = symmetry.joint(permutation, group)
        torch.testing.assert_close(moved, units[:, index], rtol=1e-12, atol=1e-14, msg=f"{group} {k}")


def test_relu_is_observed_rather_than_what_it_was_given_or_how_it_is_read() -> None:
    network, symmetry = traced(nets.flattened)
    x = inputs(nets.flattened)
    (units,) = observed(symmetry, [network.state_dict()], x)["a.weight", 0]
    torch.testing.assert_close(units, network.a(x).relu().movedim(1, -1).reshape(-1, 6))


def test_heads_show_as_root_mean_square_over_their_channels_and_these_one_head_after_another() -> None:
    network, symmetry = traced(nets.grouped)
    x = inputs(nets.grouped)
    found = observed(symmetry, [network.state_dict()], x)
    h = network.a(x).relu().unflatten(1, (2, 3))
    torch.testing.assert_close(found["a.weight", 0][0], h.square().mean(2).sqrt().movedim(1, -1).reshape(-1, 2))
    torch.testing.assert_close(found["a.weight[1]", 0][0], h.flatten(1, 2).movedim(1, -1).reshape(-1, 6))


def test_stream_is_observed_wherever_it_is_read() -> None:
    network, symmetry = traced(nets.recurrent)
    x = inputs(nets.recurrent)
    found = observed(symmetry, [network.state_dict()], x)
    h = network.a(x).tanh()
    for k in range(3):
        torch.testing.assert_close(found["a.weight", k][0], h)
        h = network.again(h).tanh()


def test_channel_of_a_view_is_observed_after_its_activation() -> None:
    """A weight that reads one dimension of a view reads the activation, not what the layer before it wrote."""
    network = nets.Net(
        lambda net, x: net.c(net.a(x).relu().view(len(x), 2, 3)).flatten(1), a=nn.Linear(5, 6), c=nn.Linear(3, 4)
    ).double()
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    x = torch.randn(4, 5, dtype=torch.float64)
    (group,) = symmetry.groups
    (units,) = observed(symmetry, [network.state_dict()], x)[group, 0]
    torch.testing.assert_close(units, network.a(x).relu().view(4, 2, 3).reshape(-1, 3))


def test_inputs_and_states_are_not_modified_by_a_network_that_works_in_place() -> None:
    network, symmetry = traced(nets.in_place)
    x, state = inputs(nets.in_place), network.state_dict()
    before, weights = x.clone(), {name: tensor.clone() for name, tensor in state.items()}
    first = observed(symmetry, [state, state], x)
    assert torch.equal(x, before)
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())
    for one, other in first.values():  # neither saw what the other did in place
        assert torch.equal(one, other)
    expected = network.a(x.clone().relu_()).relu() * 2
    torch.testing.assert_close(first["a.weight", 0][0], expected.movedim(1, -1).reshape(-1, 6))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_size_will_do(batch: int) -> None:
    network, symmetry = traced(nets.packed_attention)
    x = inputs(nets.packed_attention, batch)
    whole = observed(symmetry, [network.state_dict()], x)
    single = [observed(symmetry, [network.state_dict()], image[None]) for image in x]
    for point, (units,) in whole.items():
        torch.testing.assert_close(units, torch.cat([found[point][0] for found in single]))


def test_observing_records_no_gradients_and_keeps_the_mode() -> None:
    network = nets.flattened().train()
    symmetry = trace_symmetry(network, torch.randn(2, 2, 4, 4))
    seen: list[bool] = []
    state = dict(network.named_parameters())
    symmetry.observe([state], (torch.randn(2, 2, 4, 4),), lambda *call: seen.append(call[2][0].requires_grad))
    assert seen == [False]
    assert network.training


def test_activations_are_let_go_as_soon_as_nothing_needs_them() -> None:
    """At no time more than a few layers' activations are held."""
    depth = 12
    layers = [layer for _ in range(depth) for layer in (nn.Linear(6, 6), nn.Tanh())]
    network = nn.Sequential(*layers, nn.Linear(6, 3))
    symmetry = trace_symmetry(network, torch.randn(2, 6))
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def visit(group: str, k: int, units: list[Tensor]) -> None:
        nonlocal most
        alive.update(tensor if tensor._base is None else tensor._base for tensor in units)
        most = max(most, len(alive))

    gc.collect()
    symmetry.observe([network.state_dict()], (torch.randn(3, 6),), visit)
    assert len(symmetry.groups) == depth
    assert most <= 3


@pytest.mark.parametrize("last", [3, 7])
def test_slices_of_all_there_is_are_no_steps_of_their_own(last: int) -> None:
    """Of a length that is a number they are left out when a network is exported, of any length they are not."""
    network = nets.Net(
        lambda net, x: net.b(net.a(x)[:, :].relu()[:, 1:]), a=nn.Linear(5, 6), b=nn.Linear(6, 2)
    ).double()
    symmetry, x = trace_symmetry(network, torch.randn(2, 4, 5)), torch.randn(3, last, 5, dtype=torch.float64)
    (units,) = observed(symmetry, [network.state_dict()], x)["a.weight", 0]
    torch.testing.assert_close(units, network.a(x).relu().reshape(-1, 6))


@pytest.mark.parametrize("length", [4, 3, 9])
def test_a_length_that_was_a_number_where_it_was_traced_is_that_of_the_inputs(length: int) -> None:
    """The program that was traced would run at any length, and divide by 4."""
    network = nets.Net(
        lambda net, x: net.b(net.a(x.sum(1) / x.shape[1]).relu()), a=nn.Linear(5, 6), b=nn.Linear(6, 2)
    ).double()
    symmetry, x = trace_symmetry(network, torch.randn(2, 4, 5)), torch.randn(3, length, 5, dtype=torch.float64)
    (units,) = observed(symmetry, [network.state_dict()], x)["a.weight", 0]
    torch.testing.assert_close(units, network.a(x.mean(1)).relu())
