"""Progress of a fit on a terminal."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from rebasin_lt.process.progress_line import ProgressLine


class FitProgress(Callback):
    """Steps done and the time left, on one line of standard error; it reads counters only, never the device."""

    def __init__(self, title: str = "fit") -> None:
        self._line = ProgressLine(title)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and self._line.is_shown():
            total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
            self._line("batch", trainer.fit_loop.total_batch_idx + 1, total)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._line.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._line.clear()
