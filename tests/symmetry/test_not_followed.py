"""An operator without a rule costs what it touches and nothing else; a second export is used where it moves more."""

from __future__ import annotations

from collections.abc import Callable

import networks as nets
import pytest
import torch
from torch import Tensor, nn

from rebasin_lt.symmetry.export import Program, example_call, export
from rebasin_lt.symmetry.rules import RULES
from rebasin_lt.symmetry.trace import Symmetry, read_symmetry, trace_symmetry


def perceptron(between: Callable[[Tensor], Tensor]) -> nn.Module:
    return nets.Net(lambda net, x: net.c(between(net.a(x))), a=nn.Linear(5, 6), c=nn.Linear(6, 3))


def typed_without(names: set[str], network: nn.Module, x: Tensor) -> Symmetry:
    rules = {name: rule for name, rule in RULES.items() if name not in names}
    return read_symmetry(export(network, example_call(network, x)), network, rules)


def refuse(program: Program) -> Program:
    raise ValueError("\ncannot be said\nin many lines")


def test_operator_that_touches_no_unit_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers spread over the batch may be exchanged, but are no parameter's; so there is no second export either."""
    monkeypatch.setattr(Program, "decomposed", refuse)
    network = perceptron(lambda h: h.relu() + torch.arange(6.0).expand(h.shape).unfold(1, 2, 1).sum())
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert (symmetry.groups, symmetry.unknown) == ({"a.weight": 6}, {})


CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rotations": lambda h: torch.view_as_real(torch.polar(torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))).flatten(),
    "spread": lambda h: torch.linspace(0, 1, 6),
    "alike": lambda h: torch.kron(torch.ones(2), torch.arange(3.0)),
    "windows": lambda h: torch.arange(7.0).unfold(0, 2, 1).sum(1),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_operator_on_constants_costs_what_a_constant_does_and_no_second_export(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does, the result stays: so are the units that it meets, and those alone."""
    monkeypatch.setattr(Program, "decomposed", refuse)
    network = nets.Net(
        lambda net, x: net.c((net.a(x) * CONSTANTS[name](x)) @ net.b),
        a=nn.Linear(5, 6),
        b=nets.weight(6, 4),
        c=nn.Linear(4, 3),
    )
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert (symmetry.groups, symmetry.unknown) == ({"b": 4}, {})
    assert {item.reason for item in symmetry.frozen if item.name == "b"} == {"a constant"}


def test_operator_on_labels_of_units_is_told_though_they_are_numbers_in_their_order() -> None:
    """Which unit is the largest is compared with numbers that an operator without a rule looks at."""

    def run(net: nets.Net, x: Tensor) -> Tensor:
        h, numbers = net.a(x), torch.arange(6)
        chosen = (h.argmax(1)[:, None] == numbers).to(h.dtype)
        return net.c(chosen * numbers.unfold(0, 1, 1).sum(1))

    symmetry = trace_symmetry(nets.Net(run, a=nn.Linear(5, 6), c=nn.Linear(6, 3)), torch.randn(8, 5))
    assert (symmetry.groups, symmetry.unknown) == ({}, {"unfold": "operator unfold has no rule"})


def test_operator_that_touches_units_is_told_also_if_they_show_later() -> None:
    """The numbers that it takes belong to no parameter yet."""

    def run(net: nets.Net, x: Tensor) -> Tensor:
        numbers = x.sum(1, keepdim=True).expand(-1, 6)
        windows = numbers.unfold(1, 2, 1).sum()
        return net.c(net.a(x) * numbers + windows)

    symmetry = trace_symmetry(nets.Net(run, a=nn.Linear(5, 6), c=nn.Linear(6, 3)), torch.randn(2, 5))
    assert (symmetry.groups, symmetry.unknown) == ({}, {"unfold": "operator unfold has no rule"})


def test_failing_second_export_leaves_the_first_typing_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "decomposed", refuse)
    network = nets.Net(
        lambda net, x: net.d(net.c(net.a(x).relu()).unfold(1, 2, 1).sum(2)),
        **{name: nn.Linear(*sizes) for name, sizes in {"a": (5, 6), "c": (6, 4), "d": (3, 3)}.items()},
    )
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert symmetry.groups == {"a.weight": 6}
    assert symmetry.unknown == {
        "unfold": "operator unfold has no rule",
        "core operators": "PyTorch cannot say Net in core operators: cannot be said",
    }


def test_of_two_typings_the_one_that_moves_more_is_kept() -> None:
    network, x = perceptron(torch.relu), torch.randn(2, 5)
    assert typed_without({"linear"}, network, x).groups == {"a.weight": 6}  # the second knows addmm
    symmetry = typed_without({"softplus", "addmm"}, perceptron(lambda h: h.relu() + h.unfold(1, 2, 1).sum()), x)
    assert symmetry.unknown == {"unfold": "operator unfold has no rule"}
    wider = nets.Net(
        lambda net, x: net.d(net.c(net.a(x).relu()).unfold(1, 2, 1).sum(2)),
        **{name: nn.Linear(*sizes) for name, sizes in {"a": (5, 6), "c": (6, 4), "d": (3, 3)}.items()},
    )
    assert typed_without({"addmm"}, wider, x).groups == {"a.weight": 6}  # the second would lose all


def size_alone(net: nets.Net, h: Tensor) -> None:
    assert h[..., -1].shape[1] == 4


def dtype_alone(net: nets.Net, h: Tensor) -> None:
    h[..., :2].to(h.dtype)


def unread(net: nets.Net, h: Tensor) -> None:
    torch.linalg.matrix_exp(h @ h.transpose(1, 2) @ net.unread)


@pytest.mark.parametrize("look", [size_alone, dtype_alone, unread])
def test_what_nobody_reads_asks_nothing_of_its_axes(look: Callable[[nets.Net, Tensor], None]) -> None:
    """Of one unit only the size is asked for, or the dtype; an operator without a rule returns what is not returned."""

    def run(net: nets.Net, x: Tensor) -> Tensor:
        h = net.a(x).relu()
        look(net, h)
        return net.c(h)

    network = nets.Net(run, a=nn.Linear(5, 6), c=nn.Linear(6, 3), unread=nets.weight(4, 4))
    symmetry = trace_symmetry(network, torch.randn(2, 4, 5))
    assert (symmetry.groups, symmetry.unknown) == ({"a.weight": 6}, {})


def test_what_is_written_counts_though_the_step_that_wrote_is_read_by_nobody() -> None:
    def run(net: nets.Net, x: Tensor) -> Tensor:
        h = net.a(x).relu()
        h[:, 0].mul_(2)
        return net.c(h)

    symmetry = trace_symmetry(nets.Net(run, a=nn.Linear(5, 6), c=nn.Linear(6, 3)), torch.randn(2, 5))
    assert symmetry.groups == {"a.weight": 5}
