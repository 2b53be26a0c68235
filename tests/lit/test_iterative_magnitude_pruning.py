import pytest
import torch
from foreign import ForeignData, ForeignModule, RestlessModule
from lightning import Callback

from rebasin_lt.errors import InputError, Unfinished
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import read_checkpoint
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask

TARGETS = [0.3, 0.5, 0.8]


class Rounds(Callback):
    """Weights, learning rates and optimiser of each epoch's first batch and end."""

    def __init__(self):
        self.begin, self.end, self.rates, self.optimizers, self.momenta = [], [], [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.begin.append({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            self.optimizers.append(trainer.optimizers[0])
            self.momenta.append(len(trainer.optimizers[0].state))

    def on_train_epoch_end(self, trainer, pl_module):
        self.end.append({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})


def test_every_target_is_hit_within_one_weight_and_left_as_files(trainer, tmp_path):
    module = ForeignModule()
    imp = IterativeMagnitudePruning(TARGETS, epochs_per_round=2)
    trainer(-1, [imp]).fit(module, ForeignData())
    for target in TARGETS:
        mask = Mask.load(tmp_path / "imp" / f"sparsity-{target:g}.mask.safetensors")
        assert abs(mask.sparsity - target) * mask.num_weights <= 1
        ticket = read_checkpoint(tmp_path / "imp" / f"sparsity-{target:g}.ckpt")
        assert Mask(ticket["rebasin_lt_mask"]) == mask.unsigned
        assert all(not ticket["state_dict"][name][~kept].any() for name, kept in mask.items())
    final = Mask.load(imp.mask_path(0.8))
    assert all(not module.get_parameter(name)[~kept].any() for name, kept in final.items())


class ZerosOfEveryRound(Callback):
    """The sparsity at every step, after looking at every weight that is pruned by then."""

    def __init__(self, imp):
        self.imp, self.sparsities = imp, []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.sparsities.append(self.imp.mask.sparsity)
        for name, kept in self.imp.mask.items():
            assert not pl_module.get_parameter(name)[~kept].any(), name


@pytest.mark.parametrize("make", [ForeignModule, lambda: ForeignModule(optimizer="adamw"), RestlessModule])
@pytest.mark.parametrize("settings", [{}, {"gradient_clip_val": 0.01}, {"accumulate_grad_batches": 3}])
def test_pruned_weights_are_zero_after_every_step_of_every_round(trainer, make, settings):
    """Dense epochs first, so that momentum of pruned weights is there to be stale."""
    imp = IterativeMagnitudePruning([0.2, 0.36], 2, dense_epochs=1)
    watch = ZerosOfEveryRound(imp)
    trainer(-1, [imp, watch], **settings).fit(make(), ForeignData())
    assert watch.sparsities == pytest.approx([0.0] * 4 + [0.2] * 8 + [0.36] * 8, abs=1 / imp.mask.num_weights)


def test_the_ticket_is_what_the_rounds_last_epoch_trained(trainer, tmp_path):
    rounds = Rounds()
    trainer(-1, [IterativeMagnitudePruning([0.2, 0.36], 2), rounds]).fit(ForeignModule(), ForeignData())
    for target, epoch in ((0.2, 1), (0.36, 3)):
        ticket = read_checkpoint(tmp_path / "imp" / f"sparsity-{target:g}.ckpt")["state_dict"]
        assert all(torch.equal(tensor, rounds.end[epoch][name]) for name, tensor in ticket.items())


def test_masks_follow_from_the_weights_before_each_pruning(trainer, tmp_path):
    module = ForeignModule()
    initial = {name: tensor.clone() for name, tensor in module.named_parameters()}
    rounds = Rounds()
    trainer(-1, [IterativeMagnitudePruning([0.2, 0.36], 2), rounds]).fit(module, ForeignData())
    names = ["encoder.0.weight", "head.weight"]
    first = prune_to_sparsity(initial, Mask.ones_like(initial, names), 0.2)
    second = prune_to_sparsity(rounds.end[1], first, 0.36)
    assert Mask.load(tmp_path / "imp" / "sparsity-0.2.mask.safetensors").unsigned == first
    assert Mask.load(tmp_path / "imp" / "sparsity-0.36.mask.safetensors").unsigned == second


def test_dense_epochs_come_before_the_first_pruning(trainer):
    rounds = Rounds()
    imp = IterativeMagnitudePruning([0.2], 1, dense_epochs=2)
    trainer(-1, [imp, rounds]).fit(ForeignModule(), ForeignData())
    assert len(rounds.begin) == imp.num_epochs == 3
    assert all(state["encoder.0.weight"].all() for state in rounds.begin[:2])
    assert not rounds.begin[2]["encoder.0.weight"].all()


def test_finetune_keeps_the_weights_and_renews_optimiser_and_schedule(trainer):
    rounds = Rounds()
    trainer(-1, [IterativeMagnitudePruning([0.2, 0.36], 2), rounds]).fit(ForeignModule(), ForeignData())
    bias = "encoder.0.bias"
    assert torch.equal(rounds.begin[2][bias], rounds.end[1][bias])
    assert rounds.rates == [0.05, 0.025, 0.05, 0.025]
    assert rounds.optimizers[0] is rounds.optimizers[1] is not rounds.optimizers[2]
    assert [momenta > 0 for momenta in rounds.momenta] == [False, True, False, True]


def test_rewinding_the_schedule_starts_it_where_the_dense_run_stood(trainer):
    rounds = Rounds()
    imp = IterativeMagnitudePruning([0.2, 0.36], 2, after_prune="rewind_lr", rewind_from="1ep", dense_epochs=3)
    trainer(-1, [RewindCheckpoint(["1ep"]), imp, rounds]).fit(ForeignModule(), ForeignData())
    assert rounds.rates == [0.05, 0.025, 0.0125, 0.025, 0.0125, 0.025, 0.0125]
    assert torch.equal(rounds.begin[3]["encoder.0.bias"], rounds.end[2]["encoder.0.bias"])


def test_rewinding_the_weights_restores_kept_ones_and_batch_statistics(trainer):
    rounds = Rounds()
    imp = IterativeMagnitudePruning([0.2, 0.36], 2, after_prune="rewind_weights", rewind_from="1ep", dense_epochs=3)
    trainer(-1, [RewindCheckpoint(["1ep"]), imp, rounds]).fit(ForeignModule(), ForeignData())
    mask = Mask.load(imp.mask_path(0.36))
    for name, tensor in rounds.end[0].items():
        expected = tensor * mask[name] if name in mask else tensor
        assert torch.equal(rounds.begin[5][name], expected), name
    assert rounds.rates[5] == 0.025


def test_rewinding_from_a_file_equals_rewinding_from_the_moment(trainer, tmp_path, monkeypatch):
    module = ForeignModule()
    copy = ForeignModule()
    copy.load_state_dict(module.state_dict())
    settings = {"targets": [0.2], "epochs_per_round": 2, "after_prune": "rewind_weights", "dense_epochs": 2}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1ep").write_text("a file of that name is not meant where a callback writes the moment")
    within = IterativeMagnitudePruning(**settings, rewind_from="1ep")
    trainer(-1, [RewindCheckpoint(["1ep"]), within]).fit(module, ForeignData())
    file = IterativeMagnitudePruning(**settings, rewind_from=str(tmp_path / "rewind" / "1ep.ckpt"))
    trainer(-1, [file]).fit(copy, ForeignData())
    assert all(torch.equal(tensor, copy.state_dict()[name]) for name, tensor in module.state_dict().items())


def test_the_order_of_the_callbacks_does_not_matter_to_rewinding(trainer, tmp_path):
    state, ends = ForeignModule().state_dict(), []
    for folder, forwards in (("a", True), ("b", False)):
        module = ForeignModule()
        module.load_state_dict(state)
        imp = IterativeMagnitudePruning(
            [0.2], 2, after_prune="rewind_weights", rewind_from="1ep", dense_epochs=2, dirpath=tmp_path / folder / "imp"
        )
        callbacks = [RewindCheckpoint(["1ep"]), imp]
        trainer(-1, callbacks if forwards else callbacks[::-1]).fit(module, ForeignData())
        ends.append(module.state_dict())
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_stopped_between_epochs_ends_with_the_same_bits(trainer, tmp_path, epochs):
    settings = {"targets": [0.2, 0.36], "epochs_per_round": 2}
    straight = ForeignModule()
    copy = ForeignModule()
    copy.load_state_dict(straight.state_dict())
    trainer(-1, [IterativeMagnitudePruning(**settings)]).fit(straight, ForeignData())

    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch + 1 == epochs:
                trainer.should_stop = True

    half = trainer(-1, [IterativeMagnitudePruning(**settings), Stop()])
    with pytest.raises(Unfinished, match=f"training ended in epoch {epochs} of 4, before pruning reached "):
        half.fit(copy, ForeignData())
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = ForeignModule()
    imp = IterativeMagnitudePruning(**settings)
    trainer(-1, [imp]).fit(resumed, ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in straight.state_dict().items())
    assert imp.round == 2


def test_imp_rejects_impossible_settings(trainer, tmp_path):
    with pytest.raises(InputError, match="imp epochs_per_round is 0, expected at least 1"):
        IterativeMagnitudePruning([0.5], 0)
    with pytest.raises(InputError, match="after_prune is rewind_lr, which needs rewind_from"):
        IterativeMagnitudePruning([0.5], 1, after_prune="rewind_lr")
    with pytest.raises(
        InputError, match=r"max_epochs is 3, but pruning to \[0.5\] takes 4 epochs \(0 dense \+ 4 rounds"
    ):
        trainer(3, [IterativeMagnitudePruning([0.5], 1)]).fit(ForeignModule(), ForeignData())
    imp = IterativeMagnitudePruning([0.5], 1, after_prune="rewind_lr", rewind_from="7ep")
    with pytest.raises(InputError, match="rewind_from is '7ep': neither a file nor a moment"):
        trainer(-1, [imp]).fit(ForeignModule(), ForeignData())
    done = trainer(-1, [IterativeMagnitudePruning([0.2], 1)])
    done.fit(ForeignModule(), ForeignData())
    done.save_checkpoint(tmp_path / "done.ckpt")
    with pytest.raises(InputError, match="was pruned with epochs_per_round 1, this run has 2"):
        trainer(-1, [IterativeMagnitudePruning([0.2], 2)]).fit(
            ForeignModule(), ForeignData(), ckpt_path=tmp_path / "done.ckpt"
        )
    with pytest.raises(InputError, match="prunes other parameters than this run"):
        trainer(-1, [IterativeMagnitudePruning([0.2], 1, exclude=("head*",))]).fit(
            ForeignModule(), ForeignData(), ckpt_path=tmp_path / "done.ckpt"
        )


@pytest.mark.parametrize("after_prune", ["finetune", "rewind_lr", "rewind_weights"])
def test_reused_callbacks_prune_each_run_as_fresh_ones_do(trainer, tmp_path, after_prune):
    def callbacks():
        rewind_from = None if after_prune == "finetune" else "1ep"
        imp = IterativeMagnitudePruning([0.2, 0.36], 2, 0.2, after_prune, rewind_from, dense_epochs=2)
        return [RewindCheckpoint(["1ep"]), imp]

    reused = callbacks()
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = ForeignModule()
        twin = ForeignModule()
        twin.load_state_dict(module.state_dict())
        rounds, expected, fresh = Rounds(), Rounds(), callbacks()
        trainer(-1, [*reused, rounds], default_root_dir=tmp_path / f"run{seed}").fit(module, ForeignData())
        trainer(-1, [*fresh, expected], default_root_dir=tmp_path / f"fresh{seed}").fit(twin, ForeignData())
        assert reused[1].ticket_path(0.36) == tmp_path / f"run{seed}" / "imp" / "sparsity-0.36.ckpt"
        assert reused[1].state_dict() == fresh[1].state_dict()
        assert rounds.rates == expected.rates
        assert all(torch.equal(tensor, twin.state_dict()[name]) for name, tensor in module.state_dict().items())
        for target in (0.2, 0.36):
            assert Mask.load(reused[1].mask_path(target)) == Mask.load(fresh[1].mask_path(target))
        assert reused[1].mask.sparsity == pytest.approx(0.36, abs=1 / reused[1].mask.num_weights)


def test_a_reused_callback_resumes_what_the_checkpoint_says(trainer, tmp_path):
    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.should_stop = True

    imp = IterativeMagnitudePruning([0.2, 0.36], 1)
    module = ForeignModule()
    half = trainer(-1, [imp, Stop()])
    with pytest.raises(Unfinished, match="in epoch 1 of 2, before pruning reached 0.36: leave out what ended it"):
        half.fit(module, ForeignData())
    half.save_checkpoint(tmp_path / "half.ckpt")
    straight = ForeignModule()
    trainer(-1, [imp]).fit(straight, ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    again = ForeignModule()
    trainer(-1, [imp]).fit(again, ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in straight.state_dict().items())
    half.should_stop = False
    half.callbacks.pop()
    half.fit(module, ForeignData())  # the same trainer goes on where it stopped
    assert imp.round == 2
    assert imp.mask.sparsity == pytest.approx(0.36, abs=1 / imp.mask.num_weights)
