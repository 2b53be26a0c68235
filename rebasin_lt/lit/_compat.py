"""Private Lightning API, all of it in one place, each piece with a test that says when it can go."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.optim.swa_utils import AveragedModel

from rebasin_lt.lit.recorded import remember

NAME_OF_HOOK = "_current_fx_name"
"""Attribute of a LightningModule that Lightning sets before and after every hook."""


class ConfigWinsCLI(LightningCLI):
    """LightningCLI whose `--ckpt_path FILE` does not overrule configuration and flags.

    Upstream (PL#21455) takes class and hyperparameters from the checkpoint, silently.
    """

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as it was given."""

    def instantiate_classes(self) -> None:
        """As upstream, and what module and data module are made with is kept for the checkpoints, which say it."""
        super().instantiate_classes()
        for name, made in (("model", self.model), ("data", self.datamodule)):
            written = self.config[self.subcommand].get(name)
            if made is not None and written is not None:
                remember(made, {**dict(written.get("init_args") or {}), **dict(written.get("dict_kwargs") or {})})


_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_signature(function: _Function) -> _Function:
    """A decorator for `training_step`, whose signature Lightning asks for in every step: it is worked out once."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class NoProfiler(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a generator for each of seventy things per step."""

    _NOTHING = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._NOTHING


_STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def skip_idle_hooks(trainer: Trainer) -> None:
    """Have every step ask those callbacks only that do something in it.

    Lightning asks all of them six times per step, unless the hook of one cannot be called.
    """
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        for hook in _STEP_HOOKS:
            if hook not in vars(callback) and getattr(type(callback), hook) is getattr(Callback, hook):
                setattr(callback, hook, None)


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


def join_ranks(trainer: Trainer) -> int:
    """Have the processes of this trainer meet now, instead of when it fits; returns how many they are.

    A trainer that forks its processes when it fits has one until then.
    """
    launcher: Any = trainer.strategy.launcher
    count = trainer.num_nodes * trainer.num_devices
    if count == 1 or not isinstance(launcher, _SubprocessScriptLauncher):
        return 1
    launcher.launch(trainer.strategy.setup_environment)
    return count


def step_is_complete(trainer: Trainer) -> bool:
    """True if a checkpoint taken in `on_train_batch_end` resumes exactly.

    It does not between accumulated gradients, which no checkpoint holds; nor before validation or the end of an epoch,
    both of which Lightning's resume takes for done.
    """
    loop = trainer.fit_loop.epoch_loop
    fetcher: Any = trainer.fit_loop._data_fetcher
    return not (loop._should_accumulate() or loop._num_ready_batches_reached() or loop._should_check_val_fx(fetcher))


def logged_step(trainer: Trainer) -> int:
    """The step at which Lightning logs: a batch's, where a module steps by hand, which `global_step` need not count."""
    if trainer.lightning_module.automatic_optimization:
        return trainer.global_step  # exact in a run that went on from the middle of an epoch, too
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def at_the_moment_of(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Have a trainer that evaluates a checkpoint log at its step and epoch: Lightning's own says 0 of both.

    An evaluation needs neither, so what a file does not have, or has in another form, is 0, or its `global_step`.
    """
    step: Any = checkpoint.get("loops")
    for part in ("fit_loop", "epoch_loop.state_dict", "_batches_that_stepped"):
        step = step.get(part) if isinstance(step, Mapping) else None
    steps = (step, checkpoint.get("global_step"), 0)
    trainer.fit_loop.epoch_loop._batches_that_stepped = next(found for found in steps if isinstance(found, int))
    epoch = checkpoint.get("epoch")
    trainer.fit_loop.epoch_progress.current.completed = epoch if isinstance(epoch, int) else 0


def epoch_metrics(trainer: Trainer) -> dict[str, float]:
    """The metrics that the stage which ends now has logged for its loggers; to be called on every rank."""
    results: Any = trainer._results
    return {name: float(value) for name, value in results.metrics(on_step=False)["log"].items()}


def averaged_modules(trainer: Trainer) -> list[LightningModule]:
    """The copies of the trainer's module in which Lightning's callbacks average its weights."""
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    kept = [callback._average_model for callback in callbacks if isinstance(callback, AVERAGING)]
    copies: list[Any] = [copy.module if isinstance(copy, AveragedModel) else copy for copy in kept]
    return [copy for copy in copies if copy is not None]


AVERAGING = (WeightAveraging, StochasticWeightAveraging)
"""Lightning's callbacks that average weights, EMA among them."""


def hides_its_steps(optimizer: Any) -> bool:
    """True if torch's hooks do not hear of this optimiser's steps: it wraps another without being one itself."""
    return not getattr(type(optimizer).step, "hooked", False)
