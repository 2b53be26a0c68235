"""The share of the initial weights that a training leaves under any schedule, against weights that only decay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from lightning import LightningModule
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR
from torch.utils.data import DataLoader

from rebasin_lt.lit.callbacks.decay_taken import DecayTaken
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.checkpoint import METADATA, read_checkpoint, save_network
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.lit.weight_decay import NotRecorded, share_left

EPOCHS, STEPS = 4, 40
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
SCHEDULES = {
    "none": lambda optimiser: None,
    "cosine": lambda optimiser: CosineAnnealingLR(optimiser, EPOCHS),
    "in every step": lambda optimiser: {
        "scheduler": OneCycleLR(optimiser, 0.08, total_steps=EPOCHS * STEPS, cycle_momentum=False),
        "interval": "step",
    },
    "a jump": lambda optimiser: LambdaLR(optimiser, lambda epoch: 1.0 if epoch < 2 else 0.1),
}
OPTIMISERS = {
    "SGD": lambda net: torch.optim.SGD(net.parameters(), **SGD),
    "AdamW": lambda net: torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.05),
    "no decay": lambda net: torch.optim.Adam(net.parameters(), lr=0.05),
    "biases do not decay": lambda net: torch.optim.SGD(
        [{"params": [net.weight]}, {"params": [net.bias], "weight_decay": 0}], **SGD
    ),
}
UNKNOWN = {
    "Adam": lambda net: torch.optim.Adam(net.parameters(), lr=0.05, weight_decay=0.1),
    "no step that Lightning sees": lambda net: torch.optim.SGD([net.bias], **SGD),
}


class Decaying(LightningModule):
    """Its gradients are 0: what is left of its weights at the end is what decay leaves."""

    def __init__(self, optimiser, schedule) -> None:
        super().__init__()
        self.net, self.made = nn.Linear(3, 3), (optimiser, schedule)
        nn.init.ones_(self.net.weight)

    def training_step(self, batch, index):
        return 0 * self.net(batch).sum()

    def configure_optimizers(self):
        optimiser = self.made[0](self.net)
        scheduler = self.made[1](optimiser)
        return optimiser if scheduler is None else {"optimizer": optimiser, "lr_scheduler": scheduler}


def train(folder: Path, optimiser, schedule, epochs: int = EPOCHS, sums: bool = True) -> float:
    """Train in the folder, or go on there; returns what is left of the weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {"max_epochs": EPOCHS}}))
    module, last = Decaying(optimiser, schedule), folder / "last.ckpt"
    callbacks = [*([DecayTaken()] if sums else []), ResumePoint()]
    trainer = quiet_trainer(folder, epochs, callbacks, enable_checkpointing=True, accelerator="cpu")
    trainer.fit(module, DataLoader(torch.ones(STEPS, 3), 1), ckpt_path=str(last) if last.exists() else None)
    save_network(folder / "final.ckpt", trainer, module, None)
    return float(module.net.weight.detach().mean())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_it_is_what_decay_leaves_under_any_schedule(tmp_path, optimiser, schedule) -> None:
    left = train(tmp_path / "run", OPTIMISERS[optimiser], SCHEDULES[schedule])
    assert left == 1 if optimiser == "no decay" else 0.1 < left < 0.95
    assert share_left(tmp_path / "run" / "last.ckpt") == pytest.approx(left, rel=0.05)
    assert share_left(tmp_path / "run" / "final.ckpt") == share_left(tmp_path / "run" / "last.ckpt")


@pytest.mark.parametrize("optimiser", UNKNOWN)
def test_where_no_formula_says_it_nothing_is_guessed(tmp_path, optimiser) -> None:
    train(tmp_path / "run", UNKNOWN[optimiser], SCHEDULES["cosine"])
    with pytest.raises(NotRecorded, match="decays as Adam, or in more ways than one"):
        share_left(tmp_path / "run" / "last.ckpt")


def test_a_run_that_went_on_has_the_sum_of_one_that_did_not(tmp_path) -> None:
    made = OPTIMISERS["SGD"], SCHEDULES["in every step"]
    train(tmp_path / "whole", *made)
    train(tmp_path / "cut", *made, epochs=2)
    train(tmp_path / "cut", *made)
    whole, cut = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "cut"))
    assert whole[METADATA]["decay_taken"] == cut[METADATA]["decay_taken"] > 0


def test_nothing_is_known_of_a_run_whose_beginning_was_not_summed(tmp_path) -> None:
    made = OPTIMISERS["SGD"], SCHEDULES["cosine"]
    train(tmp_path / "run", *made, epochs=2, sums=False)
    train(tmp_path / "run", *made)
    with pytest.raises(NotRecorded, match="in more ways than one"):
        share_left(tmp_path / "run" / "last.ckpt")
