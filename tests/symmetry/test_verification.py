"""Verification holds for networks as people write them: tied through `.data`, with hard-coded dtypes, nested inputs."""

from __future__ import annotations

import copy

import networks as nets
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from rebasin_lt.errors import SymmetryError
from rebasin_lt.report.analyses.symmetry import as_text
from rebasin_lt.symmetry.trace import trace_symmetry


def test_weights_tied_through_data_are_one() -> None:
    network = nets.Net(
        lambda net, x: net.c(net.a(x).relu()) + net.d(net.b(x).tanh()),
        **{name: nn.Linear(5, 6) for name in "ab"},
        **{name: nn.Linear(6, 3) for name in "cd"},
    )
    assert trace_symmetry(network, torch.randn(2, 5)).groups == {"a.weight": 6, "b.weight": 6}
    network.b.weight.data = network.a.weight.data
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert symmetry.groups == {"a.weight": 6}
    inputs, permuted = torch.randn(5, 5), copy.deepcopy(network)
    permuted.load_state_dict(symmetry.permute(network.state_dict(), symmetry.random()))
    torch.testing.assert_close(permuted(inputs), network(inputs))


def test_weights_that_overlap_in_memory_are_fixed() -> None:
    network = nets.Net(lambda net, x: net.c(net.a(x).relu()), a=nn.Linear(4, 6), c=nn.Linear(6, 4))
    storage = torch.randn(30)
    network.a.weight.data, network.c.weight.data = storage[:24].view(6, 4), storage[6:].view(4, 6)
    symmetry = trace_symmetry(network, torch.randn(2, 4))
    assert not symmetry.groups
    assert any("shares memory" in item.reason for item in symmetry.frozen)


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.c(net.a(x).relu().float()),
        lambda net, x: net.c((net.a(x) + torch.zeros(x.shape[0], 6)).softmax(1, dtype=torch.float32)),
        lambda net, x: net.c(net.a(x).to(torch.float32).square().mean(1, keepdim=True).rsqrt() * net.a(x)),
    ],
    ids=["float", "softmax", "norm"],
)
def test_hard_coded_precision_does_not_blur_the_check(forward) -> None:
    network = nets.Net(forward, a=nn.Linear(5, 6), c=nn.Linear(6, 3))
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert list(symmetry.groups.values()) == [6]
    assert symmetry.error < 1e-12
    assert torch.get_default_dtype() == torch.float32


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, both: dict[str, Tensor], more: list[Tensor]) -> dict[str, Tensor]:
        return {"out": self.b((self.a(both["x"]) + self.a(more[0])).relu())}


@pytest.mark.parametrize("batch", [1, 3])
def test_nested_inputs_and_outputs(batch: int) -> None:
    inputs = ({"x": torch.randn(batch, 5)}, [torch.randn(batch, 5)])
    assert trace_symmetry(Nested(), inputs).groups == {"a.weight": 6}


def test_integer_outputs_are_compared_exactly() -> None:
    network = nets.Net(lambda net, x: net.c(net.a(x).cumsum(1)).argmax(1), a=nn.Linear(5, 6), c=nn.Linear(6, 3))
    assert trace_symmetry(network, torch.randn(2, 5)).groups == {}
    plain = nets.Net(lambda net, x: net.c(net.a(x).relu()).argmax(1), a=nn.Linear(5, 6), c=nn.Linear(6, 3))
    symmetry = trace_symmetry(plain, torch.randn(64, 5))
    assert symmetry.error == 0
    ordered = nets.Net(lambda net, x: net.c(net.a(x).cumsum(1)).argmax(1), a=nn.Linear(5, 6), c=nn.Linear(6, 3))
    with pytest.raises(SymmetryError, match="changes the outputs"):
        symmetry.verify(ordered, torch.randn(64, 5))


def test_network_that_cannot_be_copied_is_one_line() -> None:
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    prune.l1_unstructured(network[0], "weight", 0.5)
    with pytest.raises(SymmetryError, match=r"cannot be verified.*verify=False skips the check") as caught:
        trace_symmetry(network, torch.randn(2, 5))
    assert "\n" not in str(caught.value)


def test_state_that_is_no_tensor_is_left_alone() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 1}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    network = nn.Sequential(Extra(5, 6), nn.ReLU(), nn.Linear(6, 3))
    assert trace_symmetry(network, torch.randn(2, 5)).groups == {"0.weight": 6}


@pytest.mark.parametrize(("first", "second", "passes"), [(4e-9, 1e-15, True), (4e-9, 2e-9, False), (2e-6, 0.0, False)])
def test_amplified_rounding_is_measured_again_and_nothing_else(monkeypatch, first, second, passes) -> None:
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    gains = []

    def error(*_, gain: float = 1.0) -> float:
        gains.append(gain)
        return first if gain == 1 else second

    monkeypatch.setattr("rebasin_lt.symmetry.verification.permutation_error", error)
    if passes:
        assert symmetry.verify(network, torch.randn(2, 5)) == second
    else:
        with pytest.raises(SymmetryError, match="changes the outputs"):
            symmetry.verify(network, torch.randn(2, 5))
    assert gains == ([1.0, 0.9] if first <= 1e-6 else [1.0])


class Keeping(nn.Linear):
    """In evaluation mode it keeps what it made of its bias, as LeViT does."""

    def __init__(self) -> None:
        super().__init__(6, 6)
        self.kept: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> Keeping:
        if mode:
            self.kept = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or "bias" not in self.kept:
            self.kept["bias"] = self.bias.sin()
        return x @ self.weight.T + self.kept["bias"]


def test_tensors_kept_in_evaluation_mode_do_not_outlive_a_run() -> None:
    network = nn.Sequential(nn.Linear(5, 6), Keeping(), nn.Linear(6, 3)).eval()
    x = torch.randn(2, 5)
    assert trace_symmetry(network, x).groups == {"0.weight": 6, "1.bias": 6}
    assert not any(module.training for module in network.modules())
    hidden = network[0](x) @ network[1].weight.T + network[1].bias.sin()
    torch.testing.assert_close(network(x), network[2](hidden))  # nothing of the export is left in it


@torch.library.custom_op("rebasin_lt_tests::single", mutates_args=())
def single(h: Tensor) -> Tensor:
    """Runs in float32 only."""
    if h.dtype != torch.float32:
        raise RuntimeError(f"expected float32, got {h.dtype}")
    return h.clone()


single.register_fake(torch.empty_like)


def test_network_that_does_not_run_in_float64_is_checked_in_float32() -> None:
    network = nets.Net(
        lambda net, x: net.c(net.a(x).relu() + 0 * single(x).sum()), a=nn.Linear(5, 6), c=nn.Linear(6, 3)
    )
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert symmetry.checked_in == "float32"
    assert symmetry.error < 1e-5
    assert "relative error of" in as_text(symmetry)
    assert "in float32, for the network does not run in float64" in as_text(symmetry)
    ordered = nets.Net(
        lambda net, x: net.c(net.a(x).cumsum(1) + 0 * single(x).sum()), a=nn.Linear(5, 6), c=nn.Linear(6, 3)
    )
    with pytest.raises(SymmetryError, match=r"changes the outputs of Net .* \(expected at most 0.0001\)"):
        symmetry.verify(ordered, torch.randn(2, 5))
