"""What `test`, `validate` and `predict` found: told, and kept in the run's folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning import Trainer
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.judging.chance import collapse_text
from rebasin_lt.lit.run_facts import classes_of
from rebasin_lt.process.terminal_text import say
from rebasin_lt.storage.files import write_text
from rebasin_lt.storage.run_records import read_facts, record_evaluation


def tell_metrics(trainer: Trainer, verb: str, checkpoint: Path, step: int, quiet: bool) -> None:
    """Print what `test` or `validate` found, and keep it in the folder of the run whose checkpoint it is."""
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    for name, value in found.items():
        if not quiet:
            say(f"{name}\t{value:.4f}")
    folder, module = trainer.default_root_dir, trainer.lightning_module
    is_sparse = read_facts(Path(folder)).get("sparsity") is not None
    if lost := collapse_text(found, classes_of(trainer, module), folder, is_sparse):
        say(f"{folder}: {lost}", file=sys.stderr)
    record_evaluation(Path(trainer.default_root_dir), verb, checkpoint, step, found)


def write_predictions(trainer: Trainer) -> None:
    """Write what `predict_step` returned for every example to predictions.csv in the run's folder, and say where."""
    batches = trainer.predict_loop.predictions
    if not batches or not all(isinstance(batch, Tensor) and batch.ndim == 2 for batch in batches):
        raise InputError("predict writes one row per example, so predict_step must return a tensor (examples, values)")
    rank = f"-rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = Path(trainer.default_root_dir) / f"predictions{rank}.csv"
    table = torch.cat([batch for batch in batches if isinstance(batch, Tensor)])
    header = ",".join(["example", *(f"value_{k}" for k in range(table.shape[1]))])
    lines = [",".join([str(index), *(f"{value:.6g}" for value in row)]) for index, row in enumerate(table.tolist())]
    write_text(path, "\n".join([header, *lines]) + "\n")
    say(path)
