import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback
from torch.utils.data import DataLoader, IterableDataset

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import read_checkpoint
from rebasin_lt.storage.files import hash_tensors


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


@pytest.mark.parametrize("saved", [False, True])
def test_a_replay_that_comes_to_other_weights_goes_on_with_those(trainer, tmp_path, saved):
    """A GPU does not sum twice in the same order: a run that was killed must not then take itself for another."""

    class Chance(ForeignModule):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * (1 + torch.rand(()))

    class Save(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    begin = {name: tensor.clone() for name, tensor in Chance().state_dict().items()}
    found = []
    for seed in (0, 1):
        module = Chance()
        module.load_state_dict(begin)
        torch.manual_seed(seed)
        again = {"ckpt_path": tmp_path / "0.ckpt"} if saved and seed else {}
        trainer(2, [RewindCheckpoint(["0it", "6it"]), Save()]).fit(module, ForeignData(), **again)
        found.append(hash_tensors(read_checkpoint(tmp_path / "rewind" / "6it.ckpt")["state_dict"]))
    assert found[0] != found[1]
    assert (
        read_checkpoint(tmp_path / "1.ckpt")["callbacks"]["rebasin_lt.rewind_checkpoint"]["written"]["6it"] == found[1]
    )


def test_reused_callbacks_write_each_run_as_fresh_ones_do(trainer, tmp_path):
    reused, given = RewindCheckpoint(["0it", "1ep"]), RewindCheckpoint(["0it"], dirpath=str(tmp_path / "given"))
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = ForeignModule()
        twin = ForeignModule()
        twin.load_state_dict(module.state_dict())
        run = tmp_path / f"run{seed}"
        trainer(2, [reused], default_root_dir=run).fit(module, ForeignData())
        fresh = RewindCheckpoint(["0it", "1ep"], dirpath=str(tmp_path / f"fresh{seed}"))
        trainer(2, [fresh]).fit(twin, ForeignData())
        for name in ("0it", "1ep"):
            assert reused.path(name) == run / "rewind" / f"{name}.ckpt"
            assert_equal(read_checkpoint(reused.path(name)), read_checkpoint(fresh.path(name)))
    trainer(1, [given]).fit(ForeignModule(), ForeignData())
    assert given.path("0it") == tmp_path / "given" / "0it.ckpt"
    with pytest.raises(InputError, match="it is of another run; choose another output folder"):
        trainer(1, [given]).fit(ForeignModule(), ForeignData())


def test_a_trainer_that_goes_on_keeps_what_was_written(trainer, tmp_path):
    states = States()
    run = trainer(1, [RewindCheckpoint(["0it", "1ep"]), states])
    module = ForeignModule()
    run.fit(module, ForeignData())
    before = (tmp_path / "rewind" / "0it.ckpt").read_bytes()
    run.fit_loop.max_epochs = 2
    run.fit(module, ForeignData())
    assert (tmp_path / "rewind" / "0it.ckpt").read_bytes() == before
    assert run.global_step == 8


def assert_equal(content, other):
    assert content["rebasin_lt"] == other["rebasin_lt"]
    for name, tensor in content["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name


@pytest.mark.parametrize(("max_epochs", "max_steps"), [(10, 25), (-1, 25), (2, 100)])
def test_training_ends_at_the_first_of_max_epochs_and_max_steps(trainer, tmp_path, max_epochs, max_steps):
    end = 8 if max_epochs == 2 else max_steps
    late = trainer(max_epochs, [RewindCheckpoint(["50it"])], max_steps=max_steps)
    with pytest.raises(InputError, match=f"moment 50it is step 50, after the end of training at step {end}"):
        late.fit(ForeignModule(), ForeignData())
    late = trainer(max_epochs, [RewindCheckpoint(["7ep"])], max_steps=max_steps)
    with pytest.raises(InputError, match=f"moment 7ep is step 28, after the end of training at step {end}"):
        late.fit(ForeignModule(), ForeignData())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_moments_are_written_where_max_steps_ends_training(trainer, tmp_path):
    states = States()
    at = ["0it", "1ep", "5it", "25it"]
    trainer(-1, [RewindCheckpoint(at), states], max_steps=25).fit(ForeignModule(), ForeignData())
    for name, step in (("0it", 0), ("1ep", 4), ("5it", 5), ("25it", 25)):
        saved = read_checkpoint(tmp_path / "rewind" / f"{name}.ckpt")
        assert saved["rebasin_lt"]["global_step"] == step
        assert all(torch.equal(tensor, states.after[step][key]) for key, tensor in saved["state_dict"].items()), name


class TwoOptimisers(ForeignModule):
    """Manual optimisation: `global_step` grows by two in every batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.encoder, self.head)]


def test_with_two_optimisers_epochs_are_epochs_and_steps_are_those_of_both(trainer, tmp_path):
    states = States()
    at = ["0it", "1ep", "5it", "3ep", "24it"]
    trainer(3, [RewindCheckpoint(at), states]).fit(TwoOptimisers(), ForeignData())
    for name, step in (("0it", 0), ("5it", 6), ("1ep", 8), ("3ep", 24), ("24it", 24)):
        saved = read_checkpoint(tmp_path / "rewind" / f"{name}.ckpt")
        assert saved["rebasin_lt"]["global_step"] == step
        assert all(torch.equal(tensor, states.after[step][key]) for key, tensor in saved["state_dict"].items()), name
    for moment, settings in (("4ep", {}), ("50it", {"max_steps": 20})):
        with pytest.raises(InputError, match=f"rewind moment {moment} lies after the end of training"):
            trainer(3, [RewindCheckpoint([moment])], **settings).fit(TwoOptimisers(), ForeignData())


def test_a_resume_writes_only_what_still_lies_ahead(trainer, tmp_path):
    first = trainer(2, [RewindCheckpoint(["0it"])])
    first.fit(TwoOptimisers(), ForeignData())
    first.save_checkpoint(tmp_path / "half.ckpt")
    run = trainer(4, [RewindCheckpoint(["0it", "1ep", "5it", "3ep", "27it"])])
    with pytest.warns(UserWarning, match="rewind moments not written: 1ep, 5it. They did not come in this run"):
        run.fit(TwoOptimisers(), ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    steps = {file.stem: read_checkpoint(file)["rebasin_lt"]["global_step"] for file in tmp_path.glob("rewind/*")}
    assert steps == {"0it": 0, "3ep": 24, "27it": 28}


class Stop(Callback):
    def on_train_batch_end(self, trainer, pl_module, *args):
        trainer.should_stop = trainer.global_step == 6


def test_a_moment_that_never_came_is_warned_of(trainer, tmp_path):
    with pytest.warns(UserWarning, match="rewind moments not written: 2ep, 7it.*ended at step 6"):
        trainer(3, [RewindCheckpoint(["1ep", "2ep", "7it"]), Stop()]).fit(ForeignModule(), ForeignData())
    with pytest.warns(UserWarning, match="rewind moments not written: 99it.*ended at step 8"):
        trainer(1, [RewindCheckpoint(["99it"])]).fit(TwoOptimisers(), ForeignData())
    assert [file.name for file in tmp_path.rglob("*.ckpt")] == ["1ep.ckpt"]


class Endless(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(64):
            inputs = torch.randn(6, generator=generator)
            yield inputs, inputs[:1]


def test_data_of_unknown_length_has_moments_too(trainer, tmp_path):
    callback = RewindCheckpoint(["0it", "1ep", "6it", "2ep"])
    trainer(2, [callback]).fit(ForeignModule(), DataLoader(Endless(), batch_size=16))
    steps = {file.stem: read_checkpoint(file)["rebasin_lt"]["global_step"] for file in tmp_path.glob("rewind/*")}
    assert steps == {"0it": 0, "1ep": 4, "6it": 6, "2ep": 8}
