"""The smallest network in which a mask fits one basin, fails in another, and fits it again when it is permuted.

After the first figure of arXiv 2505.05143, computed: one input x, two hidden units with ReLU and one weight each,
summed. Swapping the two weights changes nothing, so every minimum has a twin. The data come from the weights (2, -1/2):
slope 2 right of 0 and -1/2 left of it, and a unit sees one side only, chosen by the sign of its weight. Without a mask,
gradient descent ends in (2, -1/2) or in (-1/2, 2), whichever the signs of the initialisation choose. The mask that
magnitude pruning finds on A removes the weight that B needs more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.trace import trace_symmetry

TEACHER = (2.0, -0.5)
INITIAL = {"A": (0.6, -1.4), "B": (-1.2, 0.8)}
"""The two random initialisations: two that end in different basins."""

_WEIGHT = "hidden.weight"
_LEARNING_RATE, _STEPS = 0.2, 150


class TwoWeights(nn.Module):
    """f(x) = relu(w1 x) + relu(w2 x); its weights are `hidden.weight`, shape (2, 1)."""

    def __init__(self, weights: tuple[float, float]) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, 2, bias=False)
        self.hidden.weight.data.copy_(torch.tensor(weights)[:, None])

    def forward(self, x: Tensor) -> Tensor:  # shape: (batch, 1) -> (batch, 1)
        return torch.relu(self.hidden(x)).sum(-1, keepdim=True)


def two_weights(size: int = 81) -> dict[str, Any]:
    """Train dense from both initialisations, prune A, match, and train sparse: the loss on a grid, and all paths.

    Paths are lists of (w1, w2), from the start to the end of training: `A` and `B` dense, `lth` A's initialisation
    under the mask, `naive` B's under it, `permuted` B's under the permuted mask; gradient descent on the mean squared
    error.
    """
    x = torch.linspace(-1, 1, 64)[:, None]
    target = TwoWeights(TEACHER)(x).detach()
    everything = Mask({_WEIGHT: torch.ones(2, 1, dtype=torch.bool)})
    paths = {name: _descend(start, everything, x, target) for name, start in INITIAL.items()}
    network_a, network_b = (TwoWeights(paths[name][-1]) for name in INITIAL)
    mask = magnitude_prune(network_a.state_dict(), everything, fraction=0.5)
    symmetry = trace_symmetry(network_a, x[:2])
    permutation = match_activations(network_a, network_b, [x], symmetry).permutation
    masks = {"lth": mask, "naive": mask, "permuted": mask.permuted(symmetry, permutation)}
    starts = {"lth": "A", "naive": "B", "permuted": "B"}
    paths |= {name: _descend(INITIAL[starts[name]], each, x, target) for name, each in masks.items()}
    ticks = torch.linspace(-2.0, 3.0, size)
    return {
        "ticks": ticks.tolist(),
        "loss": _losses(ticks, x, target).tolist(),
        "paths": paths,
        "initial": {name: INITIAL[starts.get(name, name)] for name in paths},
        "end_loss": {name: _loss(TwoWeights(path[-1]), x, target).item() for name, path in paths.items()},
        "masks": {name: each[_WEIGHT].flatten().tolist() for name, each in masks.items()},
        "permutation": next(iter(permutation.values())).tolist(),
    }


def _descend(start: tuple[float, float], mask: Mask, x: Tensor, target: Tensor) -> list[tuple[float, float]]:
    """Gradient descent under the mask; the path begins at the masked initialisation."""
    network = TwoWeights(start)
    optimiser = torch.optim.SGD(network.parameters(), lr=_LEARNING_RATE)
    mask.apply_(network)
    path = [_weights(network)]
    for _ in range(_STEPS):
        optimiser.zero_grad()
        torch.autograd.backward(_loss(network, x, target))
        optimiser.step()
        mask.apply_(network)
        path.append(_weights(network))
    return path


def _loss(network: nn.Module, x: Tensor, target: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    output: Tensor = network(x) if weights is None else torch.func.functional_call(network, dict(weights), (x,))
    return (output - target).square().mean()


def _losses(ticks: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """The loss on the grid, shape (w2, w1)."""
    network = TwoWeights(TEACHER)
    points = torch.cartesian_prod(ticks, ticks).flip(1)[:, :, None]  # shape: (size², 2, 1), w1 changes fastest
    losses: Tensor = torch.vmap(lambda point: _loss(network, x, target, {_WEIGHT: point}))(points)
    return losses.detach().reshape(len(ticks), len(ticks))


def _weights(network: TwoWeights) -> tuple[float, float]:
    first, second = network.hidden.weight.detach().flatten().tolist()
    return first, second
