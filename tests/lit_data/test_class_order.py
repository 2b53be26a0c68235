"""Files of class folders lie sorted by class; whatever looks at batches of them sees what it would in random order.

Every consumer of batches is given the sweep of a class folder, and the same images in orders drawn here. By chance
alone the sweep's result is one more of these, and in many dimensions any two of them are about as far apart: it is no
further from the nearest than twice what the two that differ most are from each other. In the order of the files it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.connectivity.batchnorm import reset_batchnorm
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.connectivity.repair import repair
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.saliency import grasp, snip
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

Batches = list[tuple[Tensor, Tensor]]
PER_CLASS, BATCH, ORDERS, FACTOR = 40, 40, 3, 2.0


class World(NamedTuple):
    """Class folders and the networks that are asked about them."""

    data: ImageFolder
    images: Tensor  # in the order of the files
    labels: Tensor
    a: nn.Module  # with batch norm
    b: nn.Module
    plain: tuple[nn.Module, nn.Module]  # without
    symmetry: Symmetry

    def batches(self, order: Tensor) -> Batches:
        return [(self.images[part], self.labels[part]) for part in order.split(BATCH)]


def network(seed: int, norm: bool) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 8, 1), (8, 12, 2), (12, 16, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def trained(world_batches: Callable[[Tensor], Batches], count: int, seed: int, norm: bool) -> nn.Module:
    net = network(seed, norm)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(4):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(100 * seed + epoch))
        for images, labels in world_batches(order):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root: Path = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for part in ("train", "test"):
        for label in range(10):
            folder = root / part / str(label)
            folder.mkdir(parents=True)
            own = digits.images[digits.target == label][: PER_CLASS if part == "train" else 2]
            for number, pixels in enumerate(own):
                Image.fromarray((pixels * 15.9).astype(np.uint8)).save(folder / f"{number:03}.png")
    data = ImageFolder(str(root), batch_size=BATCH, image_size=8, num_workers=0)
    sweep = data.sweep("train")
    order = torch.cat(list(sweep.sampler.begin()))
    read = [torch.cat(parts) for parts in zip(*sweep, strict=True)]
    images, labels = (each[order.argsort()] for each in read)
    assert torch.equal(labels, torch.arange(10).repeat_interleave(PER_CLASS))

    def batches(order: Tensor) -> Batches:
        return [(images[part], labels[part]) for part in order.split(BATCH)]

    a, b, c, d = (
        trained(batches, len(images), seed, norm) for seed, norm in ((1, True), (2, True), (3, False), (4, False))
    )
    return World(data, images, labels, a, b, (c, d), trace_symmetry(a, images[:2]))


def of_statistics(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten().double() for name, tensor in state.items() if "running" in name])


def bn_reset(world: World, batches: Iterable[Any]) -> Tensor:
    return of_statistics(reset_batchnorm(world.a, batches))


def repaired(world: World, batches: Iterable[Any]) -> Tensor:
    c, d = world.plain
    state = repair(c, (c, d), 0.5, batches)
    return torch.cat([tensor.flatten().double() for tensor in state.values()])


def as_published(world: World, batches: Iterable[Any]) -> Tensor:
    found = match_activations(world.a, world.b, batches, world.symmetry, preset="paper")
    return torch.tensor(list(found.objective.values()))


def kept(make: Callable[..., Mask]) -> Callable[[World, Iterable[Any]], Tensor]:
    """Which weights a mask keeps: the distance of two counts those in which they differ."""

    def mask_of(world: World, batches: Iterable[Any]) -> Tensor:
        weights = {name: tensor for name, tensor in world.a.state_dict().items() if tensor.dim() > 1}
        mask = make(world.a, Mask.ones_like(weights), batches, 0.9)
        return torch.cat([tensor.flatten().double() for tensor in mask.values()])

    return mask_of


def barrier(world: World, batches: Iterable[Any]) -> Tensor:
    test = world.batches(torch.arange(len(world.images)))
    found = loss_barrier(world.a, world.a, world.b, test, alphas=3, correction="bn_reset", correction_batches=batches)
    return torch.tensor([*found.loss, *found.error])


def landscape(world: World, batches: Iterable[Any]) -> Tensor:
    test = world.batches(torch.arange(len(world.images)))
    plane = Plane(world.a, world.a, world.b, network(5, norm=True))
    points = [(share * plane.width, 0.0) for share in (0.0, 0.5)]
    return torch.tensor([point.loss for point in plane_losses(world.a, plane, points, test, reset_batches=batches)])


CONSUMERS = {
    "BN reset": bn_reset,
    "REPAIR": repaired,
    "preset: paper": as_published,
    "SNIP": kept(snip),
    "GraSP": kept(grasp),
    "barrier": barrier,
    "landscape": landscape,
}


@pytest.fixture(scope="module")
def shuffled(world: World) -> Callable[[str], list[Tensor]]:
    """A consumer's results on the images in orders of their own."""

    @cache
    def results(name: str) -> list[Tensor]:
        draws = [torch.Generator().manual_seed(seed) for seed in range(ORDERS)]
        orders = [torch.randperm(len(world.images), generator=generator) for generator in draws]
        return [CONSUMERS[name](world, world.batches(order)) for order in orders]

    return results


@pytest.fixture(scope="module")
def swept(world: World) -> list[Batches]:
    """What two sweeps of the class folders give: read once, since all consumers are to be given the same."""
    return [list(world.data.sweep("train", seed=seed)) for seed in range(2)]


def is_one_of(found: Tensor, others: list[Tensor]) -> bool:
    """Whether a result is one of these, by the distances among them; sums in another order differ by rounding."""
    spread = max(float((one - other).norm()) for one, other in combinations(others, 2))
    nearest = min(float((found - other).norm()) for other in others)
    return nearest <= FACTOR * max(spread, 1e-6 * float(found.norm()))


@pytest.mark.parametrize("name", CONSUMERS)
def test_class_folders_give_what_the_same_images_give_shuffled(world, swept, shuffled, name):
    for batches in swept:
        assert is_one_of(CONSUMERS[name](world, batches), shuffled(name))


@pytest.mark.parametrize("name", [name for name in CONSUMERS if name != "REPAIR"])
def test_in_the_order_of_the_files_they_would_not(world, shuffled, name):
    """REPAIR without batch norm adds up all images: it does not see how they are batched."""
    in_order = world.batches(torch.arange(len(world.images)))
    assert not is_one_of(CONSUMERS[name](world, in_order), shuffled(name))


def test_a_sweep_has_all_images_in_an_order_drawn_by_its_seed(world, swept):
    labels = [[batch[1] for batch in batches] for batches in swept]
    for own in labels:
        assert torch.equal(torch.cat(own).bincount(), torch.full((10,), PER_CLASS))
        assert min(len(batch.unique()) for batch in own) >= 8
    again = torch.cat([batch[1] for batch in world.data.sweep("train", seed=0)])
    assert torch.equal(torch.cat(labels[0]), again)
    assert not torch.equal(again, torch.cat(labels[1]))
