"""Every failure of an export comes with what to do about it, in one line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from networks import Net
from torch import Tensor, nn

from rebasin_lt.errors import InputError, SymmetryError
from rebasin_lt.symmetry.trace import trace_symmetry

CONTROL_FLOW = "trace a submodule without control flow that depends on data, such as trace_symmetry(model.backbone"


class Needing(nn.Linear):
    """Asks for a second input by its name, as encoders and decoders do."""

    def forward(self, x: Tensor, decoder_input_ids: Tensor | None = None) -> Tensor:
        if decoder_input_ids is None:
            raise ValueError("you must specify decoder_input_ids")
        return super().forward(x) * decoder_input_ids


class Caching(nn.Linear):
    def forward(self, x: Tensor, cache: object = None) -> Tensor:
        return super().forward(x)


def choosing(net: Net, x: Tensor) -> Tensor:
    return net.a(x) if x.sum() > 0 else net.a(-x)


def numpy(net: Net, x: Tensor) -> Tensor:
    return net.a(x) * float(x.numpy().sum())


def missing(net: Net, x: Tensor) -> Tensor:
    raise ImportError("needs a package")


def refused(network: nn.Module, inputs: object) -> str:
    with pytest.raises(SymmetryError, match="cannot be traced") as caught:
        trace_symmetry(network, inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("forward", [choosing, numpy])
def test_control_flow_on_data(forward) -> None:
    assert CONTROL_FLOW in refused(Net(forward, a=nn.Linear(5, 3)), torch.randn(2, 5))


def test_experts_that_are_chosen_one_by_one() -> None:
    network = Net(choosing, a=nn.Linear(5, 3))
    network.config = SimpleNamespace(_experts_implementation="eager")
    assert "model.set_experts_implementation('batched_mm')" in refused(network, torch.randn(2, 5))


@pytest.mark.parametrize(
    ("network", "inputs", "advice"),
    [
        (Needing(5, 3), torch.randn(2, 5), "give every input that it needs by name"),
        (Caching(5, 3), (torch.randn(2, 5), SimpleNamespace()), r"leave caches out (use_cache=False)"),
        (nn.Linear(5, 3), torch.randn(2, 4), "give an example of a shape that it takes, the batch first"),
        (Net(missing, a=nn.Linear(5, 3)), torch.randn(2, 5), "make sure that it runs in evaluation mode"),
    ],
    ids=["input", "cache", "shape", "other"],
)
def test_other_failures_say_nothing_of_control_flow(network: nn.Module, inputs: object, advice: str) -> None:
    message = refused(network, inputs)
    assert advice in message
    assert "control flow" not in message


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_sequence_before_the_batch_is_refused(cell: type[nn.RNNBase]) -> None:
    def run(net: Net, x: Tensor) -> Tensor:
        return net.c(net.cell(x)[0])

    layers = {"cell": cell(5, 6), "c": nn.Linear(6, 3)}
    with pytest.raises(InputError, match=r"the sequence first, for Net has a recurrence without batch_first, expected"):
        trace_symmetry(Net(run, **layers), torch.randn(4, 2, 5))
    turned = Net(lambda net, x: run(net, x.transpose(0, 1))[-1], **layers)
    assert dict(trace_symmetry(turned, torch.randn(2, 4, 5)).groups) == {"cell.weight_ih_l0": 6}
