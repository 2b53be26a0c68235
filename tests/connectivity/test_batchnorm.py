"""Re-estimated batch norm statistics: torch's cumulative average, weighted by what each batch holds."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.connectivity.batchnorm import reset_batchnorm
from rebasin_lt.errors import InputError


def conv_net() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 5),
        nn.BatchNorm1d(5, affine=False),
    )
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -3, 3)
            nn.init.uniform_(module.running_var, 1, 9)
    return net.eval()


def images(*sizes: int) -> list[Tensor]:
    return [torch.randn(size, 3, 8, 8) * (1 + index) + index for index, size in enumerate(sizes)]


def torch_pass(net: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """What torch itself gives with momentum=None, dropout off."""
    net = copy.deepcopy(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    with torch.no_grad():
        for batch in batches:
            net(batch)
    return net.state_dict()


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(actual[name], tensor, rtol=1e-5, atol=1e-6), name


def test_equal_batches_give_torchs_cumulative_average() -> None:
    net, batches = conv_net(), images(12, 12, 12)
    assert_close(reset_batchnorm(net, batches), torch_pass(net, batches))


def test_batches_count_by_their_images() -> None:
    net, (large, small) = conv_net(), images(30, 6)
    state = reset_batchnorm(net, [large, small])
    outputs = [net[0](batch).movedim(1, -1).flatten(0, -2).detach() for batch in (large, small)]
    means, variances = zip(*((rows.mean(0), rows.var(0)) for rows in outputs), strict=True)
    assert torch.allclose(state["1.running_mean"], (30 * means[0] + 6 * means[1]) / 36, atol=1e-5)
    assert torch.allclose(state["1.running_var"], (30 * variances[0] + 6 * variances[1]) / 36, rtol=1e-5)


def test_order_of_unequal_batches_does_not_matter() -> None:
    net, batches = conv_net(), images(20, 4, 11)
    first, second = reset_batchnorm(net, batches), reset_batchnorm(net, batches[::-1])
    assert_close(first, second)


def test_targets_are_ignored_and_batches_may_be_a_generator() -> None:
    net, batches = conv_net(), images(8, 8)
    pairs = ((batch, torch.zeros(8, dtype=torch.int64)) for batch in batches)
    assert_close(reset_batchnorm(net, pairs), reset_batchnorm(net, batches))


@pytest.mark.parametrize("training", [False, True])
def test_network_is_left_as_it_was(training: bool) -> None:
    net = conv_net().train(training)
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    flags = [(module.training, getattr(module, "momentum", 0)) for module in net.modules()]
    reset_batchnorm(net, images(6, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert flags == [(module.training, getattr(module, "momentum", 0)) for module in net.modules()]
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_state_replaces_the_networks_own_weights() -> None:
    net, other, batches = conv_net(), conv_net(), images(9, 9)
    assert_close(reset_batchnorm(net, batches, other.state_dict()), reset_batchnorm(other, batches))


def test_layer_that_is_not_called_keeps_its_statistics() -> None:
    net = conv_net()
    net.add_module("auxiliary", nn.BatchNorm2d(3))
    net.auxiliary.running_mean.fill_(5.0)
    net.forward = lambda x: [x := module(x) for module in list(net)[:-1]][-1]  # type: ignore[method-assign]
    assert reset_batchnorm(net, images(6))["auxiliary.running_mean"].tolist() == [5.0] * 3


def test_layer_called_twice_averages_over_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + self.norm(x + 4)

    x = torch.randn(10, 2)
    state = reset_batchnorm(Twice(), [x])
    assert torch.allclose(state["norm.running_mean"], x.mean(0) + 2, atol=1e-6)


def test_network_without_batchnorm_comes_back_unchanged_without_a_pass() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.BatchNorm1d(4, track_running_stats=False))
    state = reset_batchnorm(net, [])
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())


def test_reset_rejects_no_batches() -> None:
    with pytest.raises(InputError, match="batches is empty, expected at least one batch"):
        reset_batchnorm(conv_net(), [])


def test_reset_rejects_a_batch_with_one_value_per_channel() -> None:
    with pytest.raises(InputError, match="a single value per batch norm channel: use larger batches"):
        reset_batchnorm(conv_net(), images(4, 1))


def test_reset_rejects_a_state_of_another_network() -> None:
    with pytest.raises(InputError, match="state does not fit the network Sequential: .*size mismatch"):
        reset_batchnorm(conv_net(), images(4), {**conv_net().state_dict(), "0.weight": torch.zeros(1)})


def test_reset_rejects_batches_that_hold_no_tensors() -> None:
    with pytest.raises(InputError, match="batches holds a str, expected input tensors, "):
        reset_batchnorm(conv_net(), ["image"])
