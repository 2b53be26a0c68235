"""Batches as a Trainer hands them to a module: by the hooks of the data module, or else of the module itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning import LightningDataModule, LightningModule
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.handed import Handed, handed
from rebasin_lt.judging.validation_step import ByStep
from rebasin_lt.lit.data.other import LoadersOf, OtherData, handed_to

ONES = [torch.ones(2, 3), torch.ones(1, 3)]


class Doubles(LightningModule):
    """Doubles what it is given, and hides it in training, as a module that augments does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return 0 * batch if self.trainer.training else 2 * batch

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/mean", batch.mean())


class Trebles(LightningDataModule):
    def train_dataloader(self) -> Any:
        return ONES

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return 0 * batch if self.trainer.training else 3 * batch


def means(batches: Any) -> list[float]:
    return [float(batch.mean()) for batch in batches]


def test_the_hooks_are_the_data_modules_or_else_the_modules() -> None:
    plain, own, module = OtherData(LoadersOf("plain", ONES)), OtherData(Trebles()), Doubles()
    assert means(handed_to(plain.sweep(), plain, module)) == [2, 2]
    assert means(handed_to(own.sweep(), own, module)) == [3, 3]
    assert means(handed_to(own.sweep(), own, nn.Linear(3, 1))) == [3, 3]
    batches = plain.sweep()
    assert handed_to(batches, plain, nn.Linear(3, 1)) is batches
    assert len(Handed(ONES, module)) == 2


def test_hooks_are_told_that_no_training_is_going_on_and_the_module_is_left_alone() -> None:
    module, data = Doubles(), Trebles()
    assert float(handed(module, ONES[0]).mean()) == 2
    assert means(OtherData(data).sweep()) == [3, 3]
    assert (module._trainer, data.trainer) == (None, None)


def test_a_validation_step_has_them_called_once() -> None:
    module = Doubles()
    judge = ByStep("val/mean")
    steps = list(judge.read(Handed(ONES, module), module))
    assert [float(judge.sums(module, step).loss) / judge.sums(module, step).counted for step in steps] == [2, 2]


def test_a_hook_that_fails_is_refused_in_one_line() -> None:
    class Asks(Doubles):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[self.trainer.current_epoch]

    module = Asks()
    with pytest.raises(
        InputError, match="Asks fails in its hooks for a batch's transfer, called without a Trainer: At"
    ):
        handed(module, ONES[0])
    assert module._trainer is None
