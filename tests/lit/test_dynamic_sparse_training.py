import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback
from lightning.pytorch.plugins import MixedPrecision

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.dynamic_sparse_training import DynamicSparseTraining
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.pruning.dynamic import exchange_fraction, exchange_weights, random_scores
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import hash_tensors

NAMES = ["encoder.0.weight", "head.weight"]


def dst(**settings):
    return DynamicSparseTraining(**{"sparsity": 0.6, "update_every": 3, "fraction": 0.5, **settings})


class Watch(Callback):
    """The mask and weights after every step, and the dense gradients and weights before it."""

    def __init__(self, guard):
        self.guard, self.masks, self.before, self.after, self.momentum = guard, [], [], [], []

    def on_after_backward(self, trainer, pl_module):
        parameters = {name: pl_module.get_parameter(name) for name in NAMES}
        self.before.append({name: (p.detach().clone(), p.grad.clone()) for name, p in parameters.items()})

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.masks.append(self.guard.mask)
        self.after.append({name: pl_module.get_parameter(name).detach().clone() for name in NAMES})
        state = trainer.optimizers[0].state
        self.momentum.append({
            name: [t.clone() for t in state[pl_module.get_parameter(name)].values() if t.dim() > 1] for name in NAMES
        })


def fit(trainer, epochs=4, module=None, **settings):
    guard = dst(**settings)
    watch = Watch(guard)
    trainer(epochs, [guard, watch]).fit(module or ForeignModule(), ForeignData())
    return guard, watch


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["rigl", "set"])
def test_counts_stay_and_pruned_weights_and_their_state_are_zero_at_every_step(trainer, method, optimizer):
    _, watch = fit(trainer, module=ForeignModule(optimizer=optimizer), method=method)
    assert len(watch.masks) == 16
    for mask, weights, momentum in zip(watch.masks, watch.after, watch.momentum, strict=True):
        for name in NAMES:
            assert int(mask[name].sum()) == mask[name].numel() - round(0.6 * mask[name].numel())
            assert not weights[name][~mask[name]].any()
            assert momentum[name]
            assert not any(buffer[~mask[name]].any() for buffer in momentum[name])


def test_the_mask_changes_at_its_steps_only_and_until_its_end(trainer):
    guard, watch = fit(trainer, until=0.5, update_every=2)
    changed = [step for step in range(1, 16) if watch.masks[step] != watch.masks[step - 1]]
    assert changed == [2, 4, 6]  # of 16 steps, before step 0.5 · 16
    assert guard.mask == watch.masks[-1]


def test_rigl_grows_where_the_dense_gradient_is_largest(trainer):
    _, watch = fit(trainer)
    step = 6
    weights = {name: pair[0] for name, pair in watch.before[step].items()}
    gradients = {name: pair[1] for name, pair in watch.before[step].items()}
    assert all(gradients[name][~watch.masks[step - 1][name]].any() for name in NAMES)
    fraction = exchange_fraction(step, 0.75 * 16, 0.5)
    assert watch.masks[step] == exchange_weights(weights, watch.masks[step - 1], fraction, gradients)


def test_set_grows_by_lot_of_seed_and_step_alone(trainer):
    _, watch = fit(trainer, method="set", seed=4)
    step = 3
    weights = {name: pair[0] for name, pair in watch.before[step].items()}
    lots = random_scores(watch.masks[0], torch.Generator().manual_seed(4 * 1_000_003 + step))
    fraction = exchange_fraction(step, 0.75 * 16, 0.5)
    assert watch.masks[step] == exchange_weights(weights, watch.masks[step - 1], fraction, lots)
    _, other = fit(trainer, method="set", seed=5)
    assert other.masks[step] != watch.masks[step]


def test_grown_weights_start_at_zero_with_no_momentum(trainer):
    """With plain momentum the first step of a grown weight is its gradient alone."""
    _, watch = fit(trainer)
    step = 3
    for name in NAMES:
        grown = watch.masks[step][name] & ~watch.masks[step - 1][name]
        assert grown.any()
        assert not watch.before[step][name][0][grown].any()
        (buffer,) = watch.momentum[step][name]
        assert torch.equal(buffer[grown], watch.before[step][name][1][grown])


@pytest.mark.parametrize("method", ["rigl", "set"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_resumed_run_has_the_same_bits(trainer, tmp_path, method, epochs):
    straight, resumed = ForeignModule(), ForeignModule()
    resumed.load_state_dict(straight.state_dict())

    class Stop(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == epochs - 1:
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    whole = dst(method=method)
    trainer(4, [whole, Stop()]).fit(straight, ForeignData())
    guard = dst(method=method)
    trainer(4, [guard]).fit(resumed, ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    assert guard.mask == whole.mask
    assert hash_tensors(resumed.state_dict()) == hash_tensors(straight.state_dict())  # -0 and 0 are equal, not the bits


def test_a_given_mask_is_where_it_begins_and_the_final_one_is_a_file(trainer, tmp_path):
    mask = Mask({"encoder.0.weight": torch.rand(12, 6) < 0.4})
    mask.save(tmp_path / "m.mask.safetensors")
    guard = dst(sparsity=None, mask=str(tmp_path / "m.mask.safetensors"))
    watch = Watch(guard)
    trainer(4, [guard, watch]).fit(ForeignModule(), ForeignData())
    assert watch.masks[0] == watch.masks[2] == mask != watch.masks[3]
    assert Mask.load(tmp_path / "dst" / "final.mask.safetensors").unsigned == guard.mask
    again = dst(sparsity=None, mask=mask, dirpath=str(tmp_path / "elsewhere"))
    for _ in range(2):  # a reused callback begins anew
        watch = Watch(again)
        trainer(4, [again, watch]).fit(ForeignModule(), ForeignData())
        assert watch.masks[0] == mask
    assert (tmp_path / "elsewhere" / "final.mask.safetensors").exists()


def test_an_accumulated_step_counts_once(trainer):
    guard = dst(update_every=2)
    watch = Watch(guard)
    trainer(4, [guard, watch], accumulate_grad_batches=2).fit(ForeignModule(), ForeignData())
    changed = [batch for batch in range(1, 16) if watch.masks[batch] != watch.masks[batch - 1]]
    assert changed == [5, 9]  # the batches that end steps 2 and 4, before step 0.75 · 8


def test_steps_between_updates_do_not_wait_for_the_device(trainer):
    """Neither decide they anything by a value: between updates the fused multiplication is all."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Ops(TorchDispatchMode):
        names = ()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names = (*self.names, func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    guard, module = dst(), ForeignModule()
    fitted = trainer(1, [guard])
    fitted.fit(module, ForeignData())
    assert fitted.global_step == 4
    module.head(module.encoder(torch.randn(4, 6))).sum().backward()
    with Ops() as ops:
        guard.on_before_optimizer_step(fitted, module, fitted.optimizers[0])
    assert ops.names == ("_foreach_mul_",)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sparsity": None}, "dst mask is None and sparsity None, expected one of them"),
        ({"mask": Mask({})}, "expected one of them"),
        ({"method": "rigged"}, "dst method is 'rigged', expected rigl or set"),
        ({"fraction": 0}, "dst fraction is 0, expected above 0 and at most 1"),
        ({"update_every": 0}, "dst update_every is 0, expected at least 1"),
        ({"until": 1.5}, "dst until is 1.5, expected above 0 and at most 1"),
        ({"sparsity": 1.0}, "dst sparsity is 1.0, expected at least 0 and below 1"),
    ],
)
def test_impossible_settings_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        dst(**settings)


def test_runs_that_cannot_be_are_refused(trainer, tmp_path):
    class TwoOptimizers(ForeignModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def configure_optimizers(self):
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.encoder, self.head)]

    with pytest.raises(InputError, match="needs one optimiser, the module has 2"):
        trainer(1, [dst()]).fit(TwoOptimizers(), ForeignData())
    with pytest.raises(InputError, match="needs the length of training: set max_epochs or max_steps"):
        trainer(-1, [dst()]).fit(ForeignModule(), ForeignData())
    with pytest.raises(InputError, match="another mask guard would fight over the weights: name one"):
        trainer(1, [dst(), MaskGuard(Mask({}))]).fit(ForeignModule(), ForeignData())
    done = trainer(1, [dst()])
    done.fit(ForeignModule(), ForeignData())
    done.save_checkpoint(tmp_path / "half.ckpt")
    with pytest.raises(InputError, match="was trained with dst method rigl, this run has set"):
        trainer(2, [dst(method="set")]).fit(ForeignModule(), ForeignData(), ckpt_path=tmp_path / "half.ckpt")
    with pytest.raises(InputError, match="keeps other numbers of weights than this run's mask"):
        trainer(2, [dst(sparsity=0.5)]).fit(ForeignModule(), ForeignData(), ckpt_path=tmp_path / "half.ckpt")


class Overflow(ForeignModule):
    """A gradient overflows at the given batches, as in half precision."""

    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.seen += 1
        return loss * torch.inf if self.seen in self.at else loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Changes(Callback):
    """The steps at which the mask changed."""

    def __init__(self, guard):
        self.guard, self.steps, self.before = guard, [], None

    def on_train_batch_end(self, trainer, pl_module, *args):
        if self.before is not None and self.guard.mask != self.before:
            self.steps.append(trainer.global_step - 1)
        self.before = self.guard.mask


@pytest.mark.parametrize("method", ["rigl", "set"])
def test_an_update_whose_step_mixed_precision_skips_is_postponed(trainer, method):
    guard = dst(method=method, until=1.0)
    changes = Changes(guard)
    module = Overflow({4, 5, 10})  # batches count from 1; updates are due at steps 3, 6, 9 …
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1.0))
    trainer(6, [guard, changes], plugins=[plugin], precision=None).fit(module, ForeignData())
    assert changes.steps[:4] == [5, 6, 10, 12]
    assert all(not module.get_parameter(name)[~kept].any() for name, kept in guard.mask.items())
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_without_mixed_precision_a_gradient_that_is_not_finite_is_refused(trainer):
    with pytest.raises(InputError, match="hold NaN or infinity: the training that made them diverged"):
        fit(trainer, module=Overflow({4}))


def test_a_postponed_update_is_in_the_checkpoint():
    guard, again = dst(), dst()
    guard._postponed = True
    again.load_state_dict(guard.state_dict())
    assert again.state_dict() == guard.state_dict()
    assert again._postponed
