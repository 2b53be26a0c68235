"""What every logger of a run hears beside its metrics: settings, the learning rate, masks as they change."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from PIL import Image
from torch.optim import Optimizer
from torch.utils.tensorboard.summary import hparams

from rebasin_lt.lit._compat import logged_step
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.loggers import NamedLogger, open_loggers
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.flat import flat_settings

PROFILE = "mask/profile"
RATE = "learning_rate"


class RunLoggers(Callback):
    """Opens the loggers of a run when its training or its test begins, and tells all of them what a run is.

    A run that is refused, or has nothing left to train, opens none: Lightning would, before anything is checked.

    - hyperparameters, when training begins, by dotted names. TensorBoard gets them when it ends, with the names of
      every metric known by then, and of the test's, which a later `test` of the run fills in
    - `learning_rate`, of each group of parameters if there are several, at the first step of every epoch and every
      `log_every_n_steps` steps: the rate of the step to come
    - `mask/sparsity` (all layers) and `mask/layer_sparsity/NAME`, when training begins and after each step in which a
      mask guard changed its mask (a round of pruning, an exchange of weights). Masks are immutable, so a change shows
      by identity: no step waits for the device
    - an image of the mask's profile, `mask/profile`, when training ends, where a logger takes images

    What the run itself logs, rounds of pruning among it, comes to all of them from Lightning.

    Args:
        folder: the run's
        named: classes and settings of the loggers
        settings: hyperparameters; nested mappings become dotted names, what has no value is left out
        profile: draws the rows of `Mask.report` as a matplotlib figure; without it there is no image
    """

    def __init__(
        self,
        folder: str | Path,
        named: Sequence[NamedLogger],
        settings: Mapping[str, Any],
        profile: Callable[[list[dict[str, Any]]], Any] | None = None,
    ) -> None:
        self.folder, self.named, self.settings, self.profile = folder, list(named), settings, profile
        self._open = False
        self._shown: Mask | None = None
        self._rated = -1  # the step whose rate was told last

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, logged_step(trainer))
        self._shown, self._rated = None, -1
        for logger in _heard(trainer):
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(flat_settings(self.settings))
        self._show_change(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, None)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        step = logged_step(trainer)
        due = batch_idx == 0 or (every > 0 and step % every == 0)
        if due and self._rated != step:
            self._rated = step
            _tell(trainer, learning_rates(trainer.optimizers))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._show_change(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mask, metrics = _mask(trainer), metric_names(trainer.callback_metrics)
        for logger in _heard(trainer):
            if mask is not None and self.profile is not None:
                _show_image(logger, self.profile(mask.report()), logged_step(trainer))
            if isinstance(logger, TensorBoardLogger):
                writer: Any = logger.experiment
                summaries = hparams(flat_settings(self.settings), dict.fromkeys(metrics, 0.0))  # type: ignore[no-untyped-call]
                for summary in summaries:
                    writer.file_writer.add_summary(summary)  # the metrics' names alone: their curves are there already
                writer.flush()

    def _begin(self, trainer: Trainer, step: int | None) -> None:
        if not self._open:
            self._open = True
            trainer.loggers = open_loggers(self.named, self.folder, step, writes=trainer.is_global_zero)

    def _show_change(self, trainer: Trainer) -> None:
        mask = _mask(trainer)
        if mask is None or mask is self._shown:
            return
        self._shown = mask
        rows = {f"mask/layer_sparsity/{row['name']}": float(row["sparsity"]) for row in mask.report()}
        _tell(trainer, {"mask/sparsity": mask.sparsity, **rows})


def metric_names(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics of a run, and beside each of validation that of the test, whether or not it has been run."""
    tests = [f"test/{name.removeprefix('val/')}" for name in metrics if name.startswith("val/")]
    return list(dict.fromkeys([*metrics, *tests]))


def learning_rates(optimizers: Sequence[Optimizer]) -> dict[str, float]:
    """The rate of the only group of parameters, or the rates of all, numbered through: `learning_rate/0` is the first.

    >>> import torch
    >>> weights = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    >>> learning_rates([torch.optim.SGD(weights, lr=0.5)])
    {'learning_rate': 0.5}
    >>> learning_rates([torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:]}], lr=0.5)])
    {'learning_rate/0': 1.0, 'learning_rate/1': 0.5}
    """
    rates = [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups if "lr" in group]
    return {RATE: rates[0]} if len(rates) == 1 else {f"{RATE}/{index}": rate for index, rate in enumerate(rates)}


def _mask(trainer: Trainer) -> Mask | None:
    guards = [callback for callback in trainer.callbacks if isinstance(callback, MaskGuard)]  # type: ignore[attr-defined]
    return guards[0].mask if guards else None


def _heard(trainer: Trainer) -> list[Logger]:
    """The loggers of this run, none on ranks that do not write."""
    return trainer.loggers if trainer.is_global_zero else []


def _tell(trainer: Trainer, metrics: Mapping[str, float]) -> None:
    for logger in _heard(trainer):
        logger.log_metrics(dict(metrics), step=logged_step(trainer))
        logger.save()


def _show_image(logger: Logger, figure: Any, step: int) -> None:
    """The figure, to a logger that takes images: TensorBoard's, MLflow's, and any with `log_image`, as W&B's has it."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(PROFILE, figure, step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_figure(logger.run_id, figure, f"{PROFILE}.png")
    elif hasattr(logger, "log_image"):
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
        logger.log_image(PROFILE, [Image.open(drawn)], step=step)
