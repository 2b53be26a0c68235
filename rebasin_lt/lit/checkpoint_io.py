"""Lightning's reading and writing of checkpoint files: whole or not at all, and without unpickling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from rebasin_lt.lit.checkpoint_file import read_checkpoint, write_checkpoint
from rebasin_lt.pruning.mask import Mask


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints as every file here.

    Lightning's own holds the whole file in memory, writes it to the system's folder for temporary files and moves it:
    onto another disk that is a copy, which a crash cuts off, and neither file nor folder is synced. Its reader takes
    pickles where an environment variable says so.
    """

    hold_masks: Callable[[], Sequence[Mask]] = staticmethod(tuple)
    """Has the trainer's guards zero what they prune, and says their masks: weights saved alone come without theirs."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write atomically. Raises OSError naming the file and the reason, and as `write_checkpoint`."""
        write_checkpoint(path, checkpoint, self.hold_masks())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The checkpoint, if `read_checkpoint` accepts it, on the CPU; Lightning moves it from there."""
        return read_checkpoint(path)
