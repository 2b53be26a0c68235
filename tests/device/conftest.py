from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for `pretended` and `small`


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The pretended device, while a test runs."""
    from accelerator import accelerated

    with accelerated() as found:
        yield found
