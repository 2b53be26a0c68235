from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

sys.path.insert(0, str(Path(__file__).parent))  # for `pretended` and `small`


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The pretended device, while a test runs."""
    from accelerator import accelerated

    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch knows no backends written in Python")
    with accelerated() as found:
        yield found
