"""The guarantee: whatever changes weights beside a mask, they are zero under it at the end, in the module and in every
file, or the run is refused by name before its first step."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch.optim.optimizer import _global_optimizer_post_hooks

from rebasin_lt.errors import InputError, MaskLeakError
from rebasin_lt.lit.callbacks.dynamic_sparse_training import DynamicSparseTraining
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import save_network
from rebasin_lt.lit.checkpoint_file import read_checkpoint
from rebasin_lt.pruning.mask import Mask

MASKED = ["encoder.0.weight", "head.weight"]


class Module(ForeignModule):
    """With batch norm, so that SWA adds an epoch for its statistics."""

    def __init__(self):
        super().__init__()
        self.lr = 0.05

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, weight_decay=0.01)


class Extra(torch.optim.SGD):
    """Has a second kind of step, of which neither Lightning nor torch knows, as optimisers of two steps do."""

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad + 0.1, alpha=group["lr"])


class Twice(Module):
    """Steps twice by hand per batch, the second time around Lightning."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for step in (optimizer.step, optimizer.optimizer.second_step):
            loss = super().training_step(batch, batch_idx)
            optimizer.zero_grad()
            self.manual_backward(loss)
            step()
        return loss

    def configure_optimizers(self):
        return Extra(self.parameters(), lr=self.lr)


class Lookahead:
    """Zhang et al. (2019), as it is often written: around an optimiser, without being one; moves `.data`."""

    def __init__(self, base):
        self.base, self.state, self.defaults = base, base.state, base.defaults
        self.slow = [p.data.clone() for g in base.param_groups for p in g["params"]]
        self.param_groups = base.param_groups

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none)

    def step(self, closure=None):
        loss = self.base.step(closure)
        for slow, p in zip(self.slow, [p for g in self.param_groups for p in g["params"]], strict=True):
            p.data = slow.add_(p.data - slow, alpha=0.5).clone()
        return loss

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state):
        self.base.load_state_dict(state)


class Wrapped(Module):
    def configure_optimizers(self):
        return Lookahead(super().configure_optimizers())


class InnerStep(Module):
    """An optimiser inside that steps on its own, in the middle of the batch."""

    def on_train_batch_end(self, *_):
        inner = torch.optim.SGD([self.encoder[0].weight, self.head.weight], lr=0.1, weight_decay=0.5)
        for weight in inner.param_groups[0]["params"]:
            weight.grad = torch.ones_like(weight)
        inner.step()


class Edit(Callback):
    """Writes to every weight in one hook; `data` hides it from torch's count of writes."""

    def __init__(self, hook, data=False):
        self.data = data
        setattr(self, hook, self.edit)

    def edit(self, trainer, module, *_):
        with torch.no_grad():
            for name in MASKED:
                weight = module.get_parameter(name)
                (weight.data if self.data else weight).add_(0.01)


def random_mask(keep=0.4):
    module = ForeignModule()
    return Mask({name: torch.rand(module.get_parameter(name).shape) < keep for name in MASKED})


GUARDS = {
    "imp": lambda: IterativeMagnitudePruning([0.5, 0.75], epochs_per_round=1, fraction=0.5),
    "guard": lambda: MaskGuard(random_mask()),
    "dst": lambda: DynamicSparseTraining(sparsity=0.7, update_every=3),
}
HOOKS = ("on_fit_start", "on_train_start", "on_train_batch_start", "on_train_batch_end", "on_train_epoch_end")
CHANGES = {
    "nothing": (Module, [], {}),
    "ema": (Module, [partial(EMAWeightAveraging, decay=0.9)], {}),
    "swa": (Module, [partial(StochasticWeightAveraging, swa_lrs=0.05, swa_epoch_start=1)], {}),
    "steps twice": (Twice, [], {}),
    "lookahead": (Wrapped, [], {}),
    "inner step": (InnerStep, [], {}),
    **{hook: (Module, [partial(Edit, hook)], {}) for hook in (*HOOKS, "on_train_end", "on_fit_end")},
    **{f"{hook}, data": (Module, [partial(Edit, hook, data=True)], {}) for hook in HOOKS},
    "lr finder": (Module, [partial(LearningRateFinder, num_training_steps=5, update_attr=True)], {}),
    "fast_dev_run": (Module, [], {"fast_dev_run": True}),
}
REFUSED = {
    ("imp", "ema"): "EMAWeightAveraging beside IterativeMagnitudePruning would average networks of different rounds",
    ("imp", "swa"): "StochasticWeightAveraging beside IterativeMagnitudePruning would average networks",
}


def leaks(state, mask):
    return sum(int((state[name][~kept] != 0).sum()) for name, kept in mask.items())


class ForwardIsMasked(Callback):
    """Looks at the weights that a training step sees."""

    def __init__(self, guard):
        self.guard, self.leaks, self.steps = guard, 0, 0

    def on_before_backward(self, trainer, module, loss):
        self.steps += 1
        self.leaks += leaks(dict(module.named_parameters()), self.guard.mask)


@pytest.mark.filterwarnings(
    "ignore:.*(SWA|lr_scheduler|learning rate|beginning of the run|LR finder|averag|manual optimization).*"
)
@pytest.mark.parametrize(
    ("kind", "change", "first"),
    [
        (kind, change, first)
        for kind in GUARDS
        for change in CHANGES
        for first in (True, False)
        if first or change in {"ema", "swa", "on_fit_start", "on_train_batch_end"}
    ],
)
def test_zero_under_the_mask_whatever_changes_the_weights(trainer, tmp_path, kind, change, first):
    module_class, others, settings = CHANGES[change]
    module, guard = module_class(), GUARDS[kind]()
    watch = ForwardIsMasked(guard)
    beside = [make() for make in others]
    files = [
        RewindCheckpoint(["0it", "3it"] if "fast_dev_run" not in settings else ["0it"]),
        ResumePoint(every_steps=3),
        ModelCheckpoint(tmp_path / "weights", save_weights_only=True, save_top_k=-1, every_n_train_steps=3),
        ModelCheckpoint(tmp_path / "all", save_top_k=-1, every_n_train_steps=4),
    ]
    callbacks = [guard, *beside] if first else [*beside, guard]
    run = trainer(-1 if kind == "imp" else 2, [*callbacks, watch, *files], enable_checkpointing=True, **settings)
    if (kind, change) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[kind, change]):
            run.fit(module, ForeignData())
        assert watch.steps == 0
        assert not list(tmp_path.iterdir())
        return
    run.fit(module, ForeignData())
    assert watch.steps
    assert leaks(dict(module.named_parameters()), guard.mask) == 0
    if not change.startswith("on_train_batch") or change == "on_train_batch_end":
        assert watch.leaks == 0  # elsewhere the edit comes right before the step, or hides from torch's count of writes
    written = [path for path in tmp_path.rglob("*.ckpt") if not path.name.startswith(".")]
    if not settings:
        assert {"last.ckpt", "0it.ckpt", "3it.ckpt"} <= {path.name for path in written}
        assert (tmp_path / "imp" / "sparsity-0.75.ckpt").exists() == (kind == "imp")
    newest_alone = max((tmp_path / "weights").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, default=None)
    for path in written:
        content = read_checkpoint(path)
        masks = [Mask(content["rebasin_lt_mask"])] if "rebasin_lt_mask" in content else []
        if kind == "guard" or path == newest_alone:  # weights alone come without their mask
            masks.append(guard.mask)
        for mask in masks:
            assert leaks(content["state_dict"], mask) == 0, path
            assert leaks(content.get("current_model_state", content["state_dict"]), mask) == 0, path
    for path in tmp_path.rglob("*.mask.safetensors"):
        beside = path.with_name(path.name.replace(".mask.safetensors", ".ckpt"))
        state = read_checkpoint(beside)["state_dict"] if beside.exists() else module.state_dict()
        assert leaks(state, Mask.load(path)) == 0
    save_network(tmp_path / "final.ckpt", run, module, None)
    assert leaks(read_checkpoint(tmp_path / "final.ckpt")["state_dict"], guard.mask) == 0


def test_an_epoch_beyond_the_plan_is_the_last_rounds(trainer, tmp_path):
    """Others add epochs, as SWA does for batch norm's statistics."""

    class OneMore(Callback):
        def on_fit_start(self, trainer, module):
            trainer.fit_loop.max_epochs += 1

    guard = GUARDS["imp"]()
    run = trainer(-1, [guard, OneMore()])
    run.fit(Module(), ForeignData())
    assert run.current_epoch == 3
    assert guard.mask.sparsity == pytest.approx(0.75, abs=0.02)
    ticket = read_checkpoint(tmp_path / "imp" / "sparsity-0.75.ckpt")
    assert ticket["epoch"] == 1
    assert Mask(ticket["rebasin_lt_mask"]) == guard.mask


def test_no_step_pays_for_it(trainer):
    """Weights that only the optimiser changes are multiplied once per step, by the hook after it."""
    guard = MaskGuard(random_mask())
    calls, real = [], guard._mask_weights
    guard._mask_weights = lambda: (calls.append(1), real())
    run = trainer(3, [guard])
    run.fit(Module(), ForeignData())
    assert len(calls) == 12 + len(["train start", *["epoch end"] * 3, "train end", "teardown"])


def test_a_step_of_another_network_is_none_of_the_guards(trainer):
    """The hook hears of every optimiser in the process: a teacher's, or that of a run beside this one."""
    calls = []

    class Teacher(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            other = torch.nn.Linear(2, 2)
            other(torch.ones(1, 2)).sum().backward()
            before = len(calls)
            torch.optim.SGD(other.parameters(), 0.1).step()
            assert len(calls) == before

    guard = MaskGuard(random_mask())
    real = guard._mask_weights
    guard._mask_weights = lambda: (calls.append(1), real())
    trainer(1, [guard, Teacher()]).fit(Module(), ForeignData())
    assert calls


@pytest.mark.parametrize("kind", GUARDS)
def test_a_guard_hears_of_no_step_when_its_fit_is_over(trainer, kind):
    before, module = len(_global_optimizer_post_hooks), Module()
    trainer(-1 if kind == "imp" else 1, [GUARDS[kind]()]).fit(module, ForeignData())
    assert len(_global_optimizer_post_hooks) == before


def test_averages_of_a_stranger_are_refused_when_they_are_written(trainer, tmp_path):
    class Revive(Callback):
        def on_save_checkpoint(self, trainer, module, checkpoint):
            checkpoint["state_dict"] = {name: tensor + 0.01 for name, tensor in checkpoint["state_dict"].items()}

    path = tmp_path / "last.ckpt"
    trainer(1, [MaskGuard(random_mask()), ResumePoint()], enable_checkpointing=True).fit(Module(), ForeignData())
    before = path.read_bytes()
    run = trainer(1, [MaskGuard(random_mask()), Revive(), ResumePoint()], enable_checkpointing=True)
    with pytest.raises(MaskLeakError, match=r"last.ckpt is not written: \d+ of \d+ pruned weights of encoder.0.weight"):
        run.fit(Module(), ForeignData())
    assert path.read_bytes() == before
