"""The device that a benchmark runs on; without a GPU it may be the tests' pretended one, to try a GPU's path out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PRETENDED = "pretended"


@contextmanager
def opened(device: str) -> Iterator[None]:
    """Within, tensors can be on the device."""
    if device != PRETENDED:
        yield
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "device"))
    from accelerator import accelerated

    with accelerated():
        yield


def trainer_on(device: str) -> dict[str, Any]:
    """What a Trainer is told to train there."""
    if device == PRETENDED:
        return {"accelerator": PRETENDED, "strategy": PRETENDED}
    return {"accelerator": "gpu" if device.startswith("cuda") else device}
