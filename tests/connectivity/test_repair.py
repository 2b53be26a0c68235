"""REPAIR restores the statistics that the ends predict, and touches nothing at the ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.connectivity.batchnorm import clone, reset_batchnorm
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.repair import RepairedLine, output_moments, repair
from rebasin_lt.errors import InputError


class Recurrent(nn.Module):
    """One layer that is called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(self.layer(x).relu()).relu())


class Residual(nn.Module):
    """Two branches without norm, and a module that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.skip = nn.Conv2d(8, 8, 1)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.conv(x).relu() + self.skip(x)
        return self.head(x.relu().mean((2, 3)))


def plain_net() -> nn.Sequential:
    convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(
        *convolutions, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 12), nn.ReLU(), nn.Linear(12, 5)
    )


def ends(build: type[nn.Module] | object) -> tuple[nn.Module, nn.Module]:
    first, second = build(), build()  # type: ignore[operator]
    for net in (first, second):
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3)
    return first.double(), second.double()


def images(*sizes: int) -> list[Tensor]:
    return [torch.randn(size, 3, 8, 8, dtype=torch.float64) + index for index, size in enumerate(sizes)]


@pytest.mark.parametrize("build", [plain_net, Residual])
@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_repair_restores_the_interpolated_statistics(build: object, alpha: float) -> None:
    (first, second), batches = ends(build), images(20, 7)
    repaired = clone(first, repair(first, (first, second), alpha, batches))
    middle = clone(first, interpolate(first.state_dict(), second.state_dict(), alpha))
    (collapsed,) = output_moments([middle], batches)
    at_first, at_second = output_moments([first, second], batches)
    for name, moments in output_moments([repaired], batches)[0].items():
        std = torch.lerp(at_first[name].std, at_second[name].std, alpha)
        mean = torch.lerp(at_first[name].mean, at_second[name].mean, alpha)
        assert torch.allclose(moments.std, std, rtol=1e-3), name
        assert torch.allclose(moments.mean, mean, atol=1e-3 * float(std.min())), name
        assert not torch.allclose(collapsed[name].std, std, rtol=1e-2), f"{name} needed no repair: the test is empty"


@pytest.mark.parametrize("build", [plain_net, Residual, Recurrent])
@pytest.mark.parametrize(("alpha", "end"), [(0.0, 0), (1.0, 1)])
def test_repair_changes_nothing_at_the_ends(build: object, alpha: float, end: int) -> None:
    nets, batches = ends(build), images(9, 9)
    repaired = repair(nets[0], nets, alpha, batches)
    for name, tensor in nets[end].state_dict().items():
        assert torch.allclose(repaired[name], tensor, rtol=1e-9, atol=1e-9), name


def test_points_that_share_their_passes_are_those_of_one_alpha_each() -> None:
    nets, batches = ends(Residual), images(8, 5)
    together = RepairedLine(nets[0], (nets[0].state_dict(), nets[1].state_dict()), batches).states([0.2, 0.5, 0.9])
    for alpha, state in zip([0.2, 0.5, 0.9], together, strict=True):
        alone = repair(nets[0], nets, alpha, batches)
        assert all(torch.equal(state[name], tensor) for name, tensor in alone.items())


def test_rescale_restores_standard_deviations_and_leaves_means_alone() -> None:
    (first, second), batches = ends(plain_net), images(20, 7)
    states = first.state_dict(), second.state_dict()
    (state,) = RepairedLine(first, states, batches, means=False).states([0.4])
    rescaled, at_first, at_second = output_moments([clone(first, state), first, second], batches)
    middle = interpolate(*states, 0.4)
    for name, moments in rescaled.items():
        assert torch.allclose(moments.std, torch.lerp(at_first[name].std, at_second[name].std, 0.4), rtol=1e-3), name
        # this layer as interpolated, after layers that are rescaled
        own = {key: middle[key] if key.startswith(f"{name}.") else tensor for key, tensor in state.items()}
        (before,) = output_moments([clone(first, own)], batches, [name])
        assert torch.allclose(moments.mean, before[name].mean, atol=1e-9), name
        if name != "0":  # whose input is that of the ends: there REPAIR has no mean to move
            assert not torch.allclose(
                moments.mean, torch.lerp(at_first[name].mean, at_second[name].mean, 0.4), rtol=0.01
            ), name


def test_repair_leaves_network_and_ends_as_they_were() -> None:
    nets = ends(plain_net)
    network = plain_net().double().train()
    watched = [network, *nets]
    before = [{name: tensor.clone() for name, tensor in net.state_dict().items()} for net in watched]
    repair(network, (nets[0], nets[1].state_dict()), 0.5, images(8))
    for net, state in zip(watched, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert network.training
    assert not any(module._forward_hooks for net in watched for module in net.modules())


@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_repair_of_a_layer_without_bias_restores_its_root_mean_square(shift: float) -> None:
    """Its mean cannot be set: a factor that restored the standard deviation would carry the mean away with it."""
    first, second = ends(lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3)))
    batches = [torch.randn(50, 6, dtype=torch.float64) + shift]
    repaired = clone(first, repair(first, (first, second), 0.5, batches))
    now, *at_ends = output_moments([repaired, first, second], batches)
    sizes = [torch.hypot(found["0"].std, found["0"].mean) for found in at_ends]
    assert torch.allclose(torch.hypot(now["0"].std, now["0"].mean), (sizes[0] + sizes[1]) / 2)
    assert torch.allclose(now["1"].std, (at_ends[0]["1"].std + at_ends[1]["1"].std) / 2)  # the next one has a bias


def test_repair_does_not_blow_up_what_networks_without_biases_share() -> None:
    """Two heads with the same large mean and noise of their own: half way, the noise is smaller and the mean is not."""
    torch.manual_seed(0)
    first, second = (nn.Linear(8, 3, bias=False).double() for _ in range(2))
    for net in (first, second):
        nn.init.normal_(net.weight, std=0.1)
        net.weight.data[:, 0] = -5.0
    inputs = torch.randn(200, 8, dtype=torch.float64)
    inputs[:, 0] = 1.0
    repaired = clone(first, repair(first, (first, second), 0.5, [inputs]))
    assert torch.allclose(repaired(inputs).mean(0), torch.full((3,), -5.0, dtype=torch.float64), atol=0.1)


def test_repair_of_a_channel_that_became_constant_stays_finite() -> None:
    first, second = ends(plain_net)
    second[0].load_state_dict({name: -tensor for name, tensor in first[0].state_dict().items()})
    repaired = repair(first, (first, second), 0.5, images(6))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in repaired.values())


def test_repair_with_batchnorm_is_the_batchnorm_reset() -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5))

    (first, second), batches = ends(build), images(8, 5)
    expected = reset_batchnorm(first, batches, interpolate(first.state_dict(), second.state_dict(), 0.3))
    repaired = repair(first, (first, second), 0.3, batches)
    assert all(torch.equal(repaired[name], tensor) for name, tensor in expected.items())


def test_encoder_layers_with_a_padding_mask_are_looked_into() -> None:
    """Torch fuses them in evaluation mode, and packs what is padded."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
            self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

        def forward(self, words: Tensor, kept: Tensor) -> Tensor:
            return self.head(self.encoder(words, src_key_padding_mask=~kept)[:, 0])

    first, second = Padded().eval(), Padded().eval()
    kept = torch.arange(6) < torch.randint(2, 6, (20, 1))
    batches = [((torch.randn(20, 6, 8), kept), torch.zeros(20))]
    (found,) = output_moments([first], batches)
    assert {"encoder.layers.0.linear1", "encoder.layers.1.linear2", "head"} <= found.keys()
    repaired = repair(first, (first.state_dict(), second.state_dict()), 0.5, batches)
    assert all(tensor.isfinite().all() for tensor in repaired.values())
    assert torch.backends.mha.get_fastpath_enabled()


def test_repair_rejects_batches_that_are_used_up_after_one_pass() -> None:
    nets = ends(plain_net)
    with pytest.raises(InputError, match="batches is a generator, which is used up after one pass: give a list"):
        repair(nets[0], nets, 0.5, (batch for batch in images(4)))


def test_repair_rejects_no_batches() -> None:
    nets = ends(plain_net)
    with pytest.raises(InputError, match="batches is empty"):
        repair(nets[0], nets, 0.5, [])
