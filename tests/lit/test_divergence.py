"""A run that diverged says so, ends with 1, and leaves what was good."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback

from rebasin_lt.errors import BrokenFileError, DivergedError
from rebasin_lt.lit.callbacks import divergence
from rebasin_lt.lit.callbacks.divergence import Divergence
from rebasin_lt.lit.callbacks.resume_point import LAST, ResumePoint
from rebasin_lt.lit.checkpoint_file import read_checkpoint
from rebasin_lt.lit.metrics_file import MetricsFile, read_rows


class Loss(ForeignModule):
    """Adds `value` to the loss of one step of all; weights stay finite, for what is added has no gradient."""

    def __init__(self, step=-1, value=0.0):
        super().__init__()
        self.step, self.value = step, value

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        loss = loss + self.value if self.trainer.global_step == self.step else loss
        self.log("mean", loss, on_step=False, on_epoch=True)
        return loss


class Poison(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 5:
            module.head.weight.data[0, 0] = math.nan


def fit(trainer, folder, module, *callbacks, epochs=3):
    ours = [MetricsFile(folder), Divergence(), ResumePoint()]
    trainer(epochs, [*callbacks, *ours], enable_checkpointing=True).fit(module, ForeignData())


def strict(line):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(line, parse_constant=refuse)


def test_weights_that_are_not_finite_end_the_run(trainer, tmp_path):
    with pytest.raises(
        DivergedError, match=r"^the run diverged: .* holds NaN or infinity at the end of epoch 1 \(step 8\)"
    ):
        fit(trainer, tmp_path, Loss(), Poison())
    assert read_checkpoint(tmp_path / LAST)["global_step"] == 4
    rows = [strict(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[1]["mean"] is None
    assert rows[1]["not_finite"] == {"mean": "nan"}
    assert "not_finite" not in rows[0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_at_an_epochs_end_ends_the_run(trainer, tmp_path, value):
    with pytest.raises(
        DivergedError, match=rf"the training loss is {value} at the end of epoch 1 .*weights are finite"
    ):
        fit(trainer, tmp_path, Loss(7, value))
    assert read_checkpoint(tmp_path / LAST)["global_step"] == 4


def test_a_step_that_was_skipped_in_mid_epoch_is_not_divergence(trainer, tmp_path):
    fit(trainer, tmp_path, Loss(5, math.nan))
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [(row["epoch"], row["mean"] is None) for row in rows] == [(0, False), (1, True), (2, False)]


def test_no_step_reads_the_loss():
    check, loss = Divergence(), torch.tensor(1.0, device="meta")  # reading it would raise
    check.on_train_batch_end(None, None, {"loss": loss}, None, 0)
    assert check._outputs["loss"] is loss


@pytest.mark.parametrize("outputs", [None, {}, {"loss": None}])
def test_a_step_without_a_loss_says_nothing(trainer, tmp_path, outputs):
    run = trainer(1, [])
    run.fit(ForeignModule(), ForeignData())
    check = Divergence()
    check.on_train_batch_end(run, run.lightning_module, outputs, None, 0)
    check.on_train_epoch_end(run, run.lightning_module)


def test_rows_of_an_older_release_become_json(trainer, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": -1, "step": 0, "loss": NaN, "other": -Infinity}\n')
    fit(trainer, tmp_path, ForeignModule(), epochs=1)
    first = strict((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    marks = {"loss": "nan", "other": "-inf"}
    assert first == {"epoch": -1, "step": 0, "loss": None, "other": None, "not_finite": marks}


@pytest.mark.parametrize("where", ["state_dict", "optimizer"])
def test_a_resume_from_what_diverged_is_refused(trainer, tmp_path, where):
    fit(trainer, tmp_path, ForeignModule(), epochs=1)
    content = torch.load(tmp_path / LAST, weights_only=True)
    if where == "state_dict":
        content["state_dict"]["head.weight"][0, 0] = math.nan
    else:
        content["optimizer_states"][0]["state"][4]["momentum_buffer"][0, 0] = math.nan
    torch.save(content, tmp_path / "nan.ckpt")
    run = trainer(2, [ResumePoint()], enable_checkpointing=True)
    with pytest.raises(BrokenFileError, match=r"nan.ckpt .* not finite"):
        run.fit(ForeignModule(), ForeignData(), ckpt_path=str(tmp_path / "nan.ckpt"))


def test_the_command_line_says_so_in_one_line_and_ends_with_1(tmp_path, monkeypatch, capsys):
    from rebasin_lt.cli import main

    monkeypatch.chdir(tmp_path)
    settings = ["--model", "Classifier", "--model.arch", "mlp", "--data", "Digits", "--trainer.max_epochs", "4"]
    arguments = ["fit", *settings, "--model.learning_rate", "1e30", "--trainer.default_root_dir", "r"]
    monkeypatch.setattr(sys, "argv", ["rebasin-lt", *arguments])
    for _ in range(2):  # the same command diverges again
        assert main(arguments) == 1
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rebasin-lt: error")]
        assert len(error) == 1
        assert "the run diverged: net." in error[0]
        assert not (tmp_path / "r" / LAST).exists()
        assert strict((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()[-1])["train/loss"] is None


def test_what_diverged_on_one_rank_ends_all(trainer, monkeypatch):
    """Statistics of batches are each rank's own: the others would wait for one that raised alone."""
    module, run = ForeignModule(), trainer(1)
    monkeypatch.setattr(divergence, "some_rank", lambda trainer, value: True)
    with pytest.raises(DivergedError, match="the run diverged: a tensor of another rank holds NaN or infinity"):
        Divergence().on_train_epoch_end(run, module)
