"""`metrics.jsonl`: what a run measured, one JSON object per epoch and stage, kept across resumes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from rebasin_lt.lit._compat import epoch_metrics
from rebasin_lt.storage.files import append_text, write_text
from rebasin_lt.storage.run_records import METRICS_FILE, NOT_FINITE, read_rows


class MetricsFile(Checkpoint):
    """Appends each set of epoch metrics to `folder/metrics.jsonl`, on disk before a checkpoint says so.

    A metric that is not finite is null, and named under `not_finite` with what it was: `{"train/loss": "nan"}`.

    The checkpoint holds the number of rows that belong to it. A resumed run begins by dropping those after them, so
    none stands there twice and none is missing. (Lightning's CSVLogger deletes its file on a resume, and a logger
    hears of an epoch's metrics only after the checkpoint at its end was written.) It is a `Checkpoint` because those
    come last, when every other callback and the module have logged; put it before the others.
    """

    state_key = "rebasin_lt.metrics_file"

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / METRICS_FILE
        self._rows: int | None = None  # in the file; None before training if no checkpoint says it

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = state_dict["rows"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        rows = read_rows(self.path)
        if self._rows is None:  # a beginning, or a checkpoint of another origin
            kept = [row for row in rows if row["epoch"] < trainer.current_epoch]
        else:
            kept = rows[: self._rows]
        write_text(self.path, "".join(map(_line, kept)))
        self._rows = len(kept)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._append(trainer, pl_module)

    def _append(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = epoch_metrics(trainer)
        if not metrics or not trainer.is_global_zero:
            return
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, **dict(sorted(metrics.items()))}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_text(self.path, _line(row))
        self._rows = (self._rows or 0) + 1

    on_train_epoch_end = on_test_end = _append


def _line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON."""
    odd = {name: value for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)}
    marked = {**row, **dict.fromkeys(odd), NOT_FINITE: {name: str(value) for name, value in odd.items()}}
    return json.dumps(marked if odd else row, allow_nan=False) + "\n"
