"""What a fit tells people: a line when it begins, one per epoch, and how it ended; on a terminal, the time left."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from rebasin_lt.judging.chance import collapse_text
from rebasin_lt.lit.callbacks.init_from import InitFrom
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.resume_point import LAST
from rebasin_lt.lit.data.other import leaves_to_lightning
from rebasin_lt.lit.recorded import class_name
from rebasin_lt.lit.run_facts import batch_warnings, classes_of, counted, facts_of, sampler_warnings, write_facts
from rebasin_lt.lit.training_length import epochs_done, is_short_try
from rebasin_lt.process.progress_line import ProgressLine, time_left
from rebasin_lt.process.terminal_text import say
from rebasin_lt.storage.run_folder import CONFIG
from rebasin_lt.storage.run_records import METRICS_FILE, read_facts, read_rows

_LINES = 20  # of epochs, where no terminal shows them
_SHOWN = 8  # metrics of an epoch; all are in metrics.jsonl


class FitProgress(Checkpoint):
    """Says on standard output what is trained, how each epoch went and how training ended; the first process alone.

    Where standard error is a terminal, a line there has the steps done and the time left, and every epoch is said. In
    a log file at most twenty epochs are, at equal steps, and the last. It reads counters in a step, never the device.
    It is a `Checkpoint` because those come last, when the module has logged its epoch.

    Args:
        folder: the run's; `run.json` in it becomes what was said at the beginning
        quiet: say nothing, but for what is wrong
        expected_batch: samples of a step that the learning rate is meant for; another number is warned of
    """

    state_key = "rebasin_lt.fit_progress"

    def __init__(self, folder: str | Path, quiet: bool = False, expected_batch: int | None = None) -> None:
        self.folder, self.quiet, self.expected_batch = Path(folder), quiet, expected_batch
        self._line = ProgressLine(str(folder))
        self._began: float | None = None
        self._first = 0  # epochs that were done before

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._began, self._first = time.monotonic(), trainer.current_epoch
        facts = facts_of(trainer, pl_module)
        of_step = batch_warnings(facts, read_facts(self.folder), self.expected_batch)
        for warning in [*of_step, *sampler_warnings(trainer)]:
            say(f"{self.folder}: {warning}", file=sys.stderr)
        self._say(facts.line() + (f"; goes on after {counted(self._first, 'epoch')}" if trainer.global_step else ""))
        if not is_short_try(trainer):
            write_facts(self.folder, facts)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and not self.quiet and self._line.is_shown():
            total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
            self._line("batch", trainer.fit_loop.total_batch_idx + 1, total)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}  # all ranks reduce them
        done, total = trainer.current_epoch + 1, trainer.max_epochs or -1
        if not trainer.is_global_zero or self._began is None or not self._is_due(done, total):
            return
        pace = (time.monotonic() - self._began) / (done - self._first)
        left = f", {time_left(pace * (total - done))} left" if done < total else ""
        of = f"/{total}" if total > 0 else ""
        self._say(f"epoch {done:>{len(str(total))}}{of}  {metrics_text(metrics)}  ({pace:.3g} s an epoch{left})")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or is_short_try(trainer):
            self._line.clear()
            return
        rows = read_rows(self.folder / METRICS_FILE)
        metrics = {name: value for row in rows for name, value in row.items() if isinstance(value, int | float)}
        found = metrics_text({name: value for name, value in metrics.items() if name not in {"epoch", "step"}})
        epochs = counted(epochs_done(trainer) if self._began is not None else trainer.current_epoch, "epoch")
        if self._began is None:
            self._say(f"complete already after {epochs}: {found}; nothing was trained")
        else:
            self._say(
                f"done after {epochs} in {time_left(time.monotonic() - self._began)}: {found}{_sparsity(trainer)}"
            )
        self._say(f"left here: {', '.join(left_files(self.folder))}")
        for command in next_commands(trainer, pl_module, self.folder):
            self._say(f"next: {command}")
        if lost := collapse_text(metrics, classes_of(trainer, pl_module), str(self.folder), bool(_sparsity(trainer))):
            self._say(lost)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._line.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._line.clear()

    def _is_due(self, done: int, total: int) -> bool:
        """On a terminal every epoch, else every so many and the last."""
        return self._line.is_shown() or total <= _LINES or done == total or done % math.ceil(total / _LINES) == 0

    def _say(self, text: str) -> None:
        if not self.quiet:
            self._line.clear()
            say(f"{self.folder}: {text}")
            sys.stdout.flush()  # a log file would else show an epoch hours later


def metrics_text(metrics: Mapping[str, float]) -> str:
    """The first eight as `train/loss 0.1234  train/top1 97.1`: training, validation, then the rest by name.

    >>> metrics_text({"val/top1": 97.0, "train/loss": 0.12345678, "imp/round": 2.0})
    'train/loss 0.1235  val/top1 97  imp/round 2'
    """
    order = {"train": 0, "val": 1, "test": 2}
    names = sorted(metrics, key=lambda name: (order.get(name.partition("/")[0], 3), name))
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in names[:_SHOWN]) or "no metrics"


def left_files(folder: Path) -> list[str]:
    """The files in a run's folder that others begin from, and its metrics; several of a kind as a pattern."""
    found = [name for name in (LAST, METRICS_FILE) if (folder / name).exists()]
    for pattern in ("rewind/*.ckpt", "imp/*.ckpt", "imp/*.mask.safetensors"):
        paths = sorted(folder.glob(pattern))
        found += [paths[0].relative_to(folder).as_posix() if len(paths) == 1 else pattern] if paths else []
    return found


def next_commands(trainer: Trainer, module: LightningModule, folder: Path) -> list[str]:
    """What one does with a run of this kind: match a pruned network's masks to another, test one that can be tested."""
    place = shlex.quote(str(folder))
    if any(isinstance(callback, IterativeMagnitudePruning) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        of = [callback.checkpoint for callback in trainer.callbacks if isinstance(callback, InitFrom)]  # type: ignore[attr-defined]
        began_from = shlex.quote(str(next(iter(of), module.hparams.get("init_from") or "A.ckpt")))
        own = _option("--model", module) + _option("--data", trainer.datamodule)  # type: ignore[attr-defined]
        masks = f"--masks {place}/imp/*.mask.safetensors"
        return [f"rebasin-lt permute {own}--ckpt-a {began_from} --ckpt-b B.ckpt {masks} --out MATCH"]
    return [f"rebasin-lt test --config {place}/{CONFIG}"] if _can_be_tested(trainer, module) else []


def _option(name: str, made: object) -> str:
    """What names the class of a module of the user's own, which a checkpoint does not choose; "" for one of ours."""
    kind = type(made)
    ours = made is None or kind.__module__.partition(".")[0] == "rebasin_lt"
    return "" if ours else f"{name} {class_name(kind)} "


def _can_be_tested(trainer: Trainer, module: LightningModule) -> bool:
    """True where the module has a test step, and its data module, if it has one, a loader for it."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    has_loader = data is None or not leaves_to_lightning(data, "test_dataloader")
    return has_loader and type(module).test_step is not LightningModule.test_step


def _sparsity(trainer: Trainer) -> str:
    guards = [callback for callback in trainer.callbacks if isinstance(callback, MaskGuard)]  # type: ignore[attr-defined]
    return f"  sparsity {guards[0].mask.sparsity:.4g}" if guards and guards[0].mask is not None else ""
