"""`rebasin-lt fit | validate | test | predict`: LightningCLI, with what every run here needs already in place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser

import rebasin_lt.lit.callbacks.dynamic_sparse_training  # noqa: F401
import rebasin_lt.lit.callbacks.init_from  # noqa: F401
import rebasin_lt.lit.callbacks.sign_in  # noqa: F401
import rebasin_lt.lit.classifier  # noqa: F401 - short class names in a YAML resolve once their modules are imported
from rebasin_lt.commands.evaluated import tell_metrics, write_predictions
from rebasin_lt.commands.run_settings import (
    check_seed,
    check_values,
    evaluated_folder,
    hyperparameters,
    loggers_of,
    may_differ,
)
from rebasin_lt.commands.spelling import lists_in_brackets
from rebasin_lt.errors import BrokenFileError, InputError, RebasinError
from rebasin_lt.lit._compat import ConfigWinsCLI, NoProfiler, at_the_moment_of, skip_idle_hooks
from rebasin_lt.lit.callbacks.decay_taken import DecayTaken
from rebasin_lt.lit.callbacks.divergence import Divergence
from rebasin_lt.lit.callbacks.preemption import Preemption
from rebasin_lt.lit.callbacks.progress import FitProgress
from rebasin_lt.lit.callbacks.resume_point import LAST, ResumePoint
from rebasin_lt.lit.callbacks.run_loggers import RunLoggers
from rebasin_lt.lit.callbacks.step_seed import StepSeed
from rebasin_lt.lit.callbacks.time_limit import TimeLimit
from rebasin_lt.lit.checkpoint_file import check_finite, read_checkpoint
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO
from rebasin_lt.lit.loggers import NotYet, close_loggers
from rebasin_lt.lit.metrics_file import MetricsFile
from rebasin_lt.lit.trainer import quiet
from rebasin_lt.lit.training_length import check_every_epoch_has_batches
from rebasin_lt.lit.training_state import check_training_state
from rebasin_lt.report.analyses.mask import profile_figure
from rebasin_lt.storage.files import remove_temporaries
from rebasin_lt.storage.folder_lock import FolderLock
from rebasin_lt.storage.links import check_links
from rebasin_lt.storage.paths import with_paths_expanded
from rebasin_lt.storage.run_folder import check_folder, claim_folder
from rebasin_lt.storage.run_records import METRICS_FILE, read_rows


class RunCLI(ConfigWinsCLI):
    """One folder per run (`trainer.default_root_dir`): configuration, metrics, TensorBoard events, `last.ckpt`.

    Rerunning the command resumes it; another configuration in the same folder is refused.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(ResumePoint, "resume", help="when to write last.ckpt besides the end of every epoch")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.add_argument("--quiet", action="store_true", help="say nothing but what is wrong")
        parser.add_argument(
            "--global_batch",
            type=int | None,
            help="samples of a step, of all processes together, that the learning rate is for: others are warned of",
        )
        parser.set_defaults({
            "trainer.default_root_dir": "runs/default",
            "trainer.num_sanity_val_steps": 0,
            "trainer.enable_autolog_hparams": False,  # config.yaml has them; nothing is written before training
            "trainer.enable_progress_bar": False,  # ours: one line, terminal only, on stderr
            "trainer.enable_model_summary": False,
        })

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        given = sys.argv[1:]
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            sys.argv[1:] = lists_in_brackets(given)  # as the other commands take them
            try:
                super().parse_arguments(parser, args)
            except ArgumentError:
                sys.argv[1:] = given
                raise error from error.__cause__
        check_seed(self.config[self.config.subcommand].seed_everything)  # it is taken before all else

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.subcommand] = with_paths_expanded(self.config[self.subcommand])
        folder = written = Path(settings.trainer.default_root_dir)
        if self.subcommand in {"validate", "test"}:
            settings.verbose = False  # Lightning's table, of the numbers that are said at the end
        if self.subcommand != "fit":
            folder = evaluated_folder(folder, settings.config)
            settings.trainer.default_root_dir = str(folder)
        if settings.ckpt_path is None:
            settings.ckpt_path = "last"  # rerunning is the resume, and what is evaluated is what was trained
        path = folder / LAST if settings.ckpt_path == "last" else Path(settings.ckpt_path)
        self._settings = self._run_settings()
        check_values(settings.as_dict())
        self._loggers = loggers_of(settings.trainer, written)
        settings.trainer.logger = False  # none is made before training begins
        check_links(folder)
        if self.subcommand == "fit":
            check_folder(folder, self._settings, but=may_differ(self._settings))
            read_rows(folder / METRICS_FILE)
        elif settings.ckpt_path == "last" and not path.exists():
            raise InputError(f"there is no {path} to {self.subcommand}: give --ckpt_path or the run's config")
        if settings.ckpt_path != "last" or path.exists():
            self._check_checkpoint(path)  # refused here in one line, and before anything is built
            settings.ckpt_path = str(path)  # Lightning's "last" would be the latest of any callback's files

    def _check_checkpoint(self, path: Path) -> None:
        """Raise InputError for a sound file that Lightning cannot go on from, which it would not name.

        And BrokenFileError for a network that diverged: what it answers means nothing.
        """
        content = read_checkpoint(path)
        if self.subcommand != "fit":
            check_finite(content["state_dict"], path)
            step = content.get("global_step")
            self.evaluated_step = step if isinstance(step, int) else 0
            self._evaluated: dict[str, Any] = {
                part: content[part] for part in ("epoch", "global_step", "loops") if part in content
            }
        needed = "optimizer_states" if self.subcommand == "fit" else "pytorch-lightning_version"
        if self.subcommand == "fit" and any(part in content for part in ("callbacks", "lr_schedulers", needed)):
            check_training_state(content, path)
        elif needed not in content:
            raise InputError(
                f"checkpoint {path} has no {needed}, which {self.subcommand} needs: it is a network alone; "
                "start from its weights with fit --model.init_from or, for a module of yours, the callback InitFrom"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self._get(self.config_init, "trainer")
        folder = settings["default_root_dir"]
        callbacks = _as_list(settings["callbacks"])
        if self.subcommand == "test" and self.config[self.subcommand].ckpt_path == str(Path(folder) / LAST):
            callbacks.append(RunLoggers(folder, self._loggers, {}))
        if self.subcommand == "fit":
            callbacks += self._fit_callbacks(folder, settings)
            kwargs["max_time"] = None  # TimeLimit's
        trainer: Trainer = super().instantiate_trainer(
            callbacks=callbacks,
            logger=[NotYet(folder) for _ in self._loggers],  # RunLoggers makes them when training begins
            plugins=_plugins(settings["plugins"]),
            enable_checkpointing=True,
            profiler=settings["profiler"] or NoProfiler(),
            **kwargs,
        )
        skip_idle_hooks(trainer)
        if self.subcommand in {"validate", "test"}:
            at_the_moment_of(trainer, self._evaluated)
        if settings["sync_batchnorm"] and trainer.strategy.root_device.type == "cpu":
            raise InputError("trainer.sync_batchnorm is true, which needs GPUs: processes on CPUs cannot, leave it out")
        return trainer

    def _fit_callbacks(self, folder: str, settings: Any) -> list[Callback]:
        """What every fit has, in the order in which it has to happen."""
        seed = self._get(self.config_init, "seed_everything")
        seeding: list[Callback] = [] if isinstance(seed, bool) else [StepSeed(seed)]
        seeding += [] if settings["max_time"] is None else [TimeLimit(settings["max_time"])]
        said = self.config[self.subcommand]
        progress = FitProgress(folder, said.quiet, said.global_batch)
        if settings["fast_dev_run"]:
            return [*seeding, Divergence(), progress, Preemption(None)]
        resume_point = self._get(self.config_init, "resume") if settings["enable_checkpointing"] is not False else None
        run_settings = self._settings
        files: list[Callback] = [
            Claim(folder, run_settings),
            RunLoggers(folder, self._loggers, hyperparameters(run_settings), profile_figure),
            DecayTaken(),
            MetricsFile(folder),
            Divergence(),
        ]
        return [*seeding, *files, progress, *_as_list(resume_point), Preemption(resume_point), NamedCheckpoint()]

    def _run_settings(self) -> dict[str, Any]:
        """The configuration without what may differ between a run and its resume."""
        parser = self._parser(self.subcommand)
        settings: dict[str, Any] = yaml.safe_load(parser.dump(self.config[self.subcommand]))
        return {name: value for name, value in settings.items() if name not in _NO_PART_OF_A_RUN}


class Claim(Callback):
    """Writes the run's configuration when every other callback has let training begin.

    A folder that is there is locked from before its checkpoint is read: another run may be about to replace it.
    """

    def __init__(self, folder: str, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero and Path(self.folder).is_dir():
            FolderLock(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_every_epoch_has_batches(trainer)
        if trainer.is_global_zero:
            claim_folder(self.folder, self.settings, but=may_differ(self.settings))
            remove_temporaries(self.folder)


class NamedCheckpoint(Checkpoint):
    """Names the checkpoint in an error that comes before a run has gone on from it. It comes last: it raises."""

    state_key = "rebasin_lt.named_checkpoint"

    def __init__(self) -> None:
        self._began = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._began or not trainer.ckpt_path or not isinstance(exception, Exception):
            return
        if not isinstance(exception, RebasinError | OSError):
            reason = f"{type(exception).__name__}: {str(exception).strip()}".splitlines()[0]
            raise BrokenFileError(f"{trainer.ckpt_path} could not be gone on from: {reason}") from exception


def run(arguments: Sequence[str]) -> RunCLI:
    """Run one Lightning verb, the first argument; metrics go to standard output.

    What the user did wrong surfaces as InputError, or jsonargparse's ArgumentError.
    """
    quiet()
    sys.argv[1:] = arguments  # LightningCLI warns if both are given; DDP's launcher re-executes sys.argv
    cli = RunCLI(
        LightningModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,  # its optimiser would be one object for all rounds of pruning
        save_config_callback=None,  # the folder's config.yaml is written before anything is built
        seed_everything_default=0,
        parser_kwargs={name: _STRICT for name in ("fit", "validate", "test", "predict")} | _STRICT,
    )
    close_loggers(cli.trainer.loggers)
    if cli.subcommand in {"validate", "test"} and cli.trainer.is_global_zero:
        settings = cli.config[cli.subcommand]
        place = Path(settings.ckpt_path), cli.evaluated_step
        tell_metrics(cli.trainer, cli.subcommand, *place, quiet=settings.quiet)
    if cli.subcommand == "predict":
        write_predictions(cli.trainer)
    return cli


_NO_PART_OF_A_RUN = {"ckpt_path", "config", "quiet", "global_batch"}

_STRICT = {"exit_on_error": False, "allow_abbrev": False}


def _plugins(given: Any) -> list[Any]:
    """The user's plugins, and what they leave to us: checkpoints written whole, and SLURM without its requeueing."""
    plugins = _as_list(given)
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(SafeCheckpointIO())
    in_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()  # torchrun inside says who is who
    if in_slurm and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
