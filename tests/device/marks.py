"""A callback that says which step of training counted what."""

from __future__ import annotations

from typing import Any, ClassVar

from lightning import Callback
from pretended import Counts


class Marks(Callback):
    """Where each step of each epoch begins and ends in what was counted, the loader and the loop included."""

    counts = Counts()
    steps: ClassVar[list[tuple[list[str], list[str]]]] = []

    def __init__(self) -> None:
        self._begun: tuple[int, int] | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._begun = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        now = len(Marks.counts.reads), len(Marks.counts.sends)
        if self._begun is not None:
            Marks.steps.append((Marks.counts.reads[self._begun[0] :], Marks.counts.sends[self._begun[1] :]))
        self._begun = now
