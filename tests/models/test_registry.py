"""Networks by name: the three kinds of name, and what is said about one that is not known."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network, default_input_shape

OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, input_shape=(2, 5, 5)):
        super().__init__()
        self.made_with = (num_classes, input_shape)

def wide(width, **others):
    net = nn.Linear(1, 1)
    net.made_with = {"width": width, **others}
    return net

def handing_on(**kwargs):
    network = Strict(**kwargs)
    network.made_with = kwargs
    return network

class Strict(nn.Module):
    def __init__(self, num_classes):
        super().__init__()

class Bare(nn.Module):
    def __init__(self, *layers, **others):
        super().__init__(*layers, **others)

def broken():
    return len(3)

def plain():
    return nn.Linear(1, 1)

def wrong():
    return "a network"

constant = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module with factories of a user's."""
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    return "own_networks"


def test_default_input_shapes(own: str) -> None:
    assert default_input_shape("mlp") == (1, 8, 8)
    assert default_input_shape("resnet56") == default_input_shape("vgg11_bn") == (3, 32, 32)
    assert default_input_shape("resnet50") == default_input_shape("torchvision:alexnet") == (3, 224, 224)
    assert default_input_shape(f"{own}:Net") == (2, 5, 5)
    assert default_input_shape(f"{own}:plain") == (3, 32, 32)


def test_torchvision_network_is_built_untrained_with_its_classes() -> None:
    network = build_network("torchvision:squeezenet1_1", num_classes=6).eval()
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 6)


def test_torchvision_refusals() -> None:
    with pytest.raises(InputError, match=r"which torchvision does not have \(did you mean resnet\d+\?\)$"):
        build_network("torchvision:resnet19")
    with pytest.raises(InputError, match="model is torchvision:qqqqqqq, which torchvision does not have$"):
        build_network("torchvision:qqqqqqq")
    with pytest.raises(InputError, match="width is 2, but torchvision:resnet18 has one width only"):
        build_network("torchvision:resnet18", width=2)
    with pytest.raises(InputError, match=r"input_shape is \[1, 32, 32\], but torchvision:resnet18 takes images of 3"):
        build_network("torchvision:resnet18", input_shape=(1, 32, 32))


def test_own_factory_gets_the_arguments_it_accepts(own: str) -> None:
    assert build_network(f"{own}:Net", num_classes=4).made_with == (4, (2, 5, 5))
    assert build_network(f"{own}:Net", num_classes=4, input_shape=(1, 2, 3)).made_with == (4, (1, 2, 3))
    assert build_network(f"{own}:wide", width=2).made_with == {"width": 2, "num_classes": 10}
    assert build_network(f"{own}:plain").in_features == 1


def test_a_factory_that_hands_on_anything_gets_what_was_given(own: str) -> None:
    assert build_network(f"{own}:handing_on", num_classes=4, input_shape=(3, 8, 8)).made_with == {"num_classes": 4}
    with pytest.raises(
        InputError, match="'own_networks:handing_on', which cannot be made with width, num_classes: .*'width'"
    ):
        build_network(f"{own}:handing_on", width=2)
    with pytest.raises(InputError, match="own_networks:Bare', which cannot be made with num_classes: .*'num_classes'"):
        build_network(f"{own}:Bare")
    with pytest.raises(
        InputError, match="own_networks:broken', which cannot be made with no arguments: TypeError: .* no len"
    ):
        build_network(f"{own}:broken")


def test_own_factory_refusals(own: str) -> None:
    with pytest.raises(InputError, match="width is 2, but own_networks:plain takes no argument `width`"):
        build_network(f"{own}:plain", width=2)
    with pytest.raises(InputError, match="'own_networks:wrong', which made a str, expected a torch.nn.Module"):
        build_network(f"{own}:wrong")
    with pytest.raises(InputError, match="'own_networks:constant', a int, expected a function or class"):
        build_network(f"{own}:constant")
    with pytest.raises(InputError, match="'own_networks:absent', which cannot be imported"):
        build_network(f"{own}:absent")
    with pytest.raises(InputError, match="'no_such_package.nets:Net', which cannot be imported: No module named"):
        build_network("no_such_package.nets:Net")


@pytest.mark.parametrize("ask", [build_network, default_input_shape])
def test_unknown_name_lists_the_names_and_the_closest(ask) -> None:
    with pytest.raises(
        InputError, match=r"'resnet21', which is not known \(did you mean resnet\d+\?\): expected mlp, "
    ):
        ask("resnet21")
    with pytest.raises(InputError, match=r"'quux', which is not known: expected mlp, .*package\.module:factory"):
        ask("quux")
    with pytest.raises(InputError, match="':Net', which is not known"):
        ask(":Net")
