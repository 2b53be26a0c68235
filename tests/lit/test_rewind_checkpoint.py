import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import read_checkpoint


class States(Callback):
    """The module's state after every number of steps."""

    def __init__(self):
        self.after = {}

    def on_train_start(self, trainer, pl_module):
        self.after[0] = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}

    def on_train_batch_end(self, trainer, pl_module, *args):
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        self.after.setdefault(trainer.global_step, state)  # an accumulating batch moves BN statistics at the same step


def test_files_hold_the_state_at_exactly_that_moment(trainer, tmp_path):
    module = ForeignModule()
    initial = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    states = States()
    trainer(3, [RewindCheckpoint(["0it", "3it", "1ep", "3ep"]), states]).fit(module, ForeignData())
    for name, step in (("0it", 0), ("3it", 3), ("1ep", 4), ("3ep", 12)):
        saved = read_checkpoint(tmp_path / "rewind" / f"{name}.ckpt")
        assert saved["rebasin_lt"]["moment"] == name
        assert saved["rebasin_lt"]["steps_per_epoch"] == 4
        assert all(torch.equal(tensor, states.after[step][key]) for key, tensor in saved["state_dict"].items()), name
    untouched = read_checkpoint(tmp_path / "rewind" / "0it.ckpt")["state_dict"]
    assert all(torch.equal(tensor, initial[name]) for name, tensor in untouched.items())


def test_moments_count_optimiser_steps_under_accumulation(trainer, tmp_path):
    states = States()
    callbacks = [RewindCheckpoint(["1ep"]), states]
    trainer(2, callbacks, accumulate_grad_batches=2).fit(ForeignModule(), ForeignData())
    saved = read_checkpoint(tmp_path / "rewind" / "1ep.ckpt")
    assert saved["rebasin_lt"]["global_step"] == 2
    assert all(torch.equal(tensor, states.after[2][name]) for name, tensor in saved["state_dict"].items())


def test_the_papers_epoch_k_lies_one_epoch_later(trainer, tmp_path):
    callback = RewindCheckpoint(["0it", "1ep"], paper_epoch_offset=True)
    trainer(3, [callback]).fit(ForeignModule(), ForeignData())
    assert read_checkpoint(tmp_path / "rewind" / "1ep.ckpt")["rebasin_lt"]["moment"] == "2ep"
    assert read_checkpoint(tmp_path / "rewind" / "0it.ckpt")["rebasin_lt"]["moment"] == "0it"


def test_a_moment_after_the_end_is_rejected_before_training(trainer, tmp_path):
    with pytest.raises(InputError, match="rewind moment 9ep is step 36, after the end of training at step 8"):
        trainer(2, [RewindCheckpoint(["0it", "9ep"])]).fit(ForeignModule(), ForeignData())
    assert not list(tmp_path.rglob("*.ckpt"))
    with pytest.raises(InputError, match="moment 'soon' is not understood"):
        RewindCheckpoint(["soon"])


def test_a_resumed_run_must_find_its_files_unchanged(trainer, tmp_path):
    first = trainer(1, [RewindCheckpoint(["0it"])])
    first.fit(ForeignModule(), ForeignData())
    first.save_checkpoint(tmp_path / "half.ckpt")
    file = tmp_path / "rewind" / "0it.ckpt"

    def resume():
        trainer(2, [RewindCheckpoint(["0it"])]).fit(ForeignModule(), ForeignData(), ckpt_path=tmp_path / "half.ckpt")

    before = file.read_bytes()
    resume()
    assert file.read_bytes() == before
    torch.save({"state_dict": ForeignModule().state_dict()}, file)
    with pytest.raises(InputError, match="holds other weights at 0it than this run: it is of another run"):
        resume()
    file.unlink()
    with pytest.raises(BrokenFileError, match="was written by this run and is gone: restore it"):
        resume()


def test_a_run_that_died_early_may_begin_again_but_another_run_may_not(trainer, tmp_path):
    module = ForeignModule()
    again = ForeignModule()
    again.load_state_dict(module.state_dict())
    trainer(1, [RewindCheckpoint(["0it"])]).fit(module, ForeignData())
    trainer(1, [RewindCheckpoint(["0it"])]).fit(again, ForeignData())
    with pytest.raises(InputError, match="choose another output folder"):
        trainer(1, [RewindCheckpoint(["0it"])]).fit(ForeignModule(), ForeignData())
