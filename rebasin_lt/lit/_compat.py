"""Private Lightning API, all of it in one place, each piece with a test that says when it can go."""

from __future__ import annotations

from typing import Any

from lightning import Trainer
from lightning.fabric.loggers.logger import _DummyExperiment as DummyExperiment
from lightning.pytorch.cli import LightningCLI

__all__ = [
    "ConfigWinsCLI",
    "DummyExperiment",
    "epoch_metrics",
    "leave_children_alone",
    "leave_signals_alone",
    "step_is_complete",
]


class ConfigWinsCLI(LightningCLI):
    """LightningCLI whose `--ckpt_path FILE` does not overrule configuration and flags.

    Upstream (PL#21455) takes class and hyperparameters from the checkpoint, silently.
    """

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as it was given."""


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep Lightning from handling SIGTERM and SIGUSR1 in this trainer.

    Its SIGTERM handler ends a run without a checkpoint and with exit code 0, broadcasts inside the handler, and asks
    every rank for the signal in every step, which waits for the device (PL#20806, PL#21487).
    """
    connector: Any = trainer._signal_connector
    connector.register_signal_handlers = lambda: None
    loop: Any = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None


def leave_children_alone(trainer: Trainer) -> None:
    """Keep Lightning's launcher from killing this process when one that it started ends with another code than 0."""
    processes = getattr(trainer.strategy.launcher, "procs", None)
    if processes is not None:
        processes.clear()  # the list that its observer walks


def step_is_complete(trainer: Trainer) -> bool:
    """Whether a checkpoint taken in `on_train_batch_end` resumes exactly.

    It does not between accumulated gradients, which no checkpoint holds; nor before validation or the end of an epoch,
    both of which Lightning's resume takes for done.
    """
    loop = trainer.fit_loop.epoch_loop
    fetcher: Any = trainer.fit_loop._data_fetcher
    return not (loop._should_accumulate() or loop._num_ready_batches_reached() or loop._should_check_val_fx(fetcher))


def epoch_metrics(trainer: Trainer) -> dict[str, float]:
    """What the stage that ends now has logged for its loggers; to be called on every rank."""
    results: Any = trainer._results
    return {name: float(value) for name, value in results.metrics(on_step=False)["log"].items()}
