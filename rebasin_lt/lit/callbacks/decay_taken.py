"""How much weight decay a training has taken, step by step, whatever schedule its rates follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from torch import Tensor


class DecayTaken(Callback):
    """Sums rate · decay / (1 - momentum) over the steps of an optimiser, at the rates that they are taken with.

    Of AdamW, whose decay passes through no momentum, rate · decay. Each matrix and kernel has its own sum, for those
    are what masks are of: one that is frozen, or has no gradient, takes no step, and so does not decay.
    The sum is in every checkpoint of the run (`describe`), and is taken up where the run goes on; nothing is known of
    a run that goes on from a checkpoint without it, nor where a callback averages weights over the training.
    """

    state_key = "rebasin_lt.decay_taken"

    def __init__(self) -> None:
        self._sums: dict[str, float | None] = {}  # by weight; None where no formula says what is left
        self._names: dict[Tensor, str] = {}
        self._whole = True

    @property
    def taken(self) -> float | None:
        """The sum, where it is known and the same for all weights.

        A weight that trains and of which no step was seen is not known: a module may step as Lightning does not see.
        """
        sums = {self._sums.get(name) for name in self._names.values()}
        return sums.pop() if len(sums) == 1 and self._whole else None

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "whole": self._whole}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums, self._whole = dict(state_dict["sums"]), state_dict["whole"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        averaged = any(isinstance(callback, StochasticWeightAveraging | WeightAveraging) for callback in callbacks)
        self._whole = self._whole and not averaged and (trainer.global_step == 0 or bool(self._sums))
        self._names = {weight: name for name, weight in pl_module.named_parameters() if weight.ndim > 1}
        frozen = {name: 0.0 for weight, name in self._names.items() if not weight.requires_grad}
        self._sums = {**frozen, **self._sums}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            step = _step(group)
            for name in [self._names[weight] for weight in group["params"] if self._steps(weight)]:
                before = self._sums.get(name, 0.0)
                self._sums[name] = None if before is None or step is None else before + step

    def _steps(self, weight: Tensor) -> bool:
        return weight.grad is not None and weight in self._names


def gathered(group: Mapping[str, Any]) -> float | None:
    """What a step of decay comes to in the end: 1 / (1 - momentum) in SGD, 1 in AdamW; None in another optimiser.

    The decay of Adam without a W is part of a gradient that it scales: no formula says what it leaves.
    """
    if group.get("decoupled_weight_decay") is True:
        return 1.0
    return 1 / (1 - group["momentum"]) if group.get("dampening") == 0 and "momentum" in group else None


def _step(group: Mapping[str, Any]) -> float | None:
    """What one step adds, of a group of parameters as its optimiser has it now."""
    if group.get("weight_decay") == 0:
        return 0.0
    factor = gathered(group)
    return None if factor is None else float(group["lr"]) * float(group["weight_decay"]) * factor
