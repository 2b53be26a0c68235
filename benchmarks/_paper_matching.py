"""The published ResNet20 matching in plain words: for each of twelve groups of units, one pass over all batches.

Nine groups are inside the residual blocks (after the first convolution's relu), three are the stages' residual streams.
Stage 3 is observed after its second block, not its third: the published index is off by one. In every pass both
networks run from the image to that layer. Permutations that were found are not applied before the next pass: they
would reorder other groups, which the statistic of a group does not see, so the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import relu


def match_layer_by_layer(source: nn.Module, reference: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Name of the weight that writes a group -> index vector p: unit i of the reference is unit p[i] of the source."""
    found = {}
    for weight, depth, inner in layers(source):
        matrix = correlation(source, reference, batches, depth, inner)
        found[weight] = torch.from_numpy(linear_sum_assignment(matrix.cpu().numpy(), maximize=True)[1])
    return found


def layers(network: nn.Module) -> Iterator[tuple[str, int, bool]]:
    """Weight, number of blocks to run before it, and whether the first half of the next block follows."""
    names = [f"layer{stage}.{k}" for stage in (1, 2, 3) for k in range(3)]
    for depth, name in enumerate(names):
        yield f"{name}.conv1.weight", depth, True
    for weight, depth in (("conv1.weight", 3), ("layer2.0.conv2.weight", 6), ("layer3.0.conv2.weight", 8)):
        yield weight, depth, False


def prefix(network: nn.Module, images: Tensor, depth: int, inner: bool) -> Tensor:
    """The activation there; shape (images, units, height, width)."""
    blocks = [*network.layer1, *network.layer2, *network.layer3]
    features = relu(network.bn1(network.conv1(images)))
    for block in blocks[:depth]:
        features = block(features)
    return relu(blocks[depth].bn1(blocks[depth].conv1(features))) if inner else features


@torch.no_grad()
def correlation(source: nn.Module, reference: nn.Module, batches: Iterable[Tensor], depth: int, inner: bool) -> Tensor:
    """Shape (reference units, source units): batches weigh alike, standard deviations are averaged, 1e-4 is added."""
    count, means, stds, products = 0, [0.0, 0.0], [0.0, 0.0], 0.0
    for images in batches:
        sides = [
            prefix(network, images, depth, inner).movedim(1, -1).flatten(0, -2).double()
            for network in (reference, source)
        ]
        count += 1
        for k, rows in enumerate(sides):
            means[k] = means[k] + rows.mean(0)
            stds[k] = stds[k] + rows.std(0)
        products = products + sides[0].T @ sides[1] / len(sides[0])
    (theirs, ours), (std_theirs, std_ours) = ([total / count for total in totals] for totals in (means, stds))
    return (products / count - torch.outer(theirs, ours)) / (torch.outer(std_theirs, std_ours) + 1e-4)
