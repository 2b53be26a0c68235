"""Every network of the registry computes the same after a permutation, trains the same, and prunes the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.models.registry import build_network
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

OWN = """
from torch import nn


def build(num_classes):
    convolution = nn.Conv2d(3, 6, 3)
    return nn.Sequential(convolution, nn.BatchNorm2d(6), nn.GELU(), nn.Flatten(), nn.Linear(6 * 36, num_classes))
"""
SMALL = {"width": 0.25}
NETWORKS: dict[str, tuple[dict[str, float], int]] = {  # name -> settings, image size
    "mlp": ({}, 8),
    "resnet20": (SMALL, 8),
    "resnet32": (SMALL, 8),
    "conv4": (SMALL, 32),
    "vgg11": (SMALL, 32),
    "vgg11_bn": (SMALL, 32),
    "resnet50": ({"width": 1 / 16}, 32),
    "torchvision:squeezenet1_1": ({}, 32),
    "own_network:build": ({}, 8),
}


@pytest.fixture(autouse=True, scope="module")
def own_module(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_network.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


def randomised(network: nn.Module) -> nn.Module:
    """In float64, with random normalisation: as initialised, its units are all alike."""
    network = network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


@cache
def traced(name: str) -> tuple[nn.Module, Symmetry, Tensor]:
    torch.manual_seed(0)
    settings, size = NETWORKS[name]
    network = randomised(build_network(name, **settings))
    images = torch.randn(4, 1 if name == "mlp" else 3, size, size, dtype=torch.float64)
    return network, trace_symmetry(network, images, verify=False), images


def permuted(network: nn.Module, symmetry: Symmetry, permutation: dict[str, Tensor]) -> nn.Module:
    other = copy.deepcopy(network)
    other.load_state_dict(symmetry.permute(network.state_dict(), permutation))
    return other


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_random_permutation_keeps_the_function_and_not_the_weights(name: str) -> None:
    network, symmetry, images = traced(name)
    assert symmetry.unknown == {}
    for seed in range(2):
        permutation = symmetry.random(torch.Generator().manual_seed(seed))
        other = permuted(network, symmetry, permutation)
        with torch.no_grad():
            assert error(other(images), network(images)) <= 1e-10
        state, moved = network.state_dict(), other.state_dict()
        for group in symmetry.groups:
            acted = [name for name, axes in symmetry.axes.items() if any(group in axis.groups for axis in axes)]
            assert acted
            assert any(not torch.equal(state[name], moved[name]) for name in acted)


@pytest.mark.parametrize("name", NETWORKS)
def test_symmetry_is_not_one_group_short(name: str) -> None:
    """Every unit of a hidden convolution or linear layer is moved by some group; only its inputs may fix it."""
    network, symmetry, _ = traced(name)
    fixed = [name for name, axis, _, reason in symmetry.frozen if axis == 0 and reason == "an output of the network"]
    weights = [name for name, tensor in network.named_parameters() if tensor.ndim > 1]
    not_moved = [name for name in weights if symmetry.axes[name][0].num_fixed and name not in fixed]
    assert not_moved == []
    assert len([name for name in weights if name in fixed]) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_first_layer_reads_the_same_inputs_bit_for_bit(name: str) -> None:
    """Only outputs of the first layer change places: each keeps what it reads from the image."""
    network, symmetry, _ = traced(name)
    first = next(name for name, tensor in network.named_parameters() if tensor.ndim > 1)
    assert not any(axis.blocks for axis in symmetry.axes[first][1:])
    permutation = symmetry.random(torch.Generator().manual_seed(1))
    weight = network.state_dict()[first]
    moved = symmetry.permute({first: weight}, permutation)[first]
    assert torch.equal(moved, weight[symmetry.axes[first][0].index(permutation)])


def trained(network: nn.Module, images: Tensor, mask: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network after two masked steps of SGD, and the momentum by parameter name."""
    network = copy.deepcopy(network)
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    targets = torch.arange(len(images)) % 3
    for _ in range(2):
        with torch.no_grad():
            for name, kept in mask.items():
                parameters[name].mul_(kept)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    return network, {name: optimizer.state[parameter]["momentum_buffer"] for name, parameter in parameters.items()}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            actual[name], tensor, rtol=1e-7, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ["mlp", "resnet20", "vgg11_bn", "own_network:build"])
def test_training_commutes_with_permuting(name: str, training: bool) -> None:
    """Weights, masks, momentum and batch norm's buffers permute together."""
    network, symmetry, images = traced(name)
    if training:  # no dropout here: it would be random
        network = copy.deepcopy(network).train()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    mask = {name: torch.rand_like(p) > 0.4 for name, p in network.named_parameters() if p.ndim > 1}
    permute = partial(symmetry.permute, permutation=symmetry.random(torch.Generator().manual_seed(2)))
    after, momentum = trained(network, images, mask)
    other = copy.deepcopy(network)
    other.load_state_dict(permute(network.state_dict()))
    after_other, momentum_other = trained(other, images, permute(mask))
    assert all(kept.dtype == torch.bool for kept in permute(mask).values())
    assert_close(dict(after_other.state_dict()), permute(after.state_dict()))
    assert_close(momentum_other, permute(momentum))
    assert any(not torch.equal(tensor, momentum[name]) for name, tensor in momentum_other.items())


def test_example_needs_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace looks at shapes alone, so zeros and NaN serve as well."""
    build: Callable[[], nn.Module] = partial(build_network, "mlp")
    torch.manual_seed(0)
    network = build()
    groups = [trace_symmetry(network, torch.full((2, 1, 8, 8), value)).groups for value in (0.0, float("nan"))]
    assert groups[0] == groups[1] == traced("mlp")[1].groups
