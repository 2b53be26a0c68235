"""The base of our LightningModules: one network inside, under whose own names masks and checkpoints are written."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from lightning import LightningModule

from rebasin_lt.batches import Wrapper
from rebasin_lt.lit._compat import NAME_OF_HOOK


class NetworkModule(LightningModule, Wrapper):
    """A LightningModule around one network, `net`.

    >>> issubclass(rb.Classifier, rb.NetworkModule)
    True
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == NAME_OF_HOOK:  # of forty hooks per step: nn.Module would look whether it is a parameter
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """The settings with which `build_network` makes the network again: arch, width, num_classes, input_shape."""
