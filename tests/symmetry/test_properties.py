"""Random small networks: what is traced holds, and a planted permutation comes back from activations."""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.symmetry.trace import trace_symmetry

SITES = 4  # height and width of all images
WIDTHS = [4, 6, 8]
SHAPE = (2, SITES, SITES)
EXAMPLE = torch.zeros(2, *SHAPE, dtype=torch.float64)
some = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


class Step(NamedTuple):
    """One layer of a random network: what is done, with which number of outputs or groups."""

    kind: str
    size: int


STEPS = {
    "conv": WIDTHS,
    "grouped": [2],
    "depthwise": [1],
    "norm": [1],
    "group_norm": [2],
    "residual": [1],
    "tied": [1],
    "branch": WIDTHS,
    "split": [1],
    "shuffle": [2],
    "gate": [1],
    "pool": [1],
    "prelu": [1],
}
SAFE = ["conv", "norm", "residual", "branch", "pool", "tied"]  # units stay alive and distinct


class Random(nn.Module):
    """A network that carries out random steps, then flattens and classifies."""

    def __init__(self, steps: list[Step], flatten: bool) -> None:
        super().__init__()
        self.steps, self.flatten = steps, flatten
        width = 4
        self.stem = nn.Conv2d(SHAPE[0], width, 3, padding=1)
        self.layers = nn.ModuleList()
        for kind, size in steps:
            layer, width = self.layer(kind, size, width)
            self.layers.append(layer)
        self.head = nn.Linear(width * SITES**2 if flatten else width, 3)

    @staticmethod
    def layer(kind: str, size: int, width: int) -> tuple[nn.Module, int]:
        """A layer's parameters, and how many channels it gives."""

        def conv(outputs: int = width, groups: int = 1) -> nn.Module:
            return nn.Conv2d(width, outputs, 3, padding=1, groups=groups)

        if kind in {"conv", "branch"}:
            return conv(size), size + width * (kind == "branch")
        made = {
            "grouped": lambda: conv(groups=size),
            "depthwise": lambda: conv(groups=width),
            "norm": lambda: nn.BatchNorm2d(width),
            "group_norm": lambda: nn.GroupNorm(size, width),
            "residual": conv,
            "tied": conv,
            "gate": lambda: nn.Linear(width, width),
            "prelu": lambda: nn.PReLU(width),
        }
        return made.get(kind, nn.Identity)(), width

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        for (kind, size), layer in zip(self.steps, self.layers, strict=True):
            h = self.step(kind, size, layer, h)
        return self.head(h.flatten(1) if self.flatten else h.mean((2, 3)))

    @staticmethod
    def step(kind: str, size: int, layer: nn.Module, h: Tensor) -> Tensor:
        if kind == "residual":
            return (h + layer(h)).relu()
        if kind == "tied":
            return layer(layer(h).relu()).relu()
        if kind == "branch":
            return torch.cat([layer(h).relu(), h], 1)
        if kind == "split":
            left, right = h.chunk(2, 1)
            return torch.cat([right.tanh(), left], 1)
        if kind == "shuffle":
            return h.unflatten(1, (size, -1)).transpose(1, 2).flatten(1, 2)
        if kind == "gate":
            return h * layer(h.mean((2, 3))).sigmoid()[:, :, None, None]
        if kind == "pool":
            return F.interpolate(F.max_pool2d(h, 2), scale_factor=2.0)
        return layer(h).relu() if kind in {"conv", "grouped", "depthwise", "norm"} else layer(h)


def steps(kinds: list[str]) -> st.SearchStrategy[list[Step]]:
    one = st.sampled_from(kinds).flatmap(lambda kind: st.builds(Step, st.just(kind), st.sampled_from(STEPS[kind])))
    return st.lists(one, min_size=1, max_size=4)


def network_of(chosen: list[Step], flatten: bool) -> nn.Module:
    torch.manual_seed(0)
    network = Random(chosen, flatten).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.5, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@some
@given(steps(list(STEPS)), st.booleans())
def test_random_network_keeps_its_function(chosen: list[Step], flatten: bool) -> None:
    symmetry = trace_symmetry(network_of(chosen, flatten), EXAMPLE)
    assert symmetry.unknown == {}
    assert symmetry.error is not None
    assert symmetry.error <= 1e-10


@some
@given(steps(SAFE), st.booleans())
def test_planted_permutation_of_a_random_network_is_recovered_on_live_units(chosen: list[Step], flatten: bool) -> None:
    source = network_of(chosen, flatten)
    symmetry = trace_symmetry(source, EXAMPLE)
    planted = symmetry.random(torch.Generator().manual_seed(1))
    reference = copy.deepcopy(source)
    reference.load_state_dict(symmetry.permute(source.state_dict(), planted))
    images = [torch.randn(100, *SHAPE, dtype=torch.float64) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = match_activations(source, reference, images, symmetry)
    assert sum(int(live.sum()) for live in result.live.values()) > 0
    for group, live in result.live.items():
        assert torch.equal(result.permutation[group][live], planted[group][live]), group


@pytest.mark.parametrize("kind", STEPS)
def test_every_step_leaves_something_to_permute(kind: str) -> None:
    """Or else the properties above would say nothing of it."""
    symmetry = trace_symmetry(network_of([Step("conv", 8), Step(kind, STEPS[kind][0])], False), EXAMPLE)
    assert any("layers.0" in group for group in symmetry.groups)
