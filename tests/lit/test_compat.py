"""Canaries: each fails when its piece of `_compat.py` can go, or no longer does what it is there for."""

import inspect
from contextlib import _GeneratorContextManager

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import signature_utils

from rebasin_lt.lit._compat import _STEP_HOOKS, NAME_OF_HOOK, at_the_moment_of

PIECES = [
    (LightningCLI, "_parse_ckpt_path", "ConfigWinsCLI overrides nothing: see how --ckpt_path is read now"),
    (_SignalConnector, "register_signal_handlers", "leave_signals_alone stops nothing: see who handles SIGTERM"),
    (_TrainingEpochLoop, "_broadcast_sigterm_tensor", "leave_signals_alone: see whether a step still asks every rank"),
    (_TrainingEpochLoop, "_should_accumulate", "step_is_complete"),
    (_TrainingEpochLoop, "_num_ready_batches_reached", "step_is_complete"),
    (_TrainingEpochLoop, "_should_check_val_fx", "step_is_complete"),
    (_SubprocessScriptLauncher, "kill", "leave_children_alone: see what watches the launched processes"),
    (_ResultCollection, "metrics", "epoch_metrics"),
    (WeightAveraging(), "_average_model", "averaged_modules: see where averages lie, or masks do not hold for them"),
    (StochasticWeightAveraging(0.1), "_average_model", "averaged_modules"),
    (torch.optim.SGD([torch.zeros(1)]).step.__func__, "hooked", "hides_its_steps: see how torch calls step hooks"),
    (signature_utils, "is_param_in_hook_signature", "with_signature: see whether a step still reads signatures"),
]


@pytest.mark.parametrize(("place", "name", "consequence"), PIECES)
def test_the_private_api_is_still_there(place, name, consequence):
    assert hasattr(place, name), f"{place} has no {name} any more: {consequence} (lit/_compat.py)"


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


SILENT = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "use_distributed_sampler"), False
)


class Actions(PassThroughProfiler):
    """Notes what Lightning does."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def start(self, action_name):
        self.seen.append(action_name)


def test_lightnings_own_profiler_still_makes_a_generator_for_everything():
    from rebasin_lt.lit._compat import NoProfiler

    assert isinstance(PassThroughProfiler().profile("a"), _GeneratorContextManager)
    ours = NoProfiler()
    assert ours.profile("a") is ours.profile("b")
    with ours.profile("a"), ours.profile("b"):
        pass


def test_only_callbacks_that_do_something_in_a_step_are_asked():
    from foreign import ForeignData, ForeignModule

    from rebasin_lt.lit._compat import skip_idle_hooks

    class Busy(Callback):
        state_key = "Busy"
        steps = 0

        def on_train_batch_end(self, *_):
            self.steps += 1

    def asked(skip):
        busy, actions, ends = Busy(), Actions(), []
        later = LambdaCallback(on_train_batch_end=lambda *_: ends.append(1))
        run = Trainer(accelerator="cpu", max_epochs=1, callbacks=[busy, later], profiler=actions, **SILENT)
        if skip:
            skip_idle_hooks(run)
        run.fit(ForeignModule(), ForeignData())
        assert busy.steps == len(ends) == 4
        return [name for name in actions.seen if name.startswith("[Callback]Busy")]

    before, after = asked(False), asked(True)
    assert "[Callback]Busy.on_train_batch_start" in before, "Lightning no longer asks all: delete skip_idle_hooks"
    steps = {f"[Callback]Busy.{hook}" for hook in _STEP_HOOKS}
    assert {name for name in after if name in steps} == {"[Callback]Busy.on_train_batch_end"}
    assert [name for name in after if name not in steps] == [name for name in before if name not in steps]


def test_lightning_still_notes_hooks_on_the_module(trainer):
    from foreign import ForeignData, ForeignModule

    class Noting(ForeignModule):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            noted.append((name, value))

    noted = []
    trainer(1).fit(Noting(), ForeignData())
    assert (NAME_OF_HOOK, "on_train_batch_start") in noted, "delete NAME_OF_HOOK and NetworkModule.__setattr__"


def test_a_signature_worked_out_once_is_the_same():
    from rebasin_lt.lit.classifier import Classifier

    def plain(self, batch, batch_idx): ...

    assert inspect.getfullargspec(Classifier().training_step).args == inspect.getfullargspec(plain).args
    assert inspect.signature(Classifier.training_step) is Classifier.training_step.__signature__


@pytest.mark.parametrize("loops", [
    None, [1], {}, {"fit_loop": None}, {"fit_loop": {"epoch_loop.state_dict": None}},
    {"fit_loop": {"epoch_loop.state_dict": {"_batches_that_stepped": "many"}}},
])  # fmt: skip
@pytest.mark.parametrize("epoch", [None, "three", 3])
def test_an_evaluation_asks_no_more_of_the_moment_of_a_checkpoint_than_it_has(loops, epoch):
    """Files of other programs hold what they like there, and their networks can be tested all the same."""
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    at_the_moment_of(trainer, {"loops": loops, "epoch": epoch, "global_step": 7})
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 7
    assert trainer.current_epoch == (3 if epoch == 3 else 0)
    at_the_moment_of(trainer, {"global_step": None})
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 0
