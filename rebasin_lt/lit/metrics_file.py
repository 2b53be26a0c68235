"""`metrics.jsonl`: what a run measured, one JSON object per epoch and stage, kept across resumes."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.files import write_text

METRICS = "metrics.jsonl"


class MetricsFile(Logger):
    """Appends each set of epoch metrics to `folder/metrics.jsonl`, on disk before the next epoch begins.

    A resumed run begins by dropping the rows of the epochs it repeats, so no epoch stands there twice. (Lightning's
    CSVLogger deletes its file on a resume.)
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / METRICS
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
            file.flush()
            os.fsync(file.fileno())

    def _drop_from(self, epoch: int) -> None:
        kept = "".join(json.dumps(row) + "\n" for row in read_rows(self.path) if row["epoch"] < epoch)
        if not self.path.exists() or self.path.read_bytes() != kept.encode():  # a line cut off goes too
            write_text(self.path, kept)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file, none if there is no file; a last line cut off by a crash is left out.

    Raises BrokenFileError, naming the line, for anything else that is no row.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _row(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{place} is not readable JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
        raise BrokenFileError(f"{place} is no row of metrics: it has no epoch")
    return row
