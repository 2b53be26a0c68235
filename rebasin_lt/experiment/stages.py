"""The stages that train, each a folder: run once, skipped when complete, resumed where they stopped, as `fit` is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer, seed_everything

from rebasin_lt.errors import DivergedError
from rebasin_lt.experiment.dataset import build_dataset
from rebasin_lt.experiment.file_names import DIVERGED, FINAL, mask_name, rewind_name, ticket_name
from rebasin_lt.experiment.loggers import named_loggers
from rebasin_lt.experiment.modules import build_module, module_callbacks
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit._compat import join_ranks
from rebasin_lt.lit.callbacks.decay_taken import DecayTaken
from rebasin_lt.lit.callbacks.divergence import Divergence
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.preemption import Preemption
from rebasin_lt.lit.callbacks.resume_point import LAST, ResumePoint
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.callbacks.run_loggers import RunLoggers
from rebasin_lt.lit.callbacks.sign_in import SignIn
from rebasin_lt.lit.callbacks.step_seed import StepSeed
from rebasin_lt.lit.callbacks.stop_after import StopAfter
from rebasin_lt.lit.callbacks.time_limit import TimeLimit
from rebasin_lt.lit.checkpoint import load_weights_, network_hash, save_network
from rebasin_lt.lit.data.registry import data_module
from rebasin_lt.lit.loggers import close_loggers
from rebasin_lt.lit.metrics_file import MetricsFile
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.moment import Moment
from rebasin_lt.process.ranks import broadcast_buffers_, decided
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import remove_temporaries, write_json
from rebasin_lt.storage.run_folder import claim_folder, discard_result, finish, finished

_RESUME_MINUTES = 2.0  # most stages are over by then
_BY_CONTENT = ("mask", "init_from", "data.root", "signs_from", "imp.mask", "imp.rewind_from")
"""Paths: the folder may move, and hashes say what lay there."""


def train_dense(folder: Path, recipe: Recipe, seed: int, until: str | None = None) -> dict[str, float]:
    """Train a dense network from `seed`; leaves its rewind checkpoints and `final.ckpt`; returns its test metrics.

    With `until`, the last of the recipe's moments, in epochs, training stops there as the whole training would be
    there, to the bit: its length and schedule are the whole's. No `final.ckpt` is left, which would pass for trained.
    """
    rewind = RewindCheckpoint(list(recipe.rewinds), dirpath=str(folder / "rewind"))
    stops = [] if until is None else [StopAfter(Moment.parse(until).count)]
    return _train(
        folder,
        recipe,
        seed,
        lambda: build_module(recipe, recipe.dense),
        recipe.dense_epochs,
        [rewind, *stops],
        {"stage": "dense", "rewinds": list(recipe.rewinds), **recipe.dense, **({"until": until} if until else {})},
        [rewind_file(folder, moment) for moment in recipe.rewinds],
        leaves_final=until is None,
    )


def prune(folder: Path, recipe: Recipe, dense: Path, seed: int) -> dict[str, Any]:
    """Prune the trained network in `dense` to every target; leaves a mask and a ticket of each in `imp`.

    Returns the test metrics of the last, and under `tickets` those of each by its target.
    """
    trained = trained_file(dense) or dense / FINAL
    settings = {"seed": seed, **imp_settings(recipe, dense)}
    imp = IterativeMagnitudePruning(
        list(recipe.targets), recipe.epochs_per_round, recipe.fraction, dirpath=str(folder / "imp"), **settings
    )
    return _train(
        folder,
        recipe,
        seed,
        lambda: build_module(recipe, recipe.prune, init_from=trained),
        imp.num_epochs,
        [imp, *module_callbacks(recipe, init_from=trained)],
        {
            **{"stage": "prune", "targets": list(recipe.targets), "fraction": recipe.fraction, **recipe.prune},
            **{"init_sha256": network_hash(trained), **_about_imp(recipe, settings)},
        },
        [file(folder, target) for target in recipe.targets for file in (mask_file, ticket_file)],
        tickets={f"{target:g}": ticket_file(folder, target) for target in recipe.targets},
    )


def imp_settings(recipe: Recipe, dense: Path) -> dict[str, Any]:
    """What `recipe.imp` asks of the pruning of the network in `dense`, whose rewind file stands for a moment."""
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in recipe.imp.items()}
    return settings | ({"rewind_from": str(rewind_file(dense, recipe.pruned_from))} if recipe.pruned_from else {})


def _about_imp(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies settings of pruning: as they were given, and files by what is in them."""
    about: dict[str, Any] = {"imp": dict(recipe.imp)} if recipe.imp else {}
    if settings.get("rewind_from"):
        about["rewind_sha256"] = network_hash(settings["rewind_from"])
    if settings.get("mask"):
        about["mask_sha256"] = Mask.load(settings["mask"]).hash
    return about


def train_sparse(
    folder: Path,
    recipe: Recipe,
    mask: Path,
    init_from: Path,
    seed: int,
    epochs: int,
    signs: Literal["none", "mask", "own"] = "none",
    signs_from: Path | None = None,
) -> dict[str, float]:
    """Train under `mask` from the weights in `init_from`, with `signs` as `MaskGuard` has it; returns the test metrics.

    The run belongs to what the mask keeps, and to its signs only where they are asked for.
    """
    begin: dict[str, Any] = {} if signs == "none" else {"signs": signs}
    begin |= {} if signs_from is None else {"signs_from": str(signs_from)}
    content = Mask.load(mask)
    signed = {**recipe.sparse, **begin}.get("signs") == "mask"  # a recipe may ask for it, too
    hashes = {"mask_sha256": (content if signed else content.unsigned).hash, "init_sha256": network_hash(init_from)}
    hashes |= {} if signs_from is None else {"signs_sha256": network_hash(signs_from)}
    return _train(
        folder,
        recipe,
        seed,
        lambda: build_module(recipe, recipe.sparse, mask, init_from, begin),
        epochs,
        [*module_callbacks(recipe, mask, init_from, begin), *([SignIn(**recipe.sign_in)] if recipe.sign_in else [])],
        {
            **{"stage": "sparse", "mask": str(mask), "init_from": str(init_from), **recipe.sparse, **begin, **hashes},
            **({"sign_in": dict(recipe.sign_in)} if recipe.sign_in else {}),
        },
        [],
    )


def trained_file(run: Path) -> Path | None:
    """The trained network of a run: that of a stage here, else that of `rebasin-lt fit`; None if there is neither."""
    return next((run / name for name in (FINAL, LAST) if (run / name).is_file()), None)


def mask_file(pruned: Path, target: float) -> Path:
    """Where `prune` leaves the mask of a target sparsity."""
    return pruned / "imp" / mask_name(target)


def ticket_file(pruned: Path, target: float) -> Path:
    """Where `prune` leaves the network that it pruned to a target sparsity and fine-tuned."""
    return pruned / "imp" / ticket_name(target)


def rewind_file(dense: Path, moment: str) -> Path:
    """Where `train_dense` leaves the weights of a moment to rewind to."""
    return dense / rewind_name(moment)


def _train(
    folder: Path,
    recipe: Recipe,
    seed: int,
    build: Callable[[], LightningModule],
    epochs: int,
    callbacks: Sequence[Callback],
    about: dict[str, Any],
    outputs: Sequence[Path],
    leaves_final: bool = True,
    tickets: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Train and test, unless the folder has the result, the trained network and `outputs`: what is lost comes back.

    Training that stops before its end leaves no trained network (`leaves_final`). Networks among `outputs` that are to
    be tested too are `tickets`, by name. Of several processes the first decides what is to be done, and writes. A run
    that diverges leaves a note of it, which a report counts, and raises DivergedError.
    """
    common: dict[str, Any] = {"network": recipe.network, "data": recipe.data, "trainer": recipe.trainer}
    common |= {"module": recipe.module} if recipe.module else {}
    config = {**about, **common, "epochs": epochs, "seed": seed}
    outputs = [*([folder / FINAL] if leaves_final else []), *outputs]
    told = RunLoggers(folder, named_loggers(recipe.trainer.get("logger")), config)
    trainer = _trainer(folder, recipe, seed, epochs, [*callbacks, *([told] if told.named else [])])
    join_ranks(trainer)
    with ExitStack() as held:

        def begin() -> tuple[dict[str, Any] | None, str | None]:
            """The result if there is one, else the checkpoint to go on from."""
            held.enter_context(claim_folder(folder, config, _BY_CONTENT))
            result = finished(folder)
            if result is not None and all(path.is_file() for path in outputs):
                return result, None
            discard_result(folder)
            remove_temporaries(folder)
            return None, str(folder / LAST) if (folder / LAST).exists() else None

        result, resume = decided(begin)
        if result is None:
            try:
                written = (folder / FINAL, about["stage"]) if leaves_final else None
                result = measured = _run(trainer, folder, recipe, seed, build, resume, written, tickets or {})
            except DivergedError as error:
                if trainer.is_global_zero:
                    write_json(folder / DIVERGED, {"reason": str(error)})
                raise

            def end() -> None:
                finish(folder, measured)
                for name in (LAST, DIVERGED):
                    (folder / name).unlink(missing_ok=True)

            decided(end)
    return result


def _trainer(folder: Path, recipe: Recipe, seed: int, epochs: int, callbacks: Sequence[Callback]) -> Trainer:
    settings = {"enable_checkpointing": True, "limit_val_batches": 0, **recipe.trainer}
    resume = ResumePoint(every_minutes=_RESUME_MINUTES, every_epoch=False)
    limit = settings.pop("max_time", None)
    if not isinstance(settings.get("logger"), bool):
        settings.pop("logger", None)  # RunLoggers opens them
    limits = [] if limit is None else [TimeLimit(limit)]
    ours = [StepSeed(seed), *limits, DecayTaken(), MetricsFile(folder), Divergence(), resume, Preemption(resume)]
    return quiet_trainer(folder, epochs, [*callbacks, *ours], **settings)


def _run(
    trainer: Trainer,
    folder: Path,
    recipe: Recipe,
    seed: int,
    build: Callable[[], LightningModule],
    resume: str | None,
    written: tuple[Path, str] | None,
    tickets: Mapping[str, Path],
) -> dict[str, Any]:
    """Train, write the network, and test the very network that was written, and `tickets`; returns the test metrics.

    `written` is the file of the trained network and the stage that it says it is of; None where callbacks wrote all.
    """
    seed_everything(seed, workers=True, verbose=False)
    module = build()
    data = data_module(build_dataset(recipe, seed=seed))
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    broadcast_buffers_(module, trainer.strategy.root_device)
    callbacks: Sequence[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    mask = next((callback.mask for callback in callbacks if type(callback) is MaskGuard), None)
    if written is not None:
        path, stage = written
        decided(lambda: save_network(path, trainer, module, mask, stage=stage))
    trainer.test(module, datamodule=data, verbose=False)
    close_loggers(trainer.loggers)
    result: dict[str, Any] = _tested(trainer, "the trained network")
    if tickets:
        trainer.callbacks, trainer.loggers = [], []  # type: ignore[attr-defined]  # these hear of the last alone
    for name, path in tickets.items():
        load_weights_(module, path)
        trainer.test(module, datamodule=data, verbose=False)
        result.setdefault("tickets", {})[name] = _tested(trainer, f"the ticket {name}")
    return result


def _tested(trainer: Trainer, what: str) -> dict[str, float]:
    """The metrics of the last test. Raises DivergedError for one that is not finite."""
    found = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    for name, value in found.items():
        if not math.isfinite(value):
            raise DivergedError(f"the run diverged: {name} of {what} is {value}; lower its learning rate")
    return {name: float(f"{value:.7g}") for name, value in found.items()}
