"""Generators of random numbers that callers hand over."""

from __future__ import annotations

import torch

from rebasin_lt.errors import InputError


def check_generator(generator: object) -> None:
    """Refuse what is no generator of the CPU's, on which all lots are drawn, nor None. Raises InputError."""
    if generator is None or (isinstance(generator, torch.Generator) and generator.device.type == "cpu"):
        return
    found = f"one of {generator.device}" if isinstance(generator, torch.Generator) else repr(generator)
    seed = generator if isinstance(generator, int) and not isinstance(generator, bool) else 0
    ours = f"torch.Generator().manual_seed({seed})"
    raise InputError(f"generator is {found}, expected one of the CPU's, {ours}, or None for torch's own")
