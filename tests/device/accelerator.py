"""The pretended device for Lightning: an accelerator and a strategy of its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry
from pretended import NAME
from pretending import pretending, register

TRAINER = {"accelerator": NAME, "strategy": NAME}


class PretendedAccelerator(Accelerator):
    """One pretended device."""

    def setup_device(self, device: torch.device) -> None:
        assert device.type == NAME

    def teardown(self) -> None:
        pass

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(NAME, 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


def register_accelerator() -> None:
    """Make accelerator and strategy known to Lightning, once in a process."""
    register()
    if NAME not in AcceleratorRegistry.available_accelerators():
        AcceleratorRegistry.register(NAME, PretendedAccelerator, description="a device that is not there")
        StrategyRegistry.register(
            NAME,
            SingleDeviceStrategy,
            description="on it",
            device=torch.device(NAME, 0),
            accelerator=PretendedAccelerator(),
        )


@contextmanager
def accelerated() -> Iterator[torch.device]:
    """Within, the pretended device is there, for Lightning too."""
    register_accelerator()
    with pretending() as device:
        yield device
