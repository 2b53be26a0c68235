"""The loss barrier: zero where it must be, equal to a brute-force loop, symmetric, and defined over images."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebasin_lt.connectivity import passes
from rebasin_lt.connectivity.barrier import BarrierResult, loss_barrier, loss_barriers
from rebasin_lt.connectivity.batchnorm import reset_batchnorm
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.errors import InputError

Batches = list[tuple[Tensor, Tensor]]
CORRECTIONS = ["none", "bn_reset", "repair", "closed_form", "rescale"]
WITH_NORM = ["none", "bn_reset", "repair"]


class Counted(list):
    """Batches that know how often they were read."""

    passes = 0

    def __iter__(self):
        yield from super().__iter__()
        self.passes += 1  # to the end: before anything else, the first batch alone is looked at


def network(seed: int, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    norms = [nn.BatchNorm1d(12)] if norm else []
    net = nn.Sequential(nn.Linear(6, 12), *norms, nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4)).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.7)
    return net.eval()


def data(*sizes: int) -> Batches:
    return [(torch.randn(size, 6).double(), torch.randint(0, 4, (size,))) for size in sizes]


def brute_force(net: nn.Module, states: list[dict[str, Tensor]], batches: Batches) -> tuple[list[float], list[float]]:
    """Loss and error of each state, image by image."""
    losses, errors = [], []
    for state in states:
        worker = copy.deepcopy(net).eval()
        worker.load_state_dict(state)
        logits = [(worker(x[None])[0].detach(), int(y)) for inputs, targets in batches for x, y in zip(inputs, targets)]  # noqa: B905
        losses.append(sum(-float(F.log_softmax(row, -1)[y]) for row, y in logits) / len(logits))
        errors.append(sum(int(row.argmax()) != y for row, y in logits) / len(logits))
    return losses, errors


@pytest.mark.parametrize(
    ("norm", "correction"), [*[(False, name) for name in CORRECTIONS], *[(True, name) for name in WITH_NORM]]
)
def test_barrier_of_a_network_with_itself_is_zero(norm: bool, correction: str) -> None:
    net, batches = network(0, norm), data(20, 20)
    result = loss_barrier(net, net, net, batches, alphas=5, correction=correction, correction_batches=batches)
    assert result.loss_barrier == pytest.approx(0, abs=1e-9)
    assert result.error_barrier == 0
    assert result.midpoint_excess_over_mean == pytest.approx(0, abs=1e-9)


def test_curves_equal_a_brute_force_loop_whatever_the_batch_sizes() -> None:
    first, second, batches = network(0), network(1), data(17, 3, 8)
    result = loss_barrier(first, first, second, batches, alphas=7)
    states = [interpolate(first.state_dict(), second.state_dict(), alpha) for alpha in result.alphas]
    losses, errors = brute_force(first, states, batches)
    assert result.loss == pytest.approx(losses, rel=1e-12)
    assert result.error == pytest.approx(errors, abs=1e-12)
    assert result.num_images == 28
    excess = max(loss - ((1 - a) * losses[0] + a * losses[-1]) for a, loss in zip(result.alphas, losses, strict=True))
    assert result.loss_barrier == pytest.approx(excess)


def test_correction_applies_to_every_point() -> None:
    first, second, batches, train = network(0, norm=True), network(1, norm=True), data(10), data(15, 15)
    result = loss_barrier(first, first, second, batches, alphas=3, correction="bn_reset", correction_batches=train)
    line = [interpolate(first.state_dict(), second.state_dict(), alpha) for alpha in result.alphas]
    losses, _ = brute_force(first, [reset_batchnorm(first, train, state) for state in line], batches)
    assert result.loss == pytest.approx(losses, rel=1e-9)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_barrier_is_symmetric_on_the_reversed_grid(correction: str) -> None:
    first, second, batches = network(0), network(1), data(12, 7)
    options = {"correction": correction, "correction_batches": batches}
    there = loss_barrier(first, first, second, batches, alphas=[0, 0.1, 0.5, 0.7, 1], **options)
    back = loss_barrier(first, second, first, batches, alphas=[0, 0.3, 0.5, 0.9, 1], **options)
    assert there.loss == pytest.approx(back.loss[::-1], rel=1e-9)
    assert there.loss_barrier == pytest.approx(back.loss_barrier, rel=1e-9)


def test_barrier_is_the_largest_excess_over_the_chord_and_never_negative() -> None:
    above = BarrierResult([0, 0.25, 0.5, 1], [1, 1.5, 2.5, 2], [0, 0.5, 0.25, 0.5], 1, "none")
    assert above.loss_barrier == 1.0
    assert above.error_barrier == 0.375
    assert above.midpoint_excess_over_mean == 1.0
    assert (above.loss_excess_over_mean, above.error_excess_over_mean) == (1.0, 0.25)
    below = BarrierResult([0, 0.5, 1], [1, 0.5, 1], [0.5, 0, 0.5], 1, "none")
    assert (below.loss_barrier, below.error_barrier, below.midpoint_excess_over_mean) == (0, 0, -0.5)
    uneven = BarrierResult([0, 0.5, 1], [1, 2, 3], [0, 0, 0], 1, "none")
    assert (uneven.loss_barrier, uneven.loss_excess_over_mean) == (0, 1)  # over the mean, a straight line has a barrier
    assert BarrierResult([0, 0.4, 1], [1, 1, 1], [0, 0, 0], 1, "none").midpoint_excess_over_mean is None


def test_loss_that_is_nan_on_the_line_makes_the_barrier_nan() -> None:
    assert math.isnan(BarrierResult([0, 0.5, 1], [1, math.nan, 1], [0, 0, 0], 1, "none").loss_barrier)


def test_default_grid_has_25_points_and_holds_the_midpoint() -> None:
    net, batches = network(0), data(5)
    result = loss_barrier(net, net, net, batches)
    assert (len(result.alphas), result.alphas[0], result.alphas[12], result.alphas[-1]) == (25, 0, 0.5, 1)


def test_networks_are_left_as_they_were_and_progress_is_told() -> None:
    first, second = network(0, norm=True), network(1, norm=True)
    first.train()
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    told: list[tuple[int, int]] = []
    batches = data(8, 8)
    loss_barrier(
        first, first, second, batches, alphas=3, correction="repair", correction_batches=batches,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.state_dict().items())
    assert first.training
    assert told == [(done, 4) for done in range(1, 5)]  # 2 batches, to reset batch norm and to measure


def test_points_share_passes_as_far_as_memory_permits_and_the_curves_stay_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, images, train = network(0, norm=True), network(1, norm=True), Counted(data(9, 6)), Counted(data(20))

    def curve() -> BarrierResult:
        return loss_barrier(first, first, second, images, alphas=6, correction="bn_reset", correction_batches=train)

    together = curve()
    assert (images.passes, train.passes) == (1, 1)
    monkeypatch.setattr(passes, "MEMORY", 4 * sum(tensor.nbytes for tensor in first.state_dict().values()))
    in_two = curve()
    assert (images.passes, train.passes) == (3, 3)
    monkeypatch.setattr(passes, "MEMORY", 1)
    alone = curve()
    assert (images.passes, train.passes) == (9, 9)
    assert together == in_two == alone


def test_barriers_on_several_sets_are_those_of_each_alone() -> None:
    first, second, train, test = network(0), network(1), data(11, 4), data(7)
    options = {"alphas": 5, "correction": "repair", "correction_batches": train}
    both = loss_barriers(first, first, second, {"train": train, "test": test}, **options)
    assert list(both) == ["train", "test"]
    for name, batches in {"train": train, "test": test}.items():
        assert both[name] == loss_barrier(first, first, second, batches, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": 2}, "alphas is 2, expected at least 3 points"),
        ({"alphas": [0, 0.5, 0.9]}, r"alphas is \[0.0, 0.5, 0.9\], expected at least 3 increasing values from 0 to 1"),
        ({"alphas": [0, 0.7, 0.5, 1]}, "expected at least 3 increasing values from 0 to 1"),
        (
            {"correction": "reset"},
            "correction is 'reset', which is not known .did you mean bn_reset..: expected none, bn_reset, repair",
        ),
        ({"correction": "repair"}, "correction is 'repair', which needs correction_batches: give the training images"),
        (
            {"correction": "bn_reset", "correction_batches": iter(())},
            "correction_batches is a tuple_iterator, which is",
        ),
    ],
)
def test_barrier_rejects_bad_options(options: dict[str, object], message: str) -> None:
    net = network(0)
    with pytest.raises(InputError, match=message):
        loss_barrier(net, net, net, data(4), **options)


@pytest.mark.parametrize("correction", ["closed_form", "rescale"])
def test_corrections_of_networks_without_batchnorm_are_refused_with_it(correction: str) -> None:
    net, batches = network(0, norm=True), data(6)
    with pytest.raises(
        InputError, match=f"correction is '{correction}', but Sequential has batch norm, .* use bn_reset"
    ):
        loss_barrier(net, net, net, batches, correction=correction, correction_batches=batches)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "batches is empty"),
        (None, "batches is a NoneType, expected batches: a loader or a list"),
        (iter(data(4)), "batches is a list_iterator, which is used up after one pass"),
        ([torch.zeros(4, 6).double()], r"batches holds inputs without targets, expected \(input, target\) pairs"),
    ],
)
def test_barrier_rejects_bad_batches(batches: object, message: str) -> None:
    net = network(0)
    with pytest.raises(InputError, match=message):
        loss_barrier(net, net, net, batches)


def test_barrier_rejects_networks_of_different_widths() -> None:
    net = network(0)
    other = {**net.state_dict(), "0.bias": torch.zeros(24)}
    with pytest.raises(InputError, match=r"0.bias has shape \(12,\) in state_a and \(24,\) in state_b"):
        loss_barrier(net, net, other, data(4))
