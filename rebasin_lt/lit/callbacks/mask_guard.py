"""Keep pruned weights at exactly zero while any LightningModule trains."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import MASK, METADATA
from rebasin_lt.lit.network_module import network_of
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.weight_norm import check_directions

_LOG = logging.getLogger(__name__)


class MaskGuard(Callback):
    """Masks the weights at fit start, the gradients before clipping, and the weights after every optimiser step.

    Both are needed: momentum and weight decay revive weights whose gradients alone are masked, and unmasked gradients
    pollute momentum and the norm that clipping sees. Multiplications are fused over all tensors and never wait for
    the device. Masks simulate sparsity: no step gets faster.

    Args:
        mask: a `*.mask.safetensors` file, or a Mask; by parameter name of the LightningModule (of its `net` for ours)

    The mask goes into every checkpoint; a resume under another mask is refused with an InputError.
    """

    state_key = "rebasin_lt.mask_guard"

    def __init__(self, mask: str | Mask) -> None:
        self.mask = mask if isinstance(mask, Mask) else Mask.load(mask)
        self._weights: list[Tensor] = []
        self._factors: list[Tensor] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bind(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mask.apply_(network_of(pl_module))  # callbacks after this one may have set weights when fit started
        self._guard_optimizers(trainer)

    @torch.no_grad()
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        pairs = [(p.grad, f) for p, f in zip(self._weights, self._factors, strict=True) if p.grad is not None]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [factor for _, factor in pairs])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
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
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(self._mask_weights)

    @torch.no_grad()
    def _mask_weights(self, *_: Any) -> None:
        if self._weights:
            torch._foreach_mul_(self._weights, self._factors)


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
