"""The plane through three networks: its corners, its distances, and losses that are those of the line and of each."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.errors import InputError


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4)).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.7)
    nn.init.uniform_(net[1].running_mean, -1, 1)
    nn.init.uniform_(net[1].running_var, 0.5, 2)
    return net.eval()


NETS = [network(seed) for seed in range(3)]


def data(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(size, 6).double(), torch.randint(0, 4, (size,))) for size in sizes]


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    names = [name for name, _ in NETS[0].named_parameters()]
    return math.sqrt(sum(float((first[name] - second[name]).square().sum()) for name in names))


def test_corners_are_the_networks_exactly() -> None:
    plane = Plane(NETS[0], *NETS)
    for net, corner in zip(NETS, plane.corners, strict=True):
        state = plane.state(corner)
        assert all(torch.allclose(state[name], tensor, rtol=1e-12) for name, tensor in net.state_dict().items())
    first = plane.state((0.0, 0.0))
    assert all(torch.equal(first[name], tensor) for name, tensor in NETS[0].state_dict().items())


def test_coordinates_are_distances_in_weight_space() -> None:
    plane = Plane(NETS[0], *NETS)
    assert plane.corners[1] == (pytest.approx(distance(NETS[0].state_dict(), NETS[1].state_dict())), 0.0)
    points = [(0.3, -2.0), (4.0, 1.0), (-1.5, 6.0)]
    for first in points:
        for second in points:
            apart = distance(plane.state(first), plane.state(second))
            assert apart == pytest.approx(math.dist(first, second), rel=1e-9)


def test_shares_sum_to_one_and_are_those_of_the_corners() -> None:
    plane = Plane(NETS[0], *NETS)
    assert sum(plane.shares((0.3, -2.0))) == pytest.approx(1)
    centre = tuple(sum(axis) / 3 for axis in zip(*plane.corners, strict=True))
    assert plane.shares(centre) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize("reset", [False, True])
def test_edge_of_the_plane_is_the_line_of_the_barrier(reset: bool) -> None:
    plane, images, train = Plane(NETS[0], *NETS), data(14, 9), data(20)
    line = loss_barrier(
        NETS[0],
        NETS[0],
        NETS[1],
        images,
        alphas=4,
        correction="bn_reset" if reset else "none",
        correction_batches=train,
    )
    points = [(alpha * plane.width, 0.0) for alpha in line.alphas]
    found = plane_losses(NETS[0], plane, points, images, reset_batches=train if reset else None)
    assert [point.loss for point in found] == pytest.approx(line.loss, rel=1e-9)
    assert [point.error for point in found] == pytest.approx(line.error)
    assert found[0].num_images == 23


def test_grid_has_the_networks_inside_with_room_around_them() -> None:
    plane = Plane(NETS[0], *NETS)
    columns, rows = plane.grid(7, margin=0.25)
    (left, right), (bottom, top) = ((min(axis), max(axis)) for axis in zip(*plane.corners, strict=True))
    room = 0.25 * max(right - left, top - bottom)
    assert (columns[0], columns[-1], len(columns)) == (pytest.approx(left - room), pytest.approx(right + room), 7)
    assert (rows[0], rows[-1], len(rows)) == (pytest.approx(bottom - room), pytest.approx(top + room), 7)


def test_variance_that_would_be_negative_is_zero() -> None:
    nets = copy.deepcopy(NETS)
    nets[1][1].running_var.fill_(100.0)
    plane = Plane(nets[0], *nets)
    state = plane.state((-0.5 * plane.width, 0.0))
    assert state["1.running_var"].tolist() == [0.0] * 12
    assert float(state["1.running_mean"].min()) < 0


def test_networks_are_left_as_they_were() -> None:
    before = [{name: tensor.clone() for name, tensor in net.state_dict().items()} for net in NETS]
    plane_losses(NETS[0], Plane(NETS[0], *NETS), [(1.0, 1.0), (2.0, 0.0)], data(8, 8), reset_batches=data(9))
    for net, state in zip(NETS, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def between() -> dict[str, Tensor]:
    first, second = (net.state_dict() for net in NETS[:2])
    return {
        name: (tensor + second[name]) / 2 if tensor.is_floating_point() else tensor for name, tensor in first.items()
    }


@pytest.mark.parametrize("third", [NETS[0], NETS[1], between()])
def test_plane_rejects_networks_on_one_line(third: object) -> None:
    with pytest.raises(InputError, match="the three networks lie on one line, expected three that span a plane"):
        Plane(NETS[0], NETS[0], NETS[1], third)


def test_plane_rejects_equal_first_networks() -> None:
    with pytest.raises(InputError, match="the three networks lie on one line"):
        Plane(NETS[0], NETS[0], NETS[0], NETS[1])


def test_plane_rejects_networks_of_different_widths() -> None:
    with pytest.raises(InputError, match=r"0.bias has shape \(12,\) in first and \(24,\) in third"):
        Plane(NETS[0], *NETS[:2], {**NETS[2].state_dict(), "0.bias": torch.zeros(24)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_points": 2}, "num_points is 2, expected at least 3"),
        ({"num_points": 5, "margin": -0.1}, "margin is -0.1, expected at least 0"),
    ],
)
def test_grid_rejects_what_it_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plane(NETS[0], *NETS).grid(**options)


def test_losses_reject_batches_that_are_used_up_after_one_pass() -> None:
    with pytest.raises(InputError, match="batches is a list_iterator, which is used up after one pass"):
        plane_losses(NETS[0], Plane(NETS[0], *NETS), [(0.0, 0.0)], iter(data(4)))
