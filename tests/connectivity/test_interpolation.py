"""The line between two states: exact at its ends, linear between, and harmless to both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.errors import InputError


def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    first, second = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    for seed, layer in enumerate((first, second)):
        torch.manual_seed(seed)
        layer(torch.randn(10, 4))
        nn.init.normal_(layer.weight)
    second(torch.randn(10, 4))  # another count of batches
    return first.state_dict(), second.state_dict()


@pytest.mark.parametrize(("alpha", "end"), [(0.0, 0), (1.0, 1)])
def test_ends_are_bit_exact(alpha: float, end: int) -> None:
    ends = states()
    point = interpolate(*ends, alpha)
    assert all(torch.equal(point[name], ends[end][name]) for name in point if point[name].is_floating_point())


def test_floating_tensors_lie_on_the_line_and_integers_are_those_of_the_first() -> None:
    first, second = states()
    point = interpolate(first, second, 0.25)
    for name in ("weight", "running_var"):
        assert torch.allclose(point[name], 0.75 * first[name] + 0.25 * second[name])
    assert point["num_batches_tracked"].dtype == torch.int64
    assert int(point["num_batches_tracked"]) == int(first["num_batches_tracked"])


def test_inputs_are_unchanged_and_share_no_memory_with_the_result() -> None:
    first, second = states()
    before = {name: tensor.clone() for name, tensor in first.items()}
    for alpha in (0.0, 0.5, 1.0):
        for tensor in interpolate(first, second, alpha).values():
            tensor.fill_(7)
    assert all(torch.equal(first[name], before[name]) for name in first)


def test_interpolate_rejects_states_of_different_names() -> None:
    first, second = states()
    del second["bias"]
    with pytest.raises(InputError, match="state_a has bias, state_b does not"):
        interpolate(first, second, 0.5)
    with pytest.raises(InputError, match="state_b has bias, state_a does not"):
        interpolate(second, first, 0.5)


def test_interpolate_rejects_states_of_different_shapes() -> None:
    first, second = states()
    second["weight"] = torch.ones(8)
    with pytest.raises(InputError, match=r"weight has shape \(4,\) in state_a and \(8,\) in state_b"):
        interpolate(first, second, 0.5)
