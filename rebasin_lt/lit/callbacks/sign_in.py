"""Train each weight under a mask as a product of two factors, so that it may change its sign."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError
from rebasin_lt.lit._compat import hides_its_steps
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard, check_settings_kept
from rebasin_lt.pruning.factors import balanced_factors

_LOG = logging.getLogger(__name__)
_SETTINGS = ("every", "balance")


class SignIn(Callback):
    """Sign-In (NeurIPS 2025, arXiv 2504.12801) for any module under a `MaskGuard`: every masked weight is m · w.

    The optimiser steps m and w, each with its own state and decay, by the gradients that a network written with both
    would have. Between steps the module's parameter holds their product, so forward passes, checkpoints and other
    callbacks see plain weights under their own names; what a resume needs beside them, m and w, is in the callback's
    state. When training begins, and at the beginning of every `every`-th epoch, m and w are chosen anew so that m² − w²
    is `balance`, which decay and large steps take away; the product stays as it is, to the bit.

    Written after the paper's text, not its code; where that left a choice, or this departs from it: the weights of the
    mask have factors and no others, `balance` and `every` have defaults of our own, the state of the optimiser, such as
    momentum, is kept over a rescaling, m keeps its sign in it, and weight decay is the optimiser's own on m and on w.

    Works with one optimiser of torch that looks at gradients once in a step (not LBFGS), and a mask that stays. Weights
    that are frozen have factors if the optimiser has them, and use them once they are trained; those that come to the
    optimiser later train plain, which a warning says.

        >>> network = rb.build_network("mlp")
        >>> guard = rb.MaskGuard(rb.Mask.ones_of(network))
        >>> callbacks = [guard, rb.SignIn(every=5)]

    Args:
        every: epochs from one rescaling to the next
        balance: m² − w² after it, above 0; the speed at which a weight of 0 learns, as a factor on the learning rate

    Raises InputError, when fit begins, without such a guard or optimiser, beside a callback that finds the optimiser's
    parameters by the module's names, and for a resume of a run of other settings.
    """

    state_key = "rebasin_lt.sign_in"

    def __init__(self, every: int = 1, balance: float = 1.0) -> None:
        if every < 1:
            raise InputError(f"every is {every}, expected a number of epochs, at least 1")
        if not 0 < balance < float("inf"):
            raise InputError(f"balance is {balance}, expected a positive number")
        self.every, self.balance = every, balance
        self._forget()

    def _forget(self) -> None:
        """Be bound to no module: callbacks may be used again, with another."""
        self._weights: dict[str, nn.Parameter] = {}
        self._m: dict[str, nn.Parameter] = {}
        self._w: dict[str, Tensor] = {}
        self._stepping = False  # while the parameters hold w instead of the product
        self._stepped: list[str] = []  # those that do
        self._late: set[str] = set()  # of the mask, but without factors
        self._saved: dict[str, dict[str, Tensor]] | None = None
        self._hook: RemovableHandle | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._release()
            self._forget()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the optimiser the factors m, before the state of a checkpoint, which has theirs, is put into it."""
        guard, optimizer = _guard_of(trainer), _optimizer_of(trainer)
        _check_callbacks(trainer)
        parameters = dict(network_of(pl_module).named_parameters(remove_duplicate=False))
        guard.mask.check_fits(parameters)
        names = {id(parameters[name]): name for name in guard.mask}
        for group in optimizer.param_groups:
            for weight in list(group["params"]):
                if (name := names.get(id(weight))) is not None:
                    self._weights[name], self._m[name] = weight, nn.Parameter(torch.ones_like(weight))
                    group["params"].append(self._m[name])
        self._late = {*guard.mask} - {*self._weights}
        self._hook = register_optimizer_step_post_hook(self._after_step)

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved is None:
            self._rescale()
            return
        for name, factor in self._m.items():
            factor.copy_(self._saved["m"][name])
        self._w = {name: self._saved["w"][name].to(weight) for name, weight in self._weights.items()}
        self._saved = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Here and not when the epoch begins, which a resume in the middle of it does again."""
        if batch_idx == 0 and trainer.current_epoch and trainer.current_epoch % self.every == 0:
            self._rescale()
        if self._late:
            self._name_late_ones(trainer.optimizers[0], pl_module)

    def _name_late_ones(self, optimizer: Optimizer, module: LightningModule) -> None:
        """Say which weights came to the optimiser after it was given the factors: each once."""
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        parameters = dict(network_of(module).named_parameters(remove_duplicate=False))
        late = sorted(name for name in self._late if id(parameters[name]) in held)
        self._late -= {*late}
        if late and module.global_rank == 0:
            _LOG.warning(
                "%s came to the optimiser after training began, and train without factors: give it all weights at the "
                "start, those that are to train later with requires_grad False",
                ", ".join(late),
            )

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Put w in the place of the product, and the gradients of m and w where the optimiser looks for them."""
        if self._stepping:  # the forward pass before this saw w, not the product
            raise InputError(
                f"{type(optimizer).__name__} looks at gradients more than once in a step, which SignIn cannot follow: "
                "take another optimiser"
            )
        self._follow_writes()
        self._stepped = [name for name, weight in self._weights.items() if weight.grad is not None]
        for name in self._stepped:  # the optimiser leaves those without a gradient as they are, and so do we
            weight, m, w = self._weights[name], self._m[name], self._w[name]
            assert weight.grad is not None
            m.grad = weight.grad * w
            weight.grad.mul_(m)
            weight.copy_(w)
        self._stepping = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._fold()  # a step in half precision that overflows is not taken, and nobody says so

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._fold()  # the weights in the checkpoint share its memory

    def state_dict(self) -> dict[str, Any]:
        self._fold()
        factors = {"m": {name: factor.detach() for name, factor in self._m.items()}, "w": dict(self._w)}
        return {**{name: getattr(self, name) for name in _SETTINGS}, **factors}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["m"]:  # the rate finder writes one before there are factors, and reads it again
            self._saved = {"m": state_dict["m"], "w": state_dict["w"]}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:  # evaluation takes any weights
            return
        own = checkpoint["callbacks"].get(self.state_key)
        if own is None:
            raise InputError("the checkpoint to resume was trained without SignIn: leave it out, or start a new run")
        check_settings_kept(self, own, _SETTINGS, "trained by SignIn with")

    @torch.no_grad()
    def _rescale(self) -> None:
        """Choose both factors of every weight anew; the weights themselves are not written to."""
        for name, weight in self._weights.items():
            m, self._w[name] = balanced_factors(weight, self.balance, self._m[name])
            self._m[name].copy_(m)

    def _follow_writes(self) -> None:
        """Let w be what makes the product the weight, where something else than the last step wrote to the weight."""
        for name, weight in self._weights.items():
            m, w = self._m[name], self._w[name]
            self._w[name] = torch.where((m * w == weight) | (m == 0), w, weight / m)

    @torch.no_grad()
    def _fold(self) -> None:
        """Put the product back in its place, unless it is there."""
        if self._stepping:
            self._stepping = False
            for name in self._stepped:
                weight = self._weights[name]
                self._w[name] = weight.detach().clone()
                weight.mul_(self._m[name])

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Fold, unless the optimiser is another network's: the hook hears of all in the process."""
        ours = {id(weight) for weight in self._weights.values()}
        if any(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
            self._fold()

    def _release(self) -> None:
        self._fold()
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _guard_of(trainer: Trainer) -> MaskGuard:
    """The guard whose mask stays. Raises InputError for none, for several, and for one whose mask changes."""
    guards = [callback for callback in trainer.callbacks if isinstance(callback, MaskGuard)]  # type: ignore[attr-defined]
    if len(guards) != 1 or type(guards[0]) is not MaskGuard:
        found = " and ".join(type(guard).__name__ for guard in guards) or "none"
        raise InputError(f"SignIn trains under one MaskGuard, whose mask stays as it is; this fit has {found}")
    return guards[0]


def _check_callbacks(trainer: Trainer) -> None:
    """Raise InputError beside Lightning's callbacks of fine-tuning, which look up the optimiser's parameters by the
    module's names, and m has none there."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, BaseFinetuning):
            raise InputError(
                f"SignIn does not train beside {type(callback).__name__}: freeze weights by requires_grad, and give "
                "the optimiser all of them"
            )


def _optimizer_of(trainer: Trainer) -> Optimizer:
    """The one optimiser. Raises InputError for several, and for one whose steps are not those of torch's."""
    optimizers = trainer.optimizers
    if len(optimizers) != 1 or isinstance(optimizers[0], LBFGS) or hides_its_steps(optimizers[0]):
        found = " and ".join(type(optimizer).__name__ for optimizer in optimizers) or "none"
        raise InputError(f"SignIn needs one optimiser of torch that is not LBFGS, the module has {found}")
    return optimizers[0]
