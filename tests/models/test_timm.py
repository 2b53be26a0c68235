"""timm's networks by name: what is handed to timm, and what is said where it cannot be."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network, default_input_shape


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for timm with two networks, and what it is called with."""
    asked: list[dict[str, Any]] = []
    known = ["resnet18", "resnet34"]

    def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        asked.append({"name": name, "pretrained": pretrained, **kwargs})
        return nn.Linear(3, kwargs["num_classes"])

    timm = ModuleType("timm")
    size = {"resnet18": (3, 224, 224), "resnet34": (3, 299, 299)}
    timm.create_model, timm.list_models, timm.is_model = create_model, lambda: known, known.__contains__  # type: ignore[attr-defined]
    timm.get_pretrained_cfg = lambda name: SimpleNamespace(input_size=size[name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    return asked


def test_only_what_was_given_is_handed_on(calls: list[dict[str, Any]]) -> None:
    build_network("timm:resnet18", num_classes=7)
    build_network("timm:resnet34", num_classes=5, input_shape=(1, 64, 64))
    assert calls == [
        {"name": "resnet18", "pretrained": False, "num_classes": 7},
        {"name": "resnet34", "pretrained": False, "num_classes": 5, "in_chans": 1},
    ]


@pytest.mark.usefixtures("calls")
def test_the_images_that_a_network_is_meant_for() -> None:
    assert default_input_shape("timm:resnet34") == (3, 299, 299)


@pytest.mark.usefixtures("calls")
def test_refusals_are_one_short_line() -> None:
    with pytest.raises(
        InputError, match=r"model is timm:resnet35, which timm does not have \(did you mean resnet34\?\)$"
    ):
        build_network("timm:resnet35")
    with pytest.raises(InputError, match="width is 2, but timm:resnet18 has one width only"):
        build_network("timm:resnet18", width=2)


def test_without_timm_the_refusal_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for ask in (build_network, default_input_shape):
        with pytest.raises(InputError, match="model is timm:resnet18, but timm is not installed: pip install timm"):
            ask("timm:resnet18")


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "timm.models.resnet:resnet18", "timm.models:vit_tiny_patch16_224", "timm.models:resnet18"]
)
def test_networks_of_timm_itself(name: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    size = 224 if "vit" in name else 32
    assert build_network(name, num_classes=7, input_shape=(3, size, size)).eval()(
        torch.zeros(1, 3, size, size)
    ).shape == (1, 7)
