"""The share of the initial weights that is left where weights are trained in parts, by hand, or averaged."""

from __future__ import annotations

import pytest
import torch
import yaml
from lightning import LightningModule
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import nn
from torch.utils.data import DataLoader

from rebasin_lt.lit.callbacks.decay_taken import DecayTaken
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.lit.weight_decay import NotRecorded, share_left

EPOCHS, STEPS = 4, 40
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


class Decaying(LightningModule):
    """Two layers without gradients from data: what is left of their weights is what decay leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(3, 3), nn.Linear(3, 3)
        for layer in self.children():
            nn.init.ones_(layer.weight)

    def training_step(self, batch, index):
        return 0 * self.head(self.backbone(batch)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD([weight for weight in self.parameters() if weight.requires_grad], **SGD)


class EveryOther(Decaying):
    """Has no loss, and so no gradient, in every other batch."""

    def training_step(self, batch, index):
        return None if index % 2 else super().training_step(batch, index)


class Frozen(Decaying):
    """Has a frozen layer in its optimiser."""

    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), **SGD)
        self.backbone.requires_grad_(False)
        return optimiser


class HeadOnly(Decaying):
    """Has a layer in no optimiser."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.head.parameters(), **SGD)


class TwoRates(Decaying):
    """Has a rate for each of its layers."""

    def configure_optimizers(self):
        groups = [{"params": self.backbone.parameters()}, {"params": self.head.parameters(), "lr": 0.1}]
        return torch.optim.SGD(groups, **SGD)


class ByHand(Decaying):
    """Steps an optimiser for each layer itself, one in every batch; in those of Lightning, or past it."""

    past = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, index):
        optimiser = self.optimizers(use_pl_optimizer=not self.past)[index % 2]
        optimiser.zero_grad()
        self.manual_backward(super().training_step(batch, index))
        optimiser.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(layer.parameters(), **SGD) for layer in self.children()]


class PastLightning(ByHand):
    past = True


class Average(WeightAveraging):
    """An average of a user's own name."""

    def __init__(self) -> None:
        super().__init__(avg_fn=lambda average, weight, count: 0.99 * average + 0.01 * weight)


KNOWN = {
    "no loss in every other batch": (EveryOther, []),
    "two optimisers by hand": (ByHand, []),
    "steps of more and more batches": (Decaying, [lambda: GradientAccumulationScheduler({0: 1, 2: 2})]),
}
UNKNOWN = {
    "frozen": (Frozen, []),
    "in no optimiser": (HeadOnly, []),
    "two rates": (TwoRates, []),
    "past Lightning": (PastLightning, []),
    "a backbone that trains later": (Decaying, [lambda: BackboneFinetuning(2)]),
    "a backbone that never trains": (Decaying, [lambda: BackboneFinetuning(EPOCHS + 1)]),
    "averages": (Decaying, [Average]),
    "averages at the end": (Decaying, [lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)]),
}


def train(folder, made, callbacks) -> list[float]:
    """Returns of each of its layers what is left of the weights."""
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {"max_epochs": EPOCHS}}))
    module, others = made(), [callback() for callback in callbacks]
    trainer = quiet_trainer(
        folder, EPOCHS, [*others, DecayTaken(), ResumePoint()], enable_checkpointing=True, accelerator="cpu"
    )
    trainer.fit(module, DataLoader(torch.ones(STEPS, 3), 1))
    return [float(layer.weight.detach().mean()) for layer in module.children()]


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@pytest.mark.parametrize("case", KNOWN)
def test_only_steps_that_weights_took_count(tmp_path, case) -> None:
    backbone, head = train(tmp_path, *KNOWN[case])
    assert backbone == head
    assert share_left(tmp_path / "last.ckpt") == pytest.approx(head, rel=0.05)


@pytest.mark.parametrize("case", UNKNOWN)
def test_no_share_is_said_of_weights_that_do_not_share_it(tmp_path, case) -> None:
    train(tmp_path, *UNKNOWN[case])
    with pytest.raises(NotRecorded, match="A's (module is none of ours|weights are averages)"):
        share_left(tmp_path / "last.ckpt")


@pytest.mark.parametrize("name", ["EMAWeightAveraging", "StochasticWeightAveraging", "WeightAveraging"])
def test_of_a_run_that_averaged_no_formula_is_taken(tmp_path, name) -> None:
    train(tmp_path, Decaying, [])
    assert share_left(tmp_path / "last.ckpt") < 1
    callbacks = [{"class_path": f"lightning.pytorch.callbacks.{name}"}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"trainer": {"max_epochs": EPOCHS, "callbacks": callbacks}}))
    with pytest.raises(NotRecorded, match="A's weights are averages over its training"):
        share_left(tmp_path / "last.ckpt")
