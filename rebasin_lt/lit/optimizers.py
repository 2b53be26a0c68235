"""Optimisers and schedules, built anew in the middle of a fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from torch.optim import Optimizer


def trainable(module: LightningModule) -> dict[str, bool]:
    """The parameters that ask for gradients, by name."""
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


def renew_optimizers(trainer: Trainer, module: LightningModule, trainable_then: Mapping[str, bool]) -> None:
    """Have the module configure fresh optimisers and schedules, over the parameter groups that there are now.

    `configure_optimizers` sees the parameters trainable as `trainable_then`, when fit began, and so gives the groups
    that it gave then, at their first rates. Groups that callbacks have added since follow as they are, rates
    included, without their state.
    """
    before, now = list(trainer.optimizers), trainable(module)
    _set_trainable(module, trainable_then)
    try:
        trainer.strategy.setup_optimizers(trainer)
    finally:
        _set_trainable(module, now)
    for old, new in zip(before, trainer.optimizers, strict=True):
        _add_groups(new, old)


def advance_schedules(trainer: Trainer, to: Mapping[str, float]) -> None:
    """Put fresh schedules where those of another run stood after so many `epoch`s or `step`s, the keys of `to`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # it comes before any step: meant
        for config in trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            for _ in range(round(to[config.interval])):
                scheduler.step()


def _set_trainable(module: LightningModule, flags: Mapping[str, bool]) -> None:
    for name, parameter in module.named_parameters():
        if parameter.requires_grad != flags.get(name, parameter.requires_grad):  # those made since stay as they are
            parameter.requires_grad_(flags[name])


def _add_groups(new: Optimizer, old: Optimizer) -> None:
    """Append the groups of `old` whose parameters `new` does not have."""
    known = {id(parameter) for group in new.param_groups for parameter in group["params"]}
    for group in old.param_groups:
        parameters: list[Any] = [parameter for parameter in group["params"] if id(parameter) not in known]
        if parameters:
            new.add_param_group({**group, "params": parameters})
