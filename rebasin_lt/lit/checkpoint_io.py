"""How checkpoints reach the disk."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from rebasin_lt.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Whole or not at all: written beside the old file, synced and renamed.

    Lightning writes into the system's folder for temporary files and moves the result. Where that is another file
    system, as on most clusters, moving is copying, and a run killed meanwhile leaves half a checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)
