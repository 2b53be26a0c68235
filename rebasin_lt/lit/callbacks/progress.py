"""Progress on a terminal: one line on standard error, with the time that is left."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Progress(Callback):
    """Epoch, batch and time left, rewritten in place at most five times a second; silent where there is no terminal.

    It reads clocks and counters only, so it never waits for the device.
    """

    def __init__(self, title: str = "fit") -> None:
        self.title = title
        self._shown = 0.0
        self._began = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._first_step = time.monotonic(), trainer.fit_loop.total_batch_idx + 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero or not sys.stderr.isatty() or time.monotonic() - self._shown < 0.2:
            return
        self._shown = time.monotonic()
        batches, epochs = int(trainer.num_training_batches), trainer.max_epochs or 0
        done = trainer.fit_loop.total_batch_idx + 1
        pace = (self._shown - self._began) / max(1, done - self._first_step)
        left = time_left(pace * (batches * epochs - done))
        self._write(f"{self.title}: epoch {trainer.current_epoch + 1}/{epochs}, {batch_idx + 1}/{batches}, {left} left")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and sys.stderr.isatty():
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()


def time_left(seconds: float) -> str:
    """`0:07`, `12:30`, `3:02:01`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
