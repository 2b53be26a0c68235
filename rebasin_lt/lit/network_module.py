"""The base of our LightningModules: one network inside, under whose own names masks and checkpoints are written."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from lightning import LightningModule
from torch import nn

from rebasin_lt.lit._compat import NAME_OF_HOOK


class NetworkModule(LightningModule):
    """A LightningModule around one network, `net`."""

    net: nn.Module

    def __setattr__(self, name: str, value: Any) -> None:
        if name == NAME_OF_HOOK:  # of forty hooks per step: nn.Module would look whether it is a parameter
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """The settings with which `build_network` makes the network again: arch, width, num_classes, input_shape."""


def network_of(module: LightningModule) -> nn.Module:
    """The module whose parameter names masks use: our modules' network, or any other LightningModule itself."""
    return module.net if isinstance(module, NetworkModule) else module
