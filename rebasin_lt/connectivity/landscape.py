"""The loss on the plane through three networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.batches import Network, check_alike, check_repeatable, network_of, state_of
from rebasin_lt.connectivity.batchnorm import clone, reset_batchnorm_of
from rebasin_lt.connectivity.evaluation import Evaluation, check_judged, evaluate
from rebasin_lt.connectivity.passes import chunks
from rebasin_lt.errors import InputError, check_least
from rebasin_lt.judging.judge import Chosen, Judge, judge_of
from rebasin_lt.judging.losses import CROSS_ENTROPY

Point = tuple[float, float]


class Plane:
    """The plane through three networks, in orthonormal coordinates of weight space (Garipov et al., arXiv 1802.10026).

    The first network is the origin, the second lies on the x axis at its distance, the third above (y > 0). Distances
    are Euclidean over the parameters of `network`; buffers such as batch norm statistics have no part in them. Raises
    InputError for states of different shapes and for networks on one line.

        >>> network = nn.Linear(1, 1)
        >>> at = [(0.0, 0.0), (3.0, 0.0), (1.0, 2.0)]
        >>> corners = [{"weight": torch.tensor([[x]]), "bias": torch.tensor([y])} for x, y in at]
        >>> rb.Plane(network, *corners).corners
        [(0.0, 0.0), (3.0, 0.0), (1.0, 2.0)]
    """

    def __init__(self, network: nn.Module, first: Network, second: Network, third: Network) -> None:
        self.states = [state_of(each) for each in (first, second, third)]
        for name, state in zip(("second", "third"), self.states[1:], strict=True):
            check_alike(self.states[0], state, ("first", name))
        names = [name for name, _ in network_of(network).named_parameters()]
        across, aside = (_difference(state, self.states[0], names) for state in self.states[1:])
        self.width = math.sqrt(_dot(across, across))
        foot = _dot(across, aside) / self.width if self.width else 0.0
        height = math.sqrt(max(0.0, _dot(aside, aside) - foot**2))
        if min(self.width, height) <= 1e-6 * max(self.width, abs(foot), height):
            raise InputError("the three networks lie on one line, expected three that span a plane")
        self.corners: list[Point] = [(0.0, 0.0), (self.width, 0.0), (foot, height)]

    def shares(self, point: Point) -> tuple[float, float, float]:
        """Barycentric coordinates: the share of each network, which sum to 1; negative ones outside the triangle."""
        foot, height = self.corners[2]
        third = point[1] / height
        second = (point[0] - third * foot) / self.width
        return 1 - second - third, second, third

    def state(self, point: Point) -> dict[str, Tensor]:
        """The network at a point, new tensors; exactly that of a corner there.

        Integer buffers are the first network's. Outside the triangle a batch norm variance may extrapolate below 0 and
        is then taken as 0.
        """
        shares = self.shares(point)
        return {name: self._mixed(name, tensor, shares) for name, tensor in self.states[0].items()}

    def _mixed(self, name: str, tensor: Tensor, shares: Sequence[float]) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.clone()
        tensors = [state[name].to(tensor) for state in self.states]
        mixed = sum((share * each for share, each in zip(shares[1:], tensors[1:], strict=True)), shares[0] * tensor)
        return mixed.clamp(min=0) if name.endswith("running_var") else mixed

    def grid(self, num_points: int, margin: float = 0.2) -> tuple[list[float], list[float]]:
        """x and y of `num_points` lines each, around the three networks with `margin` of the longer side."""
        check_least("num_points", num_points, 3)
        check_least("margin", margin, 0)
        columns, rows = zip(*self.corners, strict=True)
        room = margin * max(max(columns) - min(columns), max(rows) - min(rows))
        return _spaced(columns, room, num_points), _spaced(rows, room, num_points)


def plane_losses(
    network: nn.Module,
    plane: Plane,
    points: Sequence[Point],
    batches: Iterable[Any],
    *,
    reset_batches: Iterable[Any] | None = None,
    loss: Chosen = CROSS_ENTROPY,
) -> list[Evaluation]:
    """Loss and error at points of the plane, over all images of `batches`; `loss` as in `loss_barrier`.

    With `reset_batches` batch norm statistics are re-estimated on them at each point. As many points as fit in memory
    share each pass. `network` gives architecture and device and is not modified. Raises InputError for batches that can
    be read only once, and for what the loss is not of (`check_judged`).

        >>> networks, batches = [nn.Linear(2, 2) for _ in "abc"], [(torch.randn(8, 2), torch.tensor([0, 1] * 4))]
        >>> plane = rb.Plane(networks[0], *networks)
        >>> corners = rb.plane_losses(networks[0], plane, plane.corners, batches)
        >>> [one.error == rb.evaluate([other], batches)[0].error for one, other in zip(corners, networks)]
        [True, True, True]
    """
    judge = judge_of(loss)
    for each in (batches, reset_batches):
        if each is not None:
            check_repeatable(each)
    check_judged(network, batches, loss=judge)
    found = []
    for group in chunks(points, network):
        found += _evaluated(network, [plane.state(point) for point in group], batches, reset_batches, judge)
    return found


def _evaluated(
    network: nn.Module,
    states: list[dict[str, Tensor]],
    batches: Iterable[Any],
    reset: Iterable[Any] | None,
    judge: Judge,
) -> list[Evaluation]:
    if reset is not None:
        states = reset_batchnorm_of(network, reset, states)
    return evaluate([clone(network, state) for state in states], batches, loss=judge)


def _difference(state: Mapping[str, Tensor], origin: Mapping[str, Tensor], names: Iterable[str]) -> list[Tensor]:
    return [state[name].double() - origin[name].to(state[name].device).double() for name in names]


def _dot(first: Iterable[Tensor], second: Iterable[Tensor]) -> float:
    return float(sum((one * other).sum() for one, other in zip(first, second, strict=True)))


def _spaced(values: Sequence[float], room: float, size: int) -> list[float]:
    low, high = min(values) - room, max(values) + room
    return [float(value) for value in torch.linspace(low, high, size, dtype=torch.float64)]
