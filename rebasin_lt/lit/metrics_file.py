"""`metrics.jsonl`: what a run measured, one JSON object per epoch and stage, kept across resumes."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from rebasin_lt.files import write_text


class MetricsFile(Logger):
    """Appends each set of epoch metrics to `folder/metrics.jsonl`, on disk before the next epoch begins.

    A resumed run begins by dropping the rows of the epochs it repeats, so no epoch stands there twice. (Lightning's
    CSVLogger deletes its file on a resume.)
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.jsonl"
        self._resumed = False

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration lies beside, in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        epoch = int(metrics["epoch"])
        values = {name: float(value) for name, value in sorted(metrics.items()) if name != "epoch"}
        if not self._resumed:
            self._drop_from(epoch)
            self._resumed = True
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, "step": step, **values}) + "\n")

    def _drop_from(self, epoch: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = read_rows(self.path)
        kept = [row for row in rows if row["epoch"] < epoch]
        if len(kept) < len(rows) or not self.path.exists():
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file, none if there is no file; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
