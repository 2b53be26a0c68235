"""Dynamic sparse training of any LightningModule: RigL and SET."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError, check_least
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard, all_prunable, check_settings_kept, same_on_all_ranks
from rebasin_lt.lit.checkpoint import MASK
from rebasin_lt.lit.training_length import is_short_try
from rebasin_lt.pruning.dynamic import exchange_fraction, exchange_weights, random_layers, random_scores
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.prunable import SHORTCUTS
from rebasin_lt.pruning.weight_norm import check_directions
from rebasin_lt.storage.paths import expanded

FINAL_MASK = "final.mask.safetensors"
_SETTINGS = ("method", "fraction", "update_every", "until", "seed")


class DynamicSparseTraining(MaskGuard):
    """Train under a mask that exchanges its weakest weights for others, at constant sparsity in every layer.

    Before every `update_every`-th optimiser step, in each layer, the smallest kept weights are dropped and as many
    others grown: where the dense gradient is largest (`rigl`, Evci et al., ICML 2020) or at random (`set`, Mocanu et
    al., 2018); see `exchange_weights`. The share that is exchanged falls by a cosine from `fraction` to 0 at `until`.
    Grown weights start at 0, with their optimiser state at 0; all of this step's gradients are then masked by the new
    mask, and the step is taken (the paper's algorithm skips it: one step in `update_every`). Gradients are dense until
    MaskGuard masks them, so updates need no pass of their own, and other steps do not wait for the device. Where mixed
    precision skips a step because gradients overflowed, its update comes with the next step that is taken.

    Works on any LightningModule with one optimiser, by parameter name. The mask of the moment is in every checkpoint;
    a resumed run goes on with the same bits. Ranks see equal gradients and draw equal lots. When training ends, the
    mask is written to `dirpath`, as `final.mask.safetensors`.

        >>> rb.DynamicSparseTraining(sparsity=0.9, method="set").sparsity
        0.9

    Args:
        mask: a `*.mask.safetensors` file, or a Mask, to begin with
        sparsity: instead of a mask, that of a random one: the same in every weight matrix and kernel
        method: grow by gradient (rigl) or by lot (set)
        fraction: share of the kept weights that the first update would exchange
        update_every: optimiser steps between updates
        until: part of all training steps after which the mask stays
        seed: of the random mask and of SET's lots
        exclude: of a random mask: patterns of parameter names that stay dense, or kinds of `prunable`; by default
            projection shortcuts. What stays dense is named in the log
        include: of a random mask: patterns or kinds that are pruned in any case, such as `embeddings`
        dirpath: folder of the final mask; `dst` in the trainer's root folder if not given
    """

    state_key = "rebasin_lt.dst"

    def __init__(
        self,
        mask: str | Mask | None = None,
        sparsity: float | None = None,
        method: Literal["rigl", "set"] = "rigl",
        fraction: float = 0.3,
        update_every: int = 100,
        until: float = 0.75,
        seed: int = 0,
        exclude: tuple[str, ...] = SHORTCUTS,
        dirpath: str | None = None,
        include: tuple[str, ...] = (),
    ) -> None:
        if (mask is None) == (sparsity is None):
            raise InputError(f"dst mask is {mask} and sparsity {sparsity}, expected one of them")
        if method not in {"rigl", "set"}:
            raise InputError(f"dst method is {method!r}, expected rigl or set")
        for name, share in (("fraction", fraction), ("until", until)):
            if not 0 < share <= 1:
                raise InputError(f"dst {name} is {share}, expected above 0 and at most 1")
        check_least("dst update_every", update_every, 1)
        if sparsity is not None and not 0 <= sparsity < 1:
            raise InputError(f"dst sparsity is {sparsity}, expected at least 0 and below 1")
        super().__init__(Mask({}) if mask is None else mask)
        self._given, self.sparsity, self.exclude, self.include = self.mask, sparsity, exclude, include
        self.method, self.fraction, self.update_every = method, fraction, update_every
        self.until, self.seed = until, seed
        self.dirpath = None if dirpath is None else Path(expanded(dirpath))
        self._end = math.inf
        self._postponed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        if sum(isinstance(callback, MaskGuard) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise InputError("DynamicSparseTraining and another mask guard would fight over the weights: name one")
        if trainer.global_step == 0 or not self.mask:  # else this trainer goes on with a fit of its own
            self.mask, self._postponed = self._given, False

    def state_dict(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in _SETTINGS}, "postponed": self._postponed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._postponed = state_dict.get("postponed", False)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:  # evaluation takes any weights
            return
        check_settings_kept(self, checkpoint["callbacks"].get(self.state_key, {}), _SETTINGS, "trained with dst")
        mask = Mask(checkpoint.get(MASK, {}))
        self._look_at(pl_module)
        if _counts(mask) != _counts(self.mask):
            raise InputError("the checkpoint to resume keeps other numbers of weights than this run's mask")
        self.mask = mask

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise InputError(f"DynamicSparseTraining needs one optimiser, the module has {len(trainer.optimizers)}")
        steps = trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise InputError("DynamicSparseTraining needs the length of training: set max_epochs or max_steps")
        self._end = self.until * steps
        super().on_train_start(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        step = trainer.global_step
        due = self._postponed or step % self.update_every == 0  # from the step: a replay does the same
        if step and due and step < self._end:
            self._postponed = _will_be_skipped(trainer, optimizer)
            if not self._postponed:
                self._update(trainer, step, optimizer)
        super().on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        fraction = exchange_fraction(trainer.global_step, self._end, self.fraction)
        pl_module.log_dict({"dst/sparsity": self.mask.sparsity, "dst/fraction": fraction})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if trainer.is_global_zero and not is_short_try(trainer):
            folder = self.dirpath or Path(trainer.default_root_dir) / "dst"
            self.signed_mask(pl_module).save(folder / FINAL_MASK, stage="dst", method=self.method, seed=str(self.seed))

    @torch.no_grad()
    def _update(self, trainer: Trainer, step: int, optimizer: Any) -> None:
        """Exchange weights; zero what was dropped, and the optimiser's state of all that did not stay."""
        weights = dict(zip(self.mask, self._weights, strict=True))
        fraction = exchange_fraction(step, self._end, self.fraction)
        exchanged = exchange_weights(weights, self.mask, fraction, self._growth(step, weights))
        self.mask = same_on_all_ranks(trainer, exchanged)
        check_directions(network_of(trainer.lightning_module), self.mask)
        for kept, weight, factor in zip(self.mask.values(), self._weights, self._factors, strict=True):
            new = kept.to(factor.device, factor.dtype)
            for buffer in optimizer.state.get(weight, {}).values():
                if isinstance(buffer, Tensor) and buffer.shape == weight.shape:
                    buffer.mul_(factor).mul_(new)
            factor.copy_(new)
            weight.masked_fill_(new == 0, 0)  # as a resume does; a product would leave negative zeros, other bits
        self._mask_averages(trainer)

    def _growth(self, step: int, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The scores by which weights grow. A weight without a gradient has a gradient of zero."""
        if self.method == "rigl":
            return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in weights.items()}
        return random_scores(self.mask, _generator(self.seed, step))

    def _look_at(self, module: LightningModule) -> None:
        """Draw the random mask, if one is asked for and not there, of the parameters that there are when fit starts."""
        if self.sparsity is None or self.mask:
            return
        dense = all_prunable(module, self.exclude, self.include)
        self.mask = random_layers(dense, self.sparsity, _generator(self.seed, 0))


def _will_be_skipped(trainer: Trainer, optimizer: Any) -> bool:
    """True if mixed precision's scaler will skip the step that comes: a gradient of it is not finite."""
    if getattr(trainer.precision_plugin, "scaler", None) is None:
        return False
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return not all(bool(gradient.isfinite().all()) for gradient in gradients)


def _generator(seed: int, step: int) -> torch.Generator:
    """Lots that depend on seed and step alone: the same on every rank, and after a resume."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def _counts(mask: Mask) -> dict[str, tuple[torch.Size, int]]:
    return {name: (tensor.shape, int(tensor.sum())) for name, tensor in mask.items()}
