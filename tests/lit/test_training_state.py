"""A checkpoint without a part that makes a resume exact is refused, and the part named, instead of going on."""

from __future__ import annotations

import math

import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.resume_point import LAST, ResumePoint
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.pruning.mask import Mask

MASK = Mask({"head.weight": torch.ones(1, 12, dtype=torch.bool)})


class Opened(Callback):
    """Stands where loggers are opened, and the run's folder claimed."""

    times = 0

    def on_train_start(self, trainer, pl_module):
        self.times += 1


def run(trainer, epochs, *callbacks, **settings):
    callbacks = [*callbacks, MaskGuard(MASK), RewindCheckpoint(["0it"]), ResumePoint()]
    fitting = trainer(epochs, callbacks, enable_checkpointing=True)
    fitting.fit(ForeignModule(), ForeignData(), **settings)
    return fitting


def group(content, index=0):
    return content["optimizer_states"][0]["param_groups"][index]


def poison(state):
    next(iter(state.values()))["momentum_buffer"].view(-1)[0] = math.nan


def move(content):
    del content["optimizer_states"][0]["state"][0]["momentum_buffer"]


TAMPERED = {
    "no optimizer_states": lambda c: c.pop("optimizer_states"),
    "no lr_schedulers": lambda c: c.pop("lr_schedulers"),
    "no loops": lambda c: c.pop("loops"),
    "loops have no fit_loop": lambda c: c["loops"].pop("fit_loop"),
    "no callbacks": lambda c: c.pop("callbacks"),
    "has no optimizer_states": lambda c: c.update(optimizer_states=None),
    "optimizer_states hold 0 tensors, 6 were written": lambda c: c["optimizer_states"].clear(),
    "optimizer_states hold 0 tensors, 6": lambda c: c["optimizer_states"][0]["state"].clear(),
    "optimizer_states hold 5 tensors, 6": move,
    "lr_schedulers are 0, this run has 1": lambda c: c["lr_schedulers"].clear(),
    "optimizer_states.0.param_groups.1.lr is not finite": lambda c: group(c, 1).update(lr=math.nan),
    "optimizer_states.0.param_groups.0.lr is not finite": lambda c: group(c).update(lr=math.inf),
    "optimizer_states.0.param_groups.0.momentum is not finite": lambda c: group(c).update(momentum=math.nan),
    "optimizer_states.0.state.0.momentum_buffer is not finite": lambda c: poison(c["optimizer_states"][0]["state"]),
    "lr_schedulers.0.base_lrs.0 is not finite": lambda c: c["lr_schedulers"][0].update(base_lrs=[math.nan, 0.2]),
    "optimizer has maximize True, this run has False": lambda c: group(c).update(maximize=True),
    "one of its optimizer_states has no param_groups": lambda c: c["optimizer_states"][0].pop("param_groups"),
    "one of its optimizer_states has no param_group": lambda c: c["optimizer_states"][0].update(param_groups=[3]),
    "optimizer has nesterov True": lambda c: group(c, 1).update(nesterov=True),
    "has head.weight with values that are not finite": lambda c: c["state_dict"]["head.weight"].fill_(math.nan),
    "has encoder.1.running_var with values that are not finite": lambda c: c["state_dict"][
        "encoder.1.running_var"
    ].fill_(math.inf),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_part_that_is_missing_or_not_finite_is_named(trainer, tmp_path, what):
    run(trainer, 1)
    content = torch.load(tmp_path / LAST, weights_only=True)
    TAMPERED[what](content)
    torch.save(content, tmp_path / "tampered.ckpt")
    before, opened = (tmp_path / LAST).read_bytes(), Opened()
    with pytest.raises(BrokenFileError, match=rf"tampered.ckpt .*{what}"):
        run(trainer, 2, opened, ckpt_path=str(tmp_path / "tampered.ckpt"))
    assert (tmp_path / LAST).read_bytes() == before
    assert not opened.times


def test_what_was_not_changed_goes_on(trainer, tmp_path):
    run(trainer, 1)
    opened = Opened()
    assert run(trainer, 2, opened, ckpt_path=str(tmp_path / LAST)).current_epoch == 2
    assert opened.times == 1


@pytest.mark.parametrize("setting", ["growth_rate", "d0"])
def test_settings_that_are_no_rates_may_be_infinite(trainer, tmp_path, setting):
    """Some optimisers without a learning rate begin so."""
    run(trainer, 1)
    content = torch.load(tmp_path / LAST, weights_only=True)
    group(content)[setting] = math.inf
    torch.save(content, tmp_path / "other.ckpt")
    assert run(trainer, 2, ckpt_path=str(tmp_path / "other.ckpt")).current_epoch == 2


def test_switches_of_how_a_device_computes_are_left_alone(trainer, tmp_path):
    run(trainer, 1)
    content = torch.load(tmp_path / LAST, weights_only=True)
    group(content)["foreach"] = True
    torch.save(content, tmp_path / "other.ckpt")
    assert run(trainer, 2, ckpt_path=str(tmp_path / "other.ckpt")).current_epoch == 2


@pytest.mark.parametrize("holder", ["module", "data"])
def test_hyperparameters_that_no_checkpoint_can_hold_are_refused_before_the_first_step(trainer, holder):
    class Module(ForeignModule):
        def training_step(self, batch, batch_idx):
            raise AssertionError("a step was taken")

    module, data = Module(), ForeignData()
    (module if holder == "module" else data).save_hyperparameters({"loss": len})
    with pytest.raises(InputError, match=r"hyper_parameters.loss is a builtin_function_or_method, .*ignore=\['loss'"):
        trainer(1, [ResumePoint()], enable_checkpointing=True).fit(module, datamodule=data)
