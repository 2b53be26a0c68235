"""What cannot be traced or permuted is refused in one line that names it; what was given is left as it was."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networks as nets
import pytest
import torch
from networks import traced
from torch import Tensor, nn

from rebasin_lt.errors import InputError, SymmetryError
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry import programs
from rebasin_lt.symmetry.trace import infer_symmetry, trace_symmetry

HINT = "trace a submodule"


class Branching(nn.Module):
    """Which layer runs depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.backbone(x)
        if h.sum() > 0:  # here
            h = h.relu()
        return self.head(h)


class Selecting(nn.Linear):
    """How many elements it sums depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x[x > 0].sum()  # sized


def line_of(text: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def message_of(network: nn.Module, x: object) -> str:
    with pytest.raises(SymmetryError) as caught:
        trace_symmetry(network, x)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_control_flow_on_data_names_the_line_and_the_way_out(capfd: pytest.CaptureFixture[str]) -> None:
    message = message_of(Branching(), torch.randn(2, 5))
    line = line_of("# he" + "re")
    assert message.startswith(f"Branching cannot be traced at {__file__}:{line} (if h.sum() > 0:")
    assert HINT in message
    assert "trace_symmetry(model.backbone, inputs)" in message
    assert capfd.readouterr() == ("", "")  # torch has no say in it


def test_way_out_works() -> None:
    assert dict(trace_symmetry(Branching().backbone, torch.randn(2, 5)).groups) == {"0.weight": 6}


def test_size_that_depends_on_data_names_the_line() -> None:
    message = message_of(Selecting(5, 6), torch.randn(2, 5))
    assert f"the size of what index returns at {__file__}:{line_of('# si' + 'zed')} depends on the data" in message
    assert HINT in message


def test_arguments_that_do_not_fit_the_network_are_told() -> None:
    message = message_of(nn.Linear(5, 6), torch.randn(2, 4))
    assert message.startswith("Linear cannot be traced")
    assert re.search("shape|size|dim", message)
    with pytest.raises(
        InputError, match=r"Linear takes 1 input\(s\) \(input\), but 2 input\(s\) are given: too many pos"
    ):
        trace_symmetry(nn.Linear(5, 6), (torch.randn(2, 5), torch.randn(2, 5)))


@pytest.mark.parametrize("wrong", [[1, 2], "images", None, (), (3, "no tensor"), {"x": 1}])
def test_example_inputs_must_be_tensors(wrong: object) -> None:
    with pytest.raises(InputError, match=rf"example_inputs is a {type(wrong).__name__}, expected a tensor, a tuple"):
        trace_symmetry(nn.Linear(5, 6), wrong)


def test_a_second_input_is_no_dict_of_arguments_by_name() -> None:
    with pytest.raises(
        InputError, match=r"example_kwargs is a Tensor, expected a dict .*: example_inputs=\(first, sec"
    ):
        trace_symmetry(nn.Bilinear(5, 4, 6), torch.randn(2, 5), torch.randn(2, 4))


def test_permute_refuses_names_and_shapes_of_another_network() -> None:
    network, symmetry = traced(nets.flattened)
    state = network.state_dict()
    with pytest.raises(
        InputError, match=r"tensors has b\.weight, which this network does not have: .*a\.weight, c\.weight"
    ):
        symmetry.permute({"b.weight": state["a.weight"]}, symmetry.identity())
    with pytest.raises(InputError, match=r"a\.weight has shape \(6, 2\), expected \(6, 2, 3, 3\)"):
        symmetry.permute({"a.weight": state["a.weight"][:, :, 0, 0]}, symmetry.identity())
    with pytest.raises(InputError, match=r"c\.bias has shape \(4,\), expected \(3,\)"):
        symmetry.permute({"c.bias": torch.zeros(4)}, symmetry.identity())


def test_permute_refuses_groups_of_another_network_and_of_other_sizes() -> None:
    network, symmetry = traced(nets.flattened)
    for tensors in (network.state_dict(), {}):
        with pytest.raises(InputError, match=r"a group b\.weight, which this network does not have: a\.weight"):
            symmetry.permute(tensors, {"b.weight": torch.arange(6)})
        with pytest.raises(InputError, match=r"permutation of a\.weight has 5 units, expected 6"):
            symmetry.permute(tensors, {"a.weight": torch.arange(5)})


def test_verify_refuses_the_symmetry_of_another_network() -> None:
    """Both have the same names and shapes; only one does without its activations' order."""
    plain = nets.Net(lambda net, x: net.c(net.a(x).relu()), a=nn.Linear(5, 6), c=nn.Linear(6, 3))
    ordered = nets.Net(lambda net, x: net.c(net.a(x).cumsum(1)), a=nn.Linear(5, 6), c=nn.Linear(6, 3))
    x = torch.randn(2, 5)
    symmetry = infer_symmetry(plain, x)
    assert symmetry.verify(plain, x) <= 1e-10
    with pytest.raises(
        SymmetryError, match=r"changes the outputs of Net by a relative error of .* \(expected at most 1e-09\)"
    ):
        symmetry.verify(ordered, x)
    with pytest.raises(InputError, match="which this network does not have|has shape"):
        symmetry.verify(nets.flattened(), torch.randn(2, 2, 4, 4))


@pytest.mark.parametrize("constant", ["ones", "zeros"])
def test_verify_is_not_fooled_by_parameters_that_are_all_alike(constant: str) -> None:
    """As norms are initialised, and layers that start at zero: no permutation shows on them."""
    cumulative = nets.Net(
        lambda net, x: (net.a(x) * net.scale).cumsum(1)[:, -2:], a=nn.Linear(5, 6), scale=nets.weight(6)
    )
    plain = nets.Net(lambda net, x: (net.a(x) * net.scale).sum(1), a=nn.Linear(5, 6), scale=nets.weight(6))
    symmetry = infer_symmetry(plain, torch.randn(2, 5))
    for parameter in cumulative.parameters():
        getattr(nn.init, f"{constant}_")(parameter)
    with pytest.raises(SymmetryError, match="changes the outputs"):
        symmetry.verify(cumulative, torch.randn(2, 5))


def test_verify_refuses_outputs_that_are_not_numbers() -> None:
    network = nets.Net(lambda net, x: net.c(net.a(x).relu()).log() * float("nan"), a=nn.Linear(5, 6), c=nn.Linear(6, 3))
    with pytest.raises(
        SymmetryError, match="outputs of Net under random weights are not finite.*verify=False skips the check"
    ):
        trace_symmetry(network, torch.randn(2, 5))


def test_network_and_example_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(), nn.Linear(24, 3)
    )
    network.train()
    network[1].eval()
    x = torch.randn(4, 2, 4, 4)
    network(x).sum().backward()
    before = copy.deepcopy(network.state_dict())
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    identities = {name: (id(p), p.data_ptr()) for name, p in network.named_parameters()}
    image, state = x.clone(), torch.get_rng_state()
    assert trace_symmetry(network, x).groups
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, image)
    assert [module.training for module in network] == [True, False, True, True, True, True]
    assert network.training
    assert {name: (id(p), p.data_ptr()) for name, p in network.named_parameters()} == identities
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.grad, gradients[name])
        assert parameter.requires_grad
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_mode_is_restored_after_a_failure() -> None:
    network = Branching().train()
    network.head.eval()
    message_of(network, torch.randn(2, 5))
    assert network.training
    assert not network.head.training


def test_memory_that_runs_out_is_no_other_computation(monkeypatch) -> None:
    """A RuntimeError too, but not one that says that a program does not fit the batch."""

    def full(*_: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(programs, "execute", full)
    program: Any = SimpleNamespace(is_decomposed=True, tried=set())
    with pytest.raises(torch.OutOfMemoryError):
        programs._runs(program, [{}], ForwardCall((torch.zeros(1),)))
