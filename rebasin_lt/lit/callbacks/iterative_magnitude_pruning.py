"""Iterative magnitude pruning: every round inside one `fit`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError, Unfinished, check_least
from rebasin_lt.lit._compat import AVERAGING
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard, all_prunable, check_settings_kept, same_on_all_ranks
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import MASK, METADATA, load_weights_, read_checkpoint, save_network
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.optimizers import advance_schedules, renew_optimizers, trainable
from rebasin_lt.lit.training_length import check_max_steps, epochs_done, is_short_try, last_epoch_is_whole
from rebasin_lt.moment import Moment
from rebasin_lt.process.ranks import failing_together
from rebasin_lt.pruning.criteria import criterion_named, prune_by
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.prunable import SHORTCUTS
from rebasin_lt.pruning.waypoints import check_names_of_files, waypoints
from rebasin_lt.storage.paths import expanded

_SETTINGS = ("epochs_per_round", "targets", "criterion", "seed")


class IterativeMagnitudePruning(MaskGuard):
    """Prune by a criterion, train, and again, through every target sparsity (Frankle & Carbin; paper, IMP-FT).

    A round begins by pruning, so that the checkpoint at its end is the trained ticket; weights are changed in place,
    and optimiser and schedule are built anew. Each target is hit to within a weight and leaves two files in
    `dirpath`: `sparsity-S.mask.safetensors`, with the ticket's signs, and `sparsity-S.ckpt`. Works on any
    LightningModule, by parameter name, with one fit and one set of optimisers; its schedule must span
    `epochs_per_round`, not the whole fit.

        >>> pruning = rb.IterativeMagnitudePruning(targets=[0.75], fraction=0.5, epochs_per_round=2, dense_epochs=3)
        >>> pruning.num_epochs  # 3, then 2 at each of the sparsities 0.5 and 0.75
        7

    Args:
        targets: sparsities of the prunable weights to pass through, increasing
        epochs_per_round: training after each pruning
        fraction: share of the remaining weights removed in one round; a target cuts the round short
        after_prune: `finetune` goes on from the pruned weights with the module's own schedule (the paper);
            `rewind_lr` also sets the schedule back to the rewind moment; `rewind_weights` sets weights, buffers and
            schedule back to it
        rewind_from: for the two rewinds: a rewind checkpoint, or a moment that RewindCheckpoint writes in this fit
        dense_epochs: training before the first pruning; 0 if the network starts trained
        exclude: patterns of parameter names that stay dense, or kinds of `prunable`; by default projection shortcuts,
            as the paper's code. What stays dense is named in the log
        include: patterns or kinds that are pruned in any case, such as `embeddings`
        dirpath: folder of the files; `imp` in the trainer's root folder if not given
        criterion: what a weight is worth, a name of `CRITERIA` (magnitude, layerwise_magnitude, random, taylor), or
            your own function `package.module:name`, called as `scores(network, batches)`
        mask: a `*.mask.safetensors` file, or a Mask, to start from, which also says what is pruned
        seed: of a criterion that draws lots, and of the order of the images that one looks at

    Set `max_epochs: -1`: the callback knows the number. Raises InputError for targets, fraction, max_epochs or
    max_steps that cannot be, and Unfinished when training ends before the last target, by EarlyStopping, say.
    """

    state_key = "rebasin_lt.imp"

    def __init__(
        self,
        targets: list[float],
        epochs_per_round: int,
        fraction: float = 0.2,
        after_prune: Literal["finetune", "rewind_lr", "rewind_weights"] = "finetune",
        rewind_from: str | None = None,
        dense_epochs: int = 0,
        exclude: tuple[str, ...] = SHORTCUTS,
        dirpath: str | None = None,
        include: tuple[str, ...] = (),
        criterion: str = "magnitude",
        mask: str | Mask | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(Mask({}) if mask is None else mask)
        self._given = self.mask
        if mask is not None and (exclude != SHORTCUTS or include):
            raise InputError("imp mask says what is pruned: leave out exclude and include")
        self.sparsities = waypoints(targets, fraction, self.mask.sparsity)
        criterion_named(criterion, "imp criterion")
        check_names_of_files(targets)
        check_least("imp epochs_per_round", epochs_per_round, 1)
        if after_prune != "finetune" and rewind_from is None:
            raise InputError(
                f"imp after_prune is {after_prune}, which needs rewind_from: a rewind checkpoint or moment"
            )
        self.targets, self.fraction = list(targets), fraction
        self.epochs_per_round, self.dense_epochs = epochs_per_round, dense_epochs
        self.after_prune, self.rewind_from = after_prune, rewind_from
        self.exclude, self.include = exclude, include
        self.criterion, self.seed = criterion, seed
        self._given_dirpath = None if dirpath is None else Path(expanded(dirpath))
        self._begin()

    def _begin(self) -> None:
        """Forget an earlier fit: callbacks may be used again, with another trainer."""
        self.dirpath = self._given_dirpath
        self.mask = self._given
        self.round = 0  # 0 is dense; round r trains under sparsities[r - 1]
        self._rewound: dict[str, float] = {"epoch": 0.0, "step": 0.0}  # where the schedules of a round begin

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole fit."""
        return self.dense_epochs + len(self.sparsities) * self.epochs_per_round

    @property
    def schedule_epochs(self) -> float:
        """How many epochs the schedule of the running round spans, those before the rewind moment included."""
        if self.round == 0 and self.dense_epochs:
            return self.dense_epochs
        return self._rewound["epoch"] + self.epochs_per_round

    def mask_path(self, target: float) -> Path:
        return self._file(target, "mask.safetensors")

    def ticket_path(self, target: float) -> Path:
        return self._file(target, "ckpt")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        _refuse_averages(trainer)
        if is_short_try(trainer):
            pass  # as many epochs as Lightning takes
        elif trainer.max_epochs not in (-1, None, self.num_epochs):
            raise InputError(
                f"trainer.max_epochs is {trainer.max_epochs}, but pruning to {self.targets} takes {self.num_epochs} "
                f"epochs ({self.dense_epochs} dense + {len(self.sparsities)} rounds of {self.epochs_per_round}): set -1"
            )
        else:
            trainer.fit_loop.max_epochs = self.num_epochs
        if trainer.global_step == 0 or self.mask == self._given:  # else this trainer goes on with a fit of its own
            self._begin()
        if self.dirpath is None:
            self.dirpath = Path(trainer.default_root_dir) / "imp"
        if self.after_prune != "finetune":
            self._check_rewind(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trainable = trainable(pl_module)
        super().on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_max_steps(trainer, self.num_epochs, f"pruning to {self.targets}")
        super().on_train_start(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """What was missed is said here, after everything that other callbacks do when fit ends."""
        super().teardown(trainer, pl_module, stage)
        missing = self._missing(trainer) if stage == "fit" and not is_short_try(trainer) else []
        if missing:
            raise Unfinished(
                f"training ended in epoch {epochs_done(trainer)} of {self.num_epochs}, before pruning reached "
                f"{', '.join(f'{target:g}' for target in missing)}: leave out what ended it "
                "(EarlyStopping, a Timer, max_time, max_steps, should_stop)"
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _SETTINGS},
            "round": self.round,
            "rewound": dict(self._rewound),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.round, self._rewound = state_dict["round"], dict(state_dict["rewound"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:  # evaluation takes any weights
            return
        check_settings_kept(self, checkpoint["callbacks"].get(self.state_key, {}), _SETTINGS, "pruned with")
        saved = Mask(checkpoint.get(MASK, {}))
        self._look_at(pl_module)
        if {name: tensor.shape for name, tensor in saved.items()} != {n: t.shape for n, t in self.mask.items()}:
            raise InputError(
                "the checkpoint to resume prunes other parameters than this run: were `exclude` and `include` equal?"
            )
        self.mask = saved

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self._round_at(trainer.current_epoch)
        if due <= self.round:  # derived from the epoch, so that a replay after a crash does the same
            return
        self.round = due
        network = network_of(pl_module)
        lots = self.seed * 100_000 + due  # of this round, on every rank and after a resume
        with failing_together():
            images, sparsity = self._images(trainer), self.sparsities[due - 1]
            pruned = prune_by(self.criterion, network, images, self.mask, sparsity, lots)
        self.mask = same_on_all_ranks(trainer, pruned)
        if self.after_prune != "finetune" and not is_short_try(trainer):
            self._rewind(trainer, pl_module)
        self._bind(pl_module)
        renew_optimizers(trainer, pl_module, self._trainable)
        self._guard_optimizers(trainer)
        advance_schedules(trainer, self._rewound)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        pl_module.log_dict({
            "imp/round": float(self.round),
            "imp/sparsity": self.mask.sparsity,
            "imp/model_sparsity": self.mask.model_sparsity(parameters),
        })
        at_end = trainer.current_epoch + 1 == self.dense_epochs + self.round * self.epochs_per_round
        if self.round and at_end and last_epoch_is_whole(trainer):
            self._write_ticket(trainer, pl_module)

    def _images(self, trainer: Trainer) -> Iterable[Any]:
        """The training images for a criterion: ours all and without augmentation, or what the trainer trains on."""
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, ImageData) and criterion_named(self.criterion).needs_batches:
            return data.sweep("train", seed=self.seed, device=trainer.strategy.root_device)
        loader = trainer.train_dataloader
        return () if loader is None else loader  # whose length, as of any truth value, may not be known

    def _round_at(self, epoch: int) -> int:
        """The round that an epoch belongs to; the last one's if it lies beyond the plan, where others add epochs."""
        if epoch < self.dense_epochs:
            return 0
        return min(1 + (epoch - self.dense_epochs) // self.epochs_per_round, len(self.sparsities))

    def _look_at(self, module: LightningModule) -> None:
        """Find what there is to prune, unless it is known: when fit starts, for networks may be made in `setup`."""
        if not self.mask:
            self.mask = all_prunable(module, self.exclude, self.include)

    def _missing(self, trainer: Trainer) -> list[float]:
        """The targets of rounds that did not come to the end of their last epoch."""
        whole = epochs_done(trainer) - (0 if last_epoch_is_whole(trainer) else 1)
        rounds = max(0, whole - self.dense_epochs) // self.epochs_per_round
        return [target for target in self.targets if target not in self.sparsities[:rounds]]

    def _write_ticket(self, trainer: Trainer, module: LightningModule) -> None:
        target = self.sparsities[self.round - 1]
        if target not in self.targets or not trainer.is_global_zero or is_short_try(trainer):
            return
        about = {"stage": "imp", "round": self.round, "after_prune": self.after_prune, "criterion": self.criterion}
        save_network(self.ticket_path(target), trainer, module, self.mask, **about)  # first: it looks at the weights
        self.signed_mask(module).save(self.mask_path(target), **{name: str(value) for name, value in about.items()})

    def _file(self, target: float, suffix: str) -> Path:
        if self.dirpath is None:
            raise InputError("IterativeMagnitudePruning has no folder before a fit has begun: give dirpath")
        return self.dirpath / f"sparsity-{target:g}.{suffix}"

    def _writer(self, trainer: Trainer) -> RewindCheckpoint | None:
        """The callback that writes the moment to rewind to, if it is not a file."""
        callbacks = [callback for callback in trainer.callbacks if isinstance(callback, RewindCheckpoint)]  # type: ignore[attr-defined]
        return next((callback for callback in callbacks if callback.writes(str(self.rewind_from))), None)

    def _check_rewind(self, trainer: Trainer) -> None:
        """Raise InputError if there is no file to rewind to and no callback here will write it."""
        if self._writer(trainer) is None and not Path(expanded(str(self.rewind_from))).is_file():
            raise InputError(
                f"imp rewind_from is {self.rewind_from!r}: neither a file nor a moment that a RewindCheckpoint of "
                "this fit writes"
            )

    def _rewind(self, trainer: Trainer, module: LightningModule) -> None:
        """Learn where in training the rewind point lies; for `rewind_weights` also go back to its weights."""
        writer, name = self._writer(trainer), str(self.rewind_from)
        path = Path(name) if writer is None else writer.path(name)
        metadata = read_checkpoint(path).get(METADATA, {})
        if self.after_prune == "rewind_weights":
            load_weights_(module, path)
        moment = Moment.parse(metadata.get("moment", "0it"))
        if "steps_per_epoch" in metadata or "moment" not in metadata:
            per_epoch = metadata.get("steps_per_epoch", 1)
            self._rewound = {"epoch": moment.epochs(per_epoch), "step": moment.steps(per_epoch)}
        else:  # epochs of no fixed number of steps
            self._rewound = {"epoch": metadata["epoch"], "step": metadata["global_step"]}


def _refuse_averages(trainer: Trainer) -> None:
    """Raise InputError for a callback that averages weights: it would mix the networks of rounds under other masks."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AVERAGING):
            raise InputError(
                f"{type(callback).__name__} beside IterativeMagnitudePruning would average networks of different "
                "rounds, under different masks: leave it out, and train a ticket with it, under its mask"
            )
