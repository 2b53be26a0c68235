"""A callback by which a test meets a run at a known step, however fast or slow the machine is."""

from __future__ import annotations

import time
from pathlib import Path

from lightning import Callback

from rebasin_lt.process.stop_request import stop_request


class Hold(Callback):
    """Before the step `at`, where the file `hold` lies beside the run: writes `held-RANK`, and waits for a signal."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step != self.at or not Path("hold").exists():
            return
        Path(f"held-{trainer.global_rank}").touch()
        end = time.monotonic() + 60
        while stop_request.signal is None and time.monotonic() < end:
            time.sleep(0.05)
