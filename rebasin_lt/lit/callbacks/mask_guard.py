"""Keep pruned weights at exactly zero while any LightningModule trains."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError
from rebasin_lt.lit._compat import averaged_modules, hides_its_steps
from rebasin_lt.lit.checkpoint_content import MASK, METADATA
from rebasin_lt.lit.checkpoint_file import check_finite, read_checkpoint
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO
from rebasin_lt.lit.checkpoint_layout import state_in
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.prunable import prunable
from rebasin_lt.pruning.signs import SignsSet, set_signs_
from rebasin_lt.pruning.weight_norm import check_directions
from rebasin_lt.settings.choices import check_known

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

        >>> network = rb.build_network("mlp")
        >>> guard = rb.MaskGuard(rb.magnitude_prune(network, rb.Mask.ones_of(network), 0.9))
        >>> round(guard.mask.sparsity, 3)
        0.9

    Args:
        mask: a `*.mask.safetensors` file, or a Mask; by parameter name of the LightningModule (of its `net` for ours)
        signs: signs that the kept weights are given before the first step, w = |w| · sign: `none`; those of the
            `mask`, as pruning here leaves them; or the network's `own`, which it had at another moment
        signs_from: the checkpoint of that moment, for `own`

    The mask goes into every checkpoint; a resume under another mask, or other signs, is refused with an InputError.
    """

    state_key = "rebasin_lt.mask_guard"

    def __init__(
        self, mask: str | Mask, signs: Literal["none", "mask", "own"] = "none", signs_from: str | None = None
    ) -> None:
        given = mask if isinstance(mask, Mask) else Mask.load(mask)
        self.mask = given.unsigned
        self._signs = _signs(given, signs, signs_from, "mask" if isinstance(mask, Mask) else f"mask {mask}")
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
        found = self._set_signs(trainer, pl_module)
        self._turned = 0 if found is None else found.turned
        self._mask_averages(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = self._set_signs(trainer, pl_module)
        if found is not None and pl_module.global_rank == 0:
            _LOG.info("%s", found._replace(turned=found.turned or self._turned).describe())
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

    def state_dict(self) -> dict[str, Any]:
        return {} if self._signs is None else {"signs_sha256": self._signs.hash}

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

        theirs = checkpoint.get("callbacks", {}).get(self.state_key, {}).get("signs_sha256", "none")
        ours = MaskGuard.state_dict(self).get("signs_sha256", "none")
        if theirs != ours:
            raise InputError(
                f"the checkpoint to resume began with signs {theirs[:12]}, this run has {ours[:12]}: set signs, "
                "signs_from and mask as they were, or start afresh"
            )

    def _set_signs(self, trainer: Trainer, module: LightningModule) -> SignsSet | None:
        """Give the kept weights their signs, before the first step.

        When fit starts, for what looks at weights before the first step: a sanity check of validation, or callbacks
        whose turn is before ours, such as SignIn and RewindCheckpoint. And again when training starts, for weights that
        a callback after ours loaded in between, such as InitFrom; where none did, this changes nothing.
        """
        if self._signs is None or trainer.global_step or trainer.ckpt_path:  # a resumed run has its own weights
            return None
        return set_signs_(dict(network_of(module).named_parameters(remove_duplicate=False)), self._signs)

    def signed_mask(self, module: LightningModule) -> Mask:
        """The mask, with the signs that the module's weights have now."""
        return self.mask.signed_by(dict(network_of(module).named_parameters(remove_duplicate=False)))

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


def _signs(mask: Mask, signs: str, signs_from: str | None, where: str) -> Mask | None:
    """The signed mask that training begins with; None where weights keep the signs that they have."""
    check_known("signs", signs, ("none", "mask", "own"))
    if (signs == "own") != (signs_from is not None):
        raise InputError(
            f"signs is {signs!r} and signs_from is {signs_from!r}: expected a checkpoint beside `own`, and none else"
        )
    if signs == "mask" and not mask.is_signed:
        raise InputError(
            f"signs is 'mask', but the {where} has none: expected one of IMP by this release; or signs: own, and "
            "signs_from: the ticket's checkpoint"
        )
    if signs_from is None:
        return mask if signs == "mask" else None
    return mask.signed_by(_own_weights(signs_from, mask))


def _own_weights(path: str, mask: Mask) -> dict[str, Tensor]:
    """The weights of a checkpoint under the mask's names. Raises InputError where it is of another network."""
    content = read_checkpoint(path)
    try:
        state = state_in(content, mask.keys(), path).state
        check_finite(state, path)
        mask.check_fits(state)
    except InputError as error:
        raise InputError(f"signs_from is {path}, of another network: {error}") from error
    return state


def hold_masks(trainer: Trainer) -> list[Mask]:
    """Zero what the trainer's guards prune, right before it is written somewhere; returns their masks."""
    guards = [callback for callback in trainer.callbacks if isinstance(callback, MaskGuard)]  # type: ignore[attr-defined]
    for guard in guards:
        guard.hold(trainer, trainer.lightning_module)
    return [guard.mask for guard in guards]


def check_settings_kept(callback: Callback, saved: Mapping[str, Any], names: Sequence[str], how: str) -> None:
    """Raise InputError for a setting that the checkpoint to resume says was another; `how` it says what was done."""
    for name in names:
        ours = getattr(callback, name)
        if saved.get(name, ours) != ours:
            raise InputError(f"the checkpoint to resume was {how} {name} {saved[name]}, this run has {ours}")


def all_prunable(module: LightningModule, exclude: Iterable[str], include: Iterable[str]) -> Mask:
    """Everything kept of what there is to prune when fit starts; what stays dense is named in the log."""
    network = network_of(module)
    found = prunable(network, exclude, include)
    if found.dense and module.global_rank == 0:
        _LOG.warning("%s", found.describe())
    return Mask.ones_like(dict(network.named_parameters()), found.names)


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
