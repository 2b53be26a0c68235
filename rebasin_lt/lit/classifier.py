"""Image classifiers to train: `Classifier`, and `MaskedClassifier`, the same under a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from rebasin_lt.errors import InputError
from rebasin_lt.lit._compat import with_signature
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.checkpoint import METADATA, describe, load_weights_
from rebasin_lt.lit.epoch_sums import EpochSums
from rebasin_lt.lit.network_module import NetworkModule
from rebasin_lt.lit.schedule import learning_rate_factor
from rebasin_lt.models.registry import build_network
from rebasin_lt.models.sizes import check_reads, image_shape
from rebasin_lt.moment import Moment
from rebasin_lt.precision import sum_dtype
from rebasin_lt.settings.user_code import import_function

SUMS = "rebasin_lt_epoch_sums"
"""Key in a checkpoint: what every rank had summed up of its epoch, shape (ranks, 4), float64."""


class Classifier(NetworkModule):
    """A network, cross-entropy, SGD or AdamW, a schedule by epoch, and top-1 and top-5 accuracy in percent.

    All arguments are primitives, so every checkpoint loads without unpickling and without knowing this class. The
    defaults are the paper's for dense CIFAR training (arXiv 2505.05143, Table 2).

        >>> rb.Classifier("resnet20", width=0.5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    Args:
        arch: a name that `build_network` takes: `resnet20`, `torchvision:NAME`, `package.module:factory` …
        width: factor on every hidden channel count
        num_classes: classes of the data
        input_shape: channels, height and width of an image; the architecture's usual one if not given
        optimizer: SGD with momentum, or AdamW
        learning_rate: its peak
        momentum: of SGD
        weight_decay: on all parameters, normalisation included, as the paper's code
        lr_schedule: cosine to 0, steps at `milestones`, or constant
        milestones: epochs at which `multistep` multiplies the learning rate by 0.1
        warmup_epochs: epochs of linear warm-up
        schedule: for a run that starts from a rewind checkpoint at k. `restart` (the paper): a new schedule over this
            run's epochs. `continue`: the dense run's schedule from k on. `truncate`: a new schedule as long as
            the dense run's, cut off when this run ends
        label_smoothing: of the training loss
        loss: a training loss of your own instead of cross-entropy, `package.module:function`, called with logits, shape
            (batch, classes), and labels, shape (batch,), which returns a scalar; what is evaluated stays cross-entropy.
            It is no part of a checkpoint: a file may not choose which code is imported
        init_from: checkpoint to take weights and buffers from
        channels_last: keep weights of convolutions as (out, H, W, in) in memory, which makes GPUs keep their inputs and
            outputs alike and compute faster in half precision; the same network up to rounding
        compile: have torch.compile translate the network when it trains; the same network and the same names in
            checkpoints, up to rounding. Needs a C++ compiler, or Triton on a GPU; the first steps take minutes.
            `reduce-overhead` is its mode that launches the forward and the backward pass as a CUDA graph each, for
            training without accumulated gradients
    """

    def __init__(
        self,
        arch: str = "mlp",
        width: float = 1,
        num_classes: int = 10,
        input_shape: list[int] | None = None,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        learning_rate: float = 0.08,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        lr_schedule: Literal["cosine", "multistep", "constant"] = "cosine",
        milestones: list[int] | None = None,
        warmup_epochs: int = 0,
        schedule: Literal["restart", "continue", "truncate"] = "restart",
        label_smoothing: float = 0.0,
        init_from: str | None = None,
        channels_last: bool = False,
        compile: bool | Literal["reduce-overhead"] = False,
        loss: str | None = None,
    ) -> None:
        super().__init__()
        if not learning_rate > 0:
            raise InputError(f"learning_rate is {learning_rate}, expected a positive number")
        self.save_hyperparameters(ignore=["loss"])
        self._loss = None if loss is None else _own_loss(loss, label_smoothing)
        shape = None if input_shape is None else image_shape(input_shape)
        self.net = build_network(arch, width=width, num_classes=num_classes, input_shape=shape)
        if channels_last:
            self.net.to(memory_format=torch.channels_last)
        self._rewound_epochs = 0.0 if init_from is None else _epochs_done(load_weights_(self, init_from))
        self._train_sums, self._eval_sums = EpochSums(), EpochSums()
        self._resumed_sums: Tensor | None = None

    def architecture(self) -> dict[str, Any]:
        """What `build_network` needs to make this network again."""
        return {key: self.hparams[key] for key in ("arch", "width", "num_classes", "input_shape")}

    def forward(self, images: Tensor) -> Tensor:  # shape: (batch, C, H, W) -> (batch, classes)
        """An empty share of the images is one, too, though a network of the user's may not take none."""
        logits: Tensor = self.net(images if len(images) else images.new_zeros(1, *images.shape[1:]))
        return logits[: len(images)]

    def setup(self, stage: str) -> None:
        """Refuse what does not fit together before anything is computed."""
        batches = self.trainer.accumulate_grad_batches
        if stage == "fit" and self.hparams["compile"] == "reduce-overhead" and batches > 1:
            raise InputError(
                f"model.compile is reduce-overhead, and trainer.accumulate_grad_batches is {batches}: each CUDA graph "
                "writes its gradients over the last ones (pytorch/pytorch#169545): set one of them to true or to 1"
            )
        self.check_takes(getattr(self.trainer, "datamodule", None))

    def check_takes(self, data: object) -> None:
        """Raise InputError, with both values, for data whose classes or images do not fit the network."""
        classes, shape = getattr(data, "num_classes", None), getattr(data, "input_shape", None)
        if classes is not None and classes != self.hparams["num_classes"]:
            raise InputError(f"model.num_classes is {self.hparams['num_classes']}, the data has {classes} classes")
        if shape is not None:
            check_reads(self.net, self.hparams["arch"], shape)

    def on_fit_start(self) -> None:
        if mode := self.hparams["compile"]:
            self.net.compile(**({} if mode is True else {"mode": mode}))  # in place: no wrapper, no other names

    @with_signature
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss = self._training_loss(logits, labels)
        self._train_sums.add(loss.detach(), logits.detach(), labels, times=len(labels))
        return loss

    def _training_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self._loss is None:
            return cross_entropy(logits, labels, label_smoothing=self.hparams["label_smoothing"])
        loss = self._loss(logits, labels)
        if not isinstance(loss, Tensor) or loss.ndim:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"model.loss returned {found}, expected a scalar tensor: the mean over the batch, say")
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Class probabilities, shape (batch, classes)."""
        return self(batch[0]).softmax(dim=1)  # type: ignore[no-any-return]

    def on_train_epoch_start(self) -> None:
        self._train_sums = EpochSums()

    def on_validation_epoch_start(self) -> None:
        self._eval_sums = EpochSums()

    def on_test_epoch_start(self) -> None:
        self._eval_sums = EpochSums()

    def on_train_epoch_end(self) -> None:
        self._log("train", self._train_sums)

    def on_validation_epoch_end(self) -> None:
        self._log("val", self._eval_sums)

    def on_test_epoch_end(self) -> None:
        self._log("test", self._eval_sums)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """New objects on every call, so that each round of pruning starts with a fresh optimiser and schedule."""
        settings = self.hparams
        if settings["optimizer"] == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(
                self.parameters(),
                lr=settings["learning_rate"],
                momentum=settings["momentum"],
                weight_decay=settings["weight_decay"],
                foreach=True,  # torch's choice on a GPU; on a CPU a fifth of a small network's time, to the same bits
            )
        else:
            optimizer = torch.optim.AdamW(
                self.parameters(),
                lr=settings["learning_rate"],
                weight_decay=settings["weight_decay"],
                foreach=True,
            )
        offset, length = self._schedule_window()
        factor = learning_rate_factor(
            settings["lr_schedule"],
            length,
            warmup_epochs=settings["warmup_epochs"],
            milestones=settings["milestones"] or (),
        )
        scheduler = LambdaLR(optimizer, lambda epoch: factor(epoch + offset))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.setdefault(METADATA, {}).update(describe(self.trainer, self))
        checkpoint[SUMS] = self._sums_of_all_ranks()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the running epoch's sums; where the next step begins another epoch, they are not used."""
        self._resumed_sums = checkpoint.get(SUMS)

    def on_train_start(self) -> None:
        """Take this rank's share of the sums in the checkpoint."""
        sums, self._resumed_sums = self._resumed_sums, None
        if sums is None:
            return
        if len(sums) != self.trainer.world_size:  # the shares of another number of ranks
            sums = torch.cat([sums.sum(0, keepdim=True), sums.new_zeros(self.trainer.world_size - 1, 4)])
        self._train_sums = EpochSums(sums[self.trainer.global_rank])

    def _sums_of_all_ranks(self) -> Tensor:  # shape: (ranks, 4), float64, on the CPU
        sums = torch.zeros(self.trainer.world_size, 4, dtype=sum_dtype(self.device), device=self.device)
        sums[self.trainer.global_rank] = self._train_sums.totals(self.device)
        gathered: Tensor = self.trainer.strategy.reduce(sums, reduce_op="sum")
        return gathered.cpu().double()

    def _schedule_window(self) -> tuple[float, float]:
        """Where this run's schedule begins and how long it is, in epochs."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, IterativeMagnitudePruning):
                return 0.0, callback.schedule_epochs
        length = float(self.trainer.max_epochs or 1)
        mode = self.hparams["schedule"]
        if mode == "restart":
            return 0.0, length
        return (self._rewound_epochs if mode == "continue" else 0.0), length + self._rewound_epochs

    @torch.no_grad()
    def _evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self(images)
        losses = cross_entropy(logits, labels, reduction="none")
        losses = losses.to(sum_dtype(losses.device))  # summed so, the batches do not matter
        self._eval_sums.add(losses.sum(), logits, labels, top5=True)

    def _log(self, stage: str, sums: EpochSums) -> None:
        totals = self.trainer.strategy.reduce(sums.totals(self.device), reduce_op="sum")
        loss, top1, top5, count = totals.tolist()
        if not count:
            return
        values = {f"{stage}/loss": loss / count, f"{stage}/top1": 100 * top1 / count}
        if stage != "train" and self.hparams["num_classes"] > 5:
            values[f"{stage}/top5"] = 100 * top5 / count
        self.log_dict(values, rank_zero_only=True)


class MaskedClassifier(Classifier):
    """`Classifier` under a mask: pruned weights are zero from the first step to the last.

        >>> rb.Mask.ones_of(rb.build_network("mlp")).save("whole.mask.safetensors")
        >>> rb.MaskedClassifier("whole.mask.safetensors", arch="mlp").guard.mask.sparsity
        0.0

    Args:
        mask: a `*.mask.safetensors` file
        signs: signs that the kept weights begin with, as `MaskGuard` takes them
        signs_from: file that they come from, as `MaskGuard` takes it
    """

    def __init__(
        self, mask: str, signs: Literal["none", "mask", "own"] = "none", signs_from: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.guard = MaskGuard(mask, signs, signs_from)
        self.guard.mask.check_fits(dict(self.net.named_parameters()))

    def configure_callbacks(self) -> Sequence[Callback]:
        return [self.guard]


def _own_loss(name: str, label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The function that the user names. Raises InputError for what is none."""
    if label_smoothing:
        raise InputError(
            f"label_smoothing is {label_smoothing}, which is cross-entropy's, beside model.loss: leave it out"
        )
    return import_function("model.loss", name, "a function loss(logits, labels)")


def _epochs_done(metadata: dict[str, Any]) -> float:
    """Epochs of dense training behind a rewind checkpoint; 0 for any other file, which starts a run of its own."""
    return Moment.parse(metadata.get("moment", "0it")).epochs(metadata.get("steps_per_epoch", 1))
