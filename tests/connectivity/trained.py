"""Two small convolutional networks trained on real digits from different initialisations, once per test session."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebasin_lt.connectivity.batchnorm import batchnorm_layers
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.symmetry.trace import trace_symmetry

Batches = list[tuple[Tensor, Tensor]]


def small_vgg(norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *([nn.BatchNorm2d(outputs)] if norm else [])]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))


@cache
def digits() -> tuple[Batches, Batches]:
    """Training and test batches."""
    data = Digits()
    return tuple(list(data.sweep(split, batch_size=200)) for split in ("train", "test"))


@cache
def pair(norm: bool) -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """A, B and π(A), trained for some seconds."""
    first, second = (trained(small_vgg(norm), seed) for seed in (1, 2))
    symmetry = trace_symmetry(first, digits()[0][0][0][:2])
    match = match_activations(first, second, digits()[0], symmetry)
    return first, second, symmetry.permute(first.state_dict(), match.permutation)


def trained(network: nn.Module, seed: int, epochs: int = 6) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5, generator=generator)
            elif parameter.dim() == 1 and not (parameter == 1).all():
                parameter.zero_()
    sweep = Digits().sweep("train")
    order = sweep.sampler.indices.argsort()
    images, labels = (torch.cat(parts)[order] for parts in zip(*sweep, strict=True))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1 if batchnorm_layers(network) else 0.02, momentum=0.9)
    for _ in range(epochs):
        for indices in torch.randperm(len(labels), generator=generator).split(50):
            optimiser.zero_grad()
            F.cross_entropy(network(images[indices]), labels[indices]).backward()
            optimiser.step()
    return network.eval()
