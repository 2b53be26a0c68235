"""Canaries: each fails when its piece of `_compat.py` can go, or no longer does what it is there for."""

import pytest
import torch
from lightning import LightningModule
from lightning.fabric.loggers import logger
from lightning.pytorch.cli import LightningCLI

PIECES = [
    (LightningCLI, "_parse_ckpt_path", "ConfigWinsCLI overrides nothing: see how --ckpt_path is read now"),
    (logger, "_DummyExperiment", "RunTensorBoard needs another object that swallows calls"),
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
