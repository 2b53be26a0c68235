"""Keep pruned weights at exactly zero while any LightningModule trains."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from rebasin_lt.errors import InputError
from rebasin_lt.lit._compat import averaged_modules, hides_its_steps
from rebasin_lt.lit.checkpoint_content import MASK, METADATA
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO
from rebasin_lt.lit.network_module import network_of
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.weight_norm import check_directions

_LOG = logging.getLogger(__name__)


class MaskGuard(Callback):
    """Masks the weights at fit start, the gradients before clipping, and the weights after every optimiser step.

    Both are needed: momentum and weight decay revive weights whose gradients alone are masked, and unmasked gradients
    pollute momentum and the norm that clipping sees. Multiplications are fused over all tensors and never wait for
    the device. Masks simulate sparsity: no step gets faster.

    Steps are those of any optimiser of torch, inside another one too. Whatever else writes to the weights, a hook or a
    wrapper that is no optimiser, is masked before the next batch, and before anything is written to a file: torch
    counts the writes to a tensor, and reading the count costs nothing. Averages of the weights that Lightning's
    callbacks keep (WeightAveraging and EMA, StochasticWeightAveraging) are masked too.

    Args:
        mask: a `*.mask.safetensors` file, or a Mask; by parameter name of the LightningModule (of its `net` for ours)

    The mask goes into every checkpoint; a resume under another mask is refused with an InputError.
    """

    state_key = "rebasin_lt.mask_guard"

    def __init__(self, mask: str | Mask) -> None:
        self.mask = mask if isinstance(mask, Mask) else Mask.load(mask)
        self._forget()

    def _forget(self) -> None:
        """Be bound to no module: callbacks may be used again, with another."""
        self._weights: list[Tensor] = []
        self._factors: list[Tensor] = []
        self._writes: list[int] = []  # to each weight, when they were masked
        self._every_batch = False
        self._hook: RemovableHandle | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._release()
        self._forget()
        if isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO):
            trainer.strategy.checkpoint_io.hold_masks = lambda: hold_masks(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look_at(pl_module)
        self._bind(pl_module)
        self._mask_averages(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mask.apply_(network_of(pl_module))  # callbacks after this one may have set weights when fit started
        self._guard_optimizers(trainer)
        self.hold(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._mask_what_was_written()

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        pairs = [(p.grad, f) for p, f in zip(self._weights, self._factors, strict=True) if p.grad is not None]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [factor for _, factor in pairs])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._mask_what_was_written()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hold(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hold(trainer, pl_module)  # before averages are put in the weights' place, or after

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.hold(trainer, pl_module)
            self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._look_at(pl_module)  # the rate finder writes one before other callbacks hear that fit starts
        self.hold(trainer, pl_module)  # the weights in the checkpoint share its memory
        checkpoint[MASK] = dict(self.mask)
        checkpoint.setdefault(METADATA, {})["mask_sha256"] = self.mask.hash

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:  # evaluation takes any weights
            return
        saved = Mask(checkpoint[MASK]) if MASK in checkpoint else None
        if saved != self.mask:
            theirs = "no mask" if saved is None else f"a mask of sha256 {saved.hash[:12]}"
            raise InputError(
                f"the checkpoint to resume holds {theirs}, this run has sha256 {self.mask.hash[:12]}: "
                "resume with the mask it was trained under, or start a new run with init_from"
            )

    def hold(self, trainer: Trainer, module: LightningModule) -> None:
        """Zero what is pruned, in weights and averages, whoever wrote to them; if nobody did, no bit changes."""
        moved = any(w.device != f.device for w, f in zip(self._weights, self._factors, strict=True))
        if moved or not self._weights:
            self._bind(module)
        self._mask_weights()
        self._mask_averages(trainer)

    def _look_at(self, module: LightningModule) -> None:
        """Find the mask, unless it is known: for those whose mask follows from the network."""

    def _bind(self, module: LightningModule) -> None:
        """Fetch the masked parameters and their factors once, and zero what is pruned."""
        network = network_of(module)
        parameters = dict(network.named_parameters(remove_duplicate=False))
        self.mask.check_fits(parameters)
        check_directions(network, self.mask)
        if self.mask.emptied and module.global_rank == 0:
            _LOG.warning("the mask keeps no weight of %s: no signal passes there", ", ".join(self.mask.emptied))
        self._weights = [parameters[name] for name in self.mask]
        self._factors = [  # laid out as their weights: for other strides a GPU multiplies tensor by tensor
            torch.empty_like(weight).copy_(self.mask[name])
            for name, weight in zip(self.mask, self._weights, strict=True)
        ]
        self.mask.apply_(network)

    def _guard_optimizers(self, trainer: Trainer) -> None:
        """Hear of every step of every optimiser, those inside others too, until the fit ends."""
        self._every_batch = any(hides_its_steps(optimizer) for optimizer in trainer.optimizers)
        if self._hook is None:
            self._hook = register_optimizer_step_post_hook(self._after_step)

    def _release(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _mask_what_was_written(self) -> None:
        if self._every_batch or self._writes != [weight._version for weight in self._weights]:
            self._mask_weights()

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        """Zero what is pruned, unless the optimiser is another network's: the hook hears of all in the process."""
        ours = {id(weight) for weight in self._weights}
        if any(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
            self._mask_weights()

    @torch.no_grad()
    def _mask_weights(self) -> None:
        if self._weights:
            torch._foreach_mul_(self._weights, self._factors)
            self._writes = [weight._version for weight in self._weights]

    @torch.no_grad()
    def _mask_averages(self, trainer: Trainer) -> None:
        for copy in averaged_modules(trainer):
            parameters = dict(network_of(copy).named_parameters())
            for name, kept in self.mask.items():
                parameters[name].mul_(kept.to(parameters[name].device))


def hold_masks(trainer: Trainer) -> list[Mask]:
    """Zero what the trainer's guards prune, right before it is written somewhere; returns their masks."""
    guards = [callback for callback in trainer.callbacks if isinstance(callback, MaskGuard)]  # type: ignore[attr-defined]
    for guard in guards:
        guard.hold(trainer, trainer.lightning_module)
    return [guard.mask for guard in guards]


def same_on_all_ranks(trainer: Trainer, mask: Mask) -> Mask:
    """Rank 0's mask: equal weights give equal masks, but for reductions that are not deterministic."""
    if trainer.world_size == 1:
        return mask
    tensors = {}
    for name, tensor in mask.items():
        bits = tensor.to(trainer.strategy.root_device, torch.uint8)
        torch.distributed.broadcast(bits, 0)
        tensors[name] = bits.bool()
    return Mask(tensors)
