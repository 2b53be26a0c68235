"""Where `last.ckpt` is written, how it reaches the disk, and what a step draws."""

from __future__ import annotations

import os
import random
import signal
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import ForeignData, ForeignModule, OnceData
from lightning import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError, Preempted
from rebasin_lt.lit.callbacks.preemption import Preemption
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.callbacks.step_seed import StepSeed, _seed_torch
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO


class Validated(ForeignModule):
    def validation_step(self, batch, batch_idx):
        pass


class ValidatedData(ForeignData):
    def val_dataloader(self):
        return self.train_dataloader()


def written(trainer, resume_point, module=None, data=None, **settings):
    """The steps after which `last.ckpt` is written in two epochs of four batches."""
    steps = []

    class Saves(SafeCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            steps.append(checkpoint["global_step"])
            super().save_checkpoint(checkpoint, path, storage_options)

    run = trainer(2, [resume_point], enable_checkpointing=True, plugins=[Saves()], **settings)
    run.fit(module or ForeignModule(), data or ForeignData())
    return steps


def test_it_is_written_at_the_end_of_every_epoch(trainer, tmp_path):
    assert written(trainer, ResumePoint()) == [4, 8]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 8


class Plain(ForeignModule):
    """Without batch norm, of which StochasticWeightAveraging would make an epoch more."""

    def __init__(self):
        super().__init__()
        self.encoder[1] = torch.nn.Identity()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Halved(Callback):
    def on_train_end(self, trainer, module):
        with torch.no_grad():
            module.head.weight.mul_(0.5)


@pytest.mark.filterwarnings("ignore:.*(SWA|lr_scheduler|averag).*")
@pytest.mark.parametrize("module", [Plain, ForeignModule])
@pytest.mark.parametrize(("callback", "times"), [
    (lambda: None, 2),
    (lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1), 3),
    (lambda: EMAWeightAveraging(decay=0.9), 2),
    (Halved, 3),
])  # fmt: skip
def test_the_last_one_has_the_weights_that_training_ends_with(trainer, tmp_path, module, callback, times):
    beside = callback()
    if module is ForeignModule and isinstance(beside, StochasticWeightAveraging):
        module, times = type("Other", (ForeignModule,), {"configure_optimizers": Plain.configure_optimizers}), 3
    network = module()
    callbacks = [each for each in (ResumePoint(), beside) if each]
    steps = []

    class Saves(SafeCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            steps.append(checkpoint["global_step"])
            super().save_checkpoint(checkpoint, path, storage_options)

    trainer(2, callbacks, enable_checkpointing=True, plugins=[Saves()]).fit(network, ForeignData())
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert len(steps) == times


class WithState(ForeignModule):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


class Fused(Callback):
    def on_train_end(self, trainer, module):
        module.encoder = torch.nn.Identity()
        Halved().on_train_end(trainer, module)


class Cast(Callback):
    def on_train_end(self, trainer, module):
        module.half()


class Unreadable(Callback):
    def on_train_end(self, trainer, module):
        (Path(trainer.default_root_dir) / "last.ckpt").write_bytes(b"")


@pytest.mark.parametrize("module", [ForeignModule, WithState])
@pytest.mark.parametrize(("callbacks", "times"), [
    ([], 2), ([Halved], 3), ([Fused], 2), ([Cast], 2), ([Unreadable], 2),
    ([lambda: EMAWeightAveraging(decay=0.9), Halved], 2),
])  # fmt: skip
def test_it_is_written_again_only_for_other_values_of_the_same_tensors(trainer, module, callbacks, times):
    made = [make() for make in callbacks]
    steps = []

    class Saves(SafeCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            steps.append(checkpoint["global_step"])
            super().save_checkpoint(checkpoint, path, storage_options)

    trainer(2, [ResumePoint(), *made], enable_checkpointing=True, plugins=[Saves()]).fit(module(), ForeignData())
    assert len(steps) == times


def test_a_run_whose_weights_changed_as_it_ended_goes_on_from_there(trainer, tmp_path):
    trainer(2, [ResumePoint(), Halved()], enable_checkpointing=True).fit(ForeignModule(), ForeignData())
    kept, starts = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], []

    class Look(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            starts.append((trainer.current_epoch, batch_idx, torch.equal(module.head.weight, kept["head.weight"])))

    longer = trainer(4, [ResumePoint(), Look()], enable_checkpointing=True)
    longer.fit(ForeignModule(), ForeignData(), ckpt_path=tmp_path / "last.ckpt")
    assert starts[0] == (2, 0, True)
    assert (longer.global_step, longer.current_epoch, len(starts)) == (16, 4, 8)


def test_a_loader_that_is_used_up_after_one_epoch_is_refused_for_two(trainer):
    with pytest.raises(
        InputError, match="train_dataloader returns a .*, which is used up after .* max_epochs is 2: ret"
    ):
        written(trainer, ResumePoint(), data=OnceData())


def test_such_a_run_leaves_no_folder_that_would_be_in_the_way_of_the_next(tmp_path, capsys):
    words = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    folder = tmp_path / "run"
    words += ["--trainer.default_root_dir", str(folder), "--seed_everything", "1"]
    assert main(["fit", "--model", "foreign.ForeignModule", "--data", "foreign.OnceData", *words]) == 2
    assert "which is used up after one pass" in capsys.readouterr().err
    assert not folder.exists()


def test_it_is_also_written_so_many_steps_after_the_last_time(trainer):
    assert written(trainer, ResumePoint(every_steps=1)) == list(range(1, 9))
    assert written(trainer, ResumePoint(every_steps=3)) == [3, 4, 7, 8]


def test_it_is_also_written_so_much_time_after_the_last_time(trainer):
    assert written(trainer, ResumePoint(every_minutes=1e-9)) == list(range(1, 9))
    assert written(trainer, ResumePoint(every_minutes=60)) == [4, 8]


def test_it_is_not_written_between_accumulated_gradients(trainer):
    assert written(trainer, ResumePoint(every_minutes=1e-9), accumulate_grad_batches=2) == [1, 2, 3, 4]


def test_it_is_not_written_where_validation_comes_next(trainer):
    steps = written(trainer, ResumePoint(every_steps=1), Validated(), ValidatedData(), val_check_interval=2)
    assert steps == [1, 3, 4, 5, 7, 8]


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(InputError, match="bad is a function, which would have to be unpickled"):
        SafeCheckpointIO().save_checkpoint({"step": 2, "bad": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_every_step_draws_numbers_of_its_own_whatever_was_drawn_before(trainer):
    def drawn(seed):
        numbers = []

        class Draw(Callback):
            def on_train_batch_start(self, trainer, *_):
                numbers.append((torch.rand(1).item(), np.random.rand(), random.random()))  # noqa: NPY002

        torch.manual_seed(torch.seed())
        trainer(2, [StepSeed(seed), Draw()]).fit(ForeignModule(), ForeignData())
        return numbers

    first = drawn(1)
    assert drawn(1) == first
    assert len({number for step in first for number in step}) == 3 * 8
    assert not set(drawn(2)) & set(first)


@pytest.mark.parametrize(("device", "asked"), [("cpu", []), ("cuda", ["cuda"]), ("mps", ["all"])])
def test_a_step_seeds_the_generators_of_its_own_device_alone(device, asked, monkeypatch):
    """`torch.manual_seed` takes a tenth of a millisecond or more where a kind of device is not in use."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    seeded = []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "manual_seed", lambda seed: seeded.append("all"))
        patch.setattr(torch.cuda, "manual_seed_all", lambda seed: seeded.append("cuda"))
        _seed_torch(7, device)
    assert seeded == asked
    assert device == "mps" or torch.equal(torch.rand(3), expected)


class TellAtTheEndOfAnEpoch(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.is_last_batch:
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize("told", [False, True])
def test_without_every_epoch_the_end_of_one_is_kept_for_a_run_that_is_told_to_stop(trainer, tmp_path, told):
    resume = ResumePoint(every_epoch=False)
    run = trainer(
        2, [*[TellAtTheEndOfAnEpoch()] * told, resume, Preemption(resume)],
        enable_checkpointing=True, plugins=[SafeCheckpointIO()],
    )  # fmt: skip
    with pytest.raises(Preempted) if told else nullcontext():
        run.fit(ForeignModule(), ForeignData())
    assert (tmp_path / "last.ckpt").exists() == told
    assert run.global_step == (4 if told else 8)
