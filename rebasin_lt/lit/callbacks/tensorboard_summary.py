"""TensorBoard's view of a run beside its metrics: masks as they change, their profile, hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.pruning.mask import Mask

PROFILE = "mask/profile"


class TensorBoardSummary(Callback):
    """Writes to every TensorBoardLogger of a fit.

    Scalars `mask/sparsity` (all layers) and `mask/sparsity/NAME` when training begins and after each step in which a
    mask guard changed its mask (a round of pruning, an exchange of weights). When training ends: an image of the
    profile, `mask/profile`, and one hyperparameter entry with every metric known by then, and the test's, which a
    later `test` of the run fills in. Masks are immutable, so a change shows by identity: no step waits for the device.

    Args:
        settings: hyperparameters; nested mappings become dotted names, what has no value is left out
        profile: draws the rows of `Mask.report` as a matplotlib figure
    """

    def __init__(self, settings: Mapping[str, Any], profile: Callable[[list[dict[str, Any]]], Any]) -> None:
        self.settings, self.profile = settings, profile
        self._shown: Mask | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown = None
        self._show_change(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._show_change(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mask, metrics = _mask(trainer), metric_names(trainer.callback_metrics)
        for writer in _writers(trainer):
            if mask is not None:
                writer.add_figure(PROFILE, self.profile(mask.report()), trainer.global_step)
            summaries = hparams(flat_settings(self.settings), dict.fromkeys(metrics, 0.0))  # type: ignore[no-untyped-call]
            for summary in summaries:
                writer.file_writer.add_summary(summary)  # the metrics' names alone: their curves are there already
            writer.flush()

    def _show_change(self, trainer: Trainer) -> None:
        mask = _mask(trainer)
        if mask is None or mask is self._shown:
            return
        self._shown = mask
        for writer in _writers(trainer):
            writer.add_scalar("mask/sparsity", mask.sparsity, trainer.global_step)
            for row in mask.report():
                writer.add_scalar(f"mask/sparsity/{row['name']}", row["sparsity"], trainer.global_step)


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | bool | int | float]:
    """Settings by dotted name as TensorBoard takes them: numbers, truth values and text.

    `class_path` and `init_args` go out of the names; lists of classes are named by class.
    """
    flat: dict[str, str | bool | int | float] = {}
    for name, value in settings.items():
        place = prefix if name == "init_args" else f"{prefix}.{name}".strip(".")
        if isinstance(value, list) and value and all(isinstance(one, Mapping) and "class_path" in one for one in value):
            value = {one["class_path"].rpartition(".")[2]: one.get("init_args") or {} for one in value}
        if isinstance(value, Mapping):
            flat |= flat_settings(value, place)
        elif value is not None:
            place = prefix if name == "class_path" else place
            flat[place] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics of a run, and beside each of validation that of the test, whether or not it has been run."""
    tests = [f"test/{name.removeprefix('val/')}" for name in metrics if name.startswith("val/")]
    return list(dict.fromkeys([*metrics, *tests]))


def _mask(trainer: Trainer) -> Mask | None:
    guards = [callback for callback in trainer.callbacks if isinstance(callback, MaskGuard)]  # type: ignore[attr-defined]
    return guards[0].mask if guards else None


def _writers(trainer: Trainer) -> list[Any]:
    """The summary writers of this run, none on ranks that do not write."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
