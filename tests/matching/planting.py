"""Small networks, and a source and a reference that differ by a planted permutation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from rebasin_lt.matching.activation import MatchResult
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

State = dict[str, Tensor]


class Block(nn.Module):
    """A residual block with batch norm and, if the width changes, a projection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(inner)) + self.skip(x)).relu()


def mlp() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 5)]
    return nn.Sequential(*layers)


def residual_net() -> nn.Module:
    stem = [nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()]
    return nn.Sequential(
        *stem, Block(12, 12), Block(12, 20), Block(20, 20), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5)
    )


def vgg_like() -> nn.Module:
    convolutions = [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 18, 3, padding=1),
        nn.ReLU(),
    ]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(18 * 4, 14), nn.ReLU(), nn.Linear(14, 5))


class Inverted(nn.Module):
    """An inverted residual block: pointwise, depthwise, pointwise, as in MobileNetV2."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())
        depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(hidden), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.depthwise(self.expand(x)))


def mobile_net() -> nn.Module:
    stem = [nn.Conv2d(3, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10), nn.ReLU6()]
    return nn.Sequential(
        *stem, Inverted(10, 16), Inverted(10, 14), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5)
    )


def transformer() -> nn.Module:
    return VisionTransformer(
        image_size=4, patch_size=2, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=20, num_classes=5
    )


class Recurrent(nn.Module):
    """Adds a linear map of its hidden units to them: their group acts on both axes of its weight."""

    def __init__(self, units: int = 5) -> None:
        super().__init__()
        self.enter = nn.Linear(3, units, bias=False)
        self.again = nn.Linear(units, units, bias=False)
        self.leave = nn.Linear(units, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.enter(x).relu()
        return self.leave(hidden + self.again(hidden))


SMALL = {"mlp": mlp, "residual": residual_net, "vgg": vgg_like}
NETWORKS = {**SMALL, "mobile": mobile_net, "transformer": transformer}
EXAMPLE = torch.zeros(2, 3, 4, 4, dtype=torch.float64)


def randomised(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network in fp64, with random parameters and statistics of norms."""
    torch.manual_seed(seed)
    network = build().double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 4)
        elif isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network


@cache
def symmetry_of(build: Callable[[], nn.Module]) -> Symmetry:
    """The network's symmetry, which no weights change: traced once for all tests."""
    example = torch.zeros(2, 3, dtype=torch.float64) if build is Recurrent else EXAMPLE
    with torch.random.fork_rng():  # or what a test draws would depend on those before it
        return trace_symmetry(randomised(build, 0), example)


def planted(build: Callable[[], nn.Module], seed: int) -> tuple[nn.Module, nn.Module, Symmetry]:
    """A source, a reference that is the source with a random permutation, and their symmetry."""
    source = randomised(build, seed)
    symmetry = symmetry_of(build)
    reference = copy.deepcopy(source)
    permutation = symmetry.random(torch.Generator().manual_seed(seed))
    reference.load_state_dict(symmetry.permute(source.state_dict(), permutation))
    return source, reference, symmetry


def images(*sizes: int) -> list[Tensor]:
    return [torch.randn(size, 3, 4, 4, dtype=torch.float64) for size in sizes]


def aligned(source: nn.Module, symmetry: Symmetry, result: MatchResult) -> State:
    return symmetry.permute(source.state_dict(), result.permutation)


def assert_equal_states(actual: State, expected: State) -> None:
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


def noisy(source: nn.Module, symmetry: Symmetry, seed: int, noise: float = 1e-3) -> tuple[State, Permutation]:
    """The state of the source under a random permutation, with noise on its parameters; and that permutation."""
    generator = torch.Generator().manual_seed(1000 + seed)
    permutation = symmetry.random(generator)
    state = symmetry.permute(source.state_dict(), permutation)
    for name, parameter in source.named_parameters():
        state[name] += noise * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return state, permutation
