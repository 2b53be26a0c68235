"""`max_time` as a job's: what is out of time stops as what is preempted does, and goes on with the next job."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from rebasin_lt.process.stop_request import stop_request


class TimeLimit(Callback):
    """Asks the run to stop when the time is up, as a signal does; `Preemption` grants it where nothing is lost.

    Lightning's own Timer ends an epoch anywhere as if it were whole, saves the time that was used, and so ends every
    later job at once. This one counts from the beginning of each fit and keeps nothing.

    Args:
        max_time: `DD:HH:MM:SS`, a timedelta, or its arguments by name, as the trainer's `max_time`
    """

    def __init__(self, max_time: str | timedelta | dict[str, int]) -> None:
        self.seconds = float(Timer(max_time).time_remaining() or 0)
        self._end = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end = time.monotonic() + self.seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if stop_request.signal is None and time.monotonic() >= self._end:
            stop_request.signal = "max_time"
