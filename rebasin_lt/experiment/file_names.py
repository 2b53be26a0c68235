"""What the files are called that stages leave for each other."""

from __future__ import annotations

FINAL = "final.ckpt"
"""The trained network of a stage that trains."""

PERMUTATION = "permutation.perm.safetensors"
"""How the units of A match those of B, as `permute` leaves it."""

DIVERGED = "diverged.json"
"""Why the last training of a stage ended without a network: its loss or weights were no finite numbers any more."""


def mask_name(target: float) -> str:
    """The mask of a target sparsity, wherever it lies."""
    return f"sparsity-{target:g}.mask.safetensors"


def ticket_name(target: float) -> str:
    """The network that was pruned to a target sparsity, beside its mask."""
    return f"sparsity-{target:g}.ckpt"


def rewind_name(moment: str) -> str:
    """The weights of a moment to rewind to, below the folder of a dense run."""
    return f"rewind/{moment}.ckpt"
