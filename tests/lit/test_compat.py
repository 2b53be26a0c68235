"""Canaries: each fails when its piece of `_compat.py` can go, or no longer does what it is there for."""

import pytest
import torch
from lightning import LightningModule
from lightning.fabric.loggers import logger
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

PIECES = [
    (LightningCLI, "_parse_ckpt_path", "ConfigWinsCLI overrides nothing: see how --ckpt_path is read now"),
    (logger, "_DummyExperiment", "RunTensorBoard needs another object that swallows calls"),
    (_SignalConnector, "register_signal_handlers", "leave_signals_alone stops nothing: see who handles SIGTERM"),
    (_TrainingEpochLoop, "_broadcast_sigterm_tensor", "leave_signals_alone: see whether a step still asks every rank"),
    (_TrainingEpochLoop, "_should_accumulate", "step_is_complete"),
    (_TrainingEpochLoop, "_num_ready_batches_reached", "step_is_complete"),
    (_TrainingEpochLoop, "_should_check_val_fx", "step_is_complete"),
    (_SubprocessScriptLauncher, "kill", "leave_children_alone: see what watches the launched processes"),
    (_ResultCollection, "metrics", "epoch_metrics"),
]


@pytest.mark.parametrize(("place", "name", "consequence"), PIECES)
def test_the_private_api_is_still_there(place, name, consequence):
    assert hasattr(place, name), f"Lightning has no {place.__name__}.{name} any more: {consequence} (lit/_compat.py)"


class Wide(LightningModule):
    def __init__(self, width: int = 1):
        super().__init__()
        self.width = width


def width_given_both(kind, folder, monkeypatch):
    """The width of a model whose flag says 3 and whose checkpoint says 2."""
    torch.save({"hyper_parameters": {"width": 2}}, folder / "wide.ckpt")
    monkeypatch.setattr(kind, "_run_subcommand", lambda *_: None)
    settings = {"logger": False, "accelerator": "cpu", "default_root_dir": str(folder)}
    monkeypatch.setattr(
        "sys.argv", ["x", "fit", f"--ckpt_path={folder / 'wide.ckpt'}", "--model.width=3", "--seed_everything=0"]
    )
    return kind(Wide, save_config_callback=None, trainer_defaults=settings).model.width


def test_the_flag_still_needs_help_against_the_checkpoint(tmp_path, monkeypatch):
    assert width_given_both(LightningCLI, tmp_path, monkeypatch) == 2, (
        "LightningCLI no longer overrules flags with a checkpoint's hyperparameters: delete ConfigWinsCLI from "
        "lit/_compat.py and let RunCLI inherit LightningCLI"
    )


def test_configuration_and_flags_win(tmp_path, monkeypatch):
    from rebasin_lt.lit._compat import ConfigWinsCLI

    assert width_given_both(ConfigWinsCLI, tmp_path, monkeypatch) == 3


def test_the_dummy_experiment_swallows_every_call():
    from rebasin_lt.lit._compat import DummyExperiment

    assert DummyExperiment().add_scalar("loss", 1.0, global_step=3) is None


def test_lightning_still_ends_a_run_at_sigterm_without_a_checkpoint(trainer):
    import os
    import signal

    from foreign import ForeignData, ForeignModule
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from rebasin_lt.lit._compat import leave_signals_alone

    class Terminated(ForeignModule):
        def on_train_batch_end(self, *_):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SIGTERMException):
        trainer(1).fit(Terminated(), ForeignData())
    left_alone = trainer(1)
    leave_signals_alone(left_alone)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        left_alone.fit(Terminated(), ForeignData())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left_alone.global_step == 4


def test_the_launchers_observer_still_walks_the_list_that_is_cleared():
    from lightning.fabric.strategies.launchers import subprocess_script

    from rebasin_lt.lit._compat import leave_children_alone

    class Strategy:
        launcher = _SubprocessScriptLauncher(None, 2, 1)

    class Run:
        strategy = Strategy()

    Strategy.launcher.procs = processes = [object()]
    observer = subprocess_script._ChildProcessObserver(0, processes)
    leave_children_alone(Run())
    assert observer._run()  # nothing left to watch
