"""Small trainings of every kind, each to be done on one device and on another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from small import STEPS, Crash, Crashed, Spots, classifier, fitted, network, write_images

from rebasin_lt.lit.callbacks.dynamic_sparse_training import DynamicSparseTraining
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.callbacks.sign_in import SignIn
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.pruning.mask import Mask

Trainer = dict[str, Any]


def mask(signed: bool = False) -> Mask:
    torch.manual_seed(1)
    net = network()
    names = [name for name, weight in net.named_parameters() if weight.ndim > 1]
    kept = Mask({f"{name}": torch.rand(net.get_parameter(name).shape) < 0.5 for name in names})
    return kept.signed_by(dict(net.named_parameters())) if signed else kept


def imp(**settings: Any) -> IterativeMagnitudePruning:
    return IterativeMagnitudePruning([0.5, 0.7], epochs_per_round=1, fraction=0.5, dense_epochs=1, **settings)


def dense(folder: Path, trainer: Trainer) -> Any:
    return fitted(folder, trainer)


def adamw_clipped_and_accumulated(folder: Path, trainer: Trainer) -> Any:
    module = classifier(optimizer="adamw", warmup_epochs=1, label_smoothing=0.1)
    return fitted(folder, trainer, module, gradient_clip_val=0.5, accumulate_grad_batches=2)


def channels_last(folder: Path, trainer: Trainer) -> Any:
    return fitted(folder, trainer, classifier(channels_last=True))


def averaged(folder: Path, trainer: Trainer) -> Any:
    return fitted(folder, trainer, callbacks=[MaskGuard(mask()), EMAWeightAveraging()])


def masked(folder: Path, trainer: Trainer) -> Any:
    return fitted(folder, trainer, callbacks=[MaskGuard(mask(signed=True), signs="mask")])


def signed_in(folder: Path, trainer: Trainer) -> Any:
    return fitted(folder, trainer, callbacks=[MaskGuard(mask()), SignIn()])


def rigl(folder: Path, trainer: Trainer) -> Any:
    return fitted(folder, trainer, callbacks=[DynamicSparseTraining(sparsity=0.5, update_every=2, until=1.0)])


def set_by_lot(folder: Path, trainer: Trainer) -> Any:
    callback = DynamicSparseTraining(mask=mask(), method="set", update_every=3, until=1.0)
    return fitted(folder, trainer, callbacks=[callback])


def finetuned(folder: Path, trainer: Trainer) -> Any:
    return pruned(folder, trainer, imp())


def rewound_rates(folder: Path, trainer: Trainer) -> Any:
    return pruned(folder, trainer, RewindCheckpoint(["2it"]), imp(after_prune="rewind_lr", rewind_from="2it"))


def rewound_weights(folder: Path, trainer: Trainer) -> Any:
    return pruned(
        folder, trainer, RewindCheckpoint(["0it", "2it"]), imp(after_prune="rewind_weights", rewind_from="2it")
    )


def pruned_by_gradients(folder: Path, trainer: Trainer) -> Any:
    return pruned(folder, trainer, imp(criterion="taylor"))


def pruned_by_lot(folder: Path, trainer: Trainer) -> Any:
    return pruned(folder, trainer, imp(criterion="random"))


def pruned(folder: Path, trainer: Trainer, *callbacks: Any) -> Any:
    found = fitted(folder, trainer, callbacks=callbacks, epochs=-1)
    files = [torch.load(path, weights_only=True, map_location="cpu") for path in sorted(folder.rglob("*.ckpt"))]
    masks = [Mask.load(path) for path in sorted(folder.rglob("*.mask.safetensors"))]
    return {**found, "files": files, "masks": [dict(mask.content) for mask in masks]}


def streamed_from_memory(folder: Path, trainer: Trainer) -> Any:
    return fitted(folder, trainer, data=Spots(resident=False))


def streamed_from_files(folder: Path, trainer: Trainer) -> Any:
    root = write_images(folder / "images")
    data = ImageFolder(str(root), batch_size=10, val_size=4, image_size=6, resident=False, num_workers=0)
    return fitted(folder, trainer, data=data)


def resumed(folder: Path, trainer: Trainer, step: int, callbacks: Callable[[], list[Any]], epochs: int = 2) -> Any:
    """Crashed before a step, and gone on from the checkpoint before it."""
    with pytest.raises(Crashed):
        fitted(folder, trainer, callbacks=[*callbacks(), Crash(step)], epochs=epochs, every_steps=2)
    return fitted(folder, trainer, callbacks=callbacks(), epochs=epochs, ckpt_path=folder / "last.ckpt")


def resumed_in_mid_epoch(folder: Path, trainer: Trainer) -> Any:
    return resumed(folder, trainer, STEPS + 3, lambda: [MaskGuard(mask())])


def resumed_in_a_round(folder: Path, trainer: Trainer) -> Any:
    return resumed(folder, trainer, 2 * STEPS + 3, lambda: [imp()], epochs=-1)


def resumed_exchange(folder: Path, trainer: Trainer) -> Any:
    return resumed(folder, trainer, STEPS + 3, lambda: [DynamicSparseTraining(sparsity=0.5, update_every=2, until=1.0)])


def resumed_factors(folder: Path, trainer: Trainer) -> Any:
    return resumed(folder, trainer, STEPS + 3, lambda: [MaskGuard(mask()), SignIn()])


SCENARIOS: list[Callable[[Path, Trainer], Any]] = [
    dense,
    adamw_clipped_and_accumulated,
    channels_last,
    averaged,
    masked,
    signed_in,
    rigl,
    set_by_lot,
    finetuned,
    rewound_rates,
    rewound_weights,
    pruned_by_gradients,
    pruned_by_lot,
    streamed_from_memory,
    streamed_from_files,
    resumed_in_mid_epoch,
    resumed_in_a_round,
    resumed_exchange,
    resumed_factors,
]
