"""Sign-In: what a network with two explicit factors does, in any module; resumed to the bit, and off without it."""

from __future__ import annotations

import pytest
import torch
from foreign import ForeignData, ForeignModule, RestlessModule
from lightning import Callback
from lightning.pytorch.callbacks import BackboneFinetuning, LearningRateFinder
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.dynamic_sparse_training import DynamicSparseTraining
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.sign_in import SignIn
from rebasin_lt.lit.checkpoint_file import read_checkpoint
from rebasin_lt.lit.classifier import Classifier, MaskedClassifier
from rebasin_lt.lit.data import Digits
from rebasin_lt.pruning.factors import balanced_factors
from rebasin_lt.pruning.mask import Mask

NAMES = ["encoder.0.weight", "head.weight"]


def mask_of(module) -> Mask:
    generator = torch.Generator().manual_seed(5)
    return Mask({name: torch.rand(module.get_parameter(name).shape, generator=generator) < 0.5 for name in NAMES})


def made(kind=ForeignModule, **settings):
    torch.manual_seed(1)
    return kind(**settings)


class Doubles(ForeignData):
    """In fp64, in which AdamW's quotient of two roundings, where a gradient is 0, is nothing."""

    def train_dataloader(self):
        tensors = [tensor.double() for tensor in super().train_dataloader().dataset.tensors]
        return DataLoader(TensorDataset(*tensors), batch_size=self.batch_size)


def fit(trainer, epochs=3, callbacks=(), module=None, ckpt_path=None, sign_in=None, first=True, data=None):
    module = made() if module is None else module
    both = [sign_in or SignIn(), MaskGuard(mask_of(module))]
    run = trainer(epochs, [*(both if first else both[::-1]), *callbacks])
    run.fit(module, data or ForeignData(), ckpt_path=ckpt_path)
    return run, {name: tensor.clone() for name, tensor in module.state_dict().items()}


class TwoFactors:
    """The same training in plain torch, with m and w as parameters of their own and a forward pass of m · w · mask."""

    def __init__(self, every: int, balance: float, optimizer: str):
        self.module, self.every, self.balance = made(optimizer=optimizer).double(), every, balance
        self.mask = mask_of(self.module)
        self.factors = {}
        self.parts = dict(self.module.named_parameters())
        for name in NAMES:
            m, w = balanced_factors(self.parts[name].detach() * self.mask[name], balance)
            self.factors[name] = (nn.Parameter(m), nn.Parameter(w))
        others = {name: part for name, part in self.parts.items() if name not in NAMES}
        groups = [
            {"params": [part for name, part in others.items() if name.startswith(place)], "lr": rate}
            for place, rate in (("encoder", 0.05), ("head", 0.2))
        ]
        for group, name in zip(groups, NAMES, strict=True):
            group["params"] += self.factors[name]
        self.optimizer = (
            torch.optim.AdamW(groups, weight_decay=0.1)
            if optimizer == "adamw"
            else torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)
        )
        self.halves = optimizer == "sgd"

    def train(self, epochs: int) -> dict[str, torch.Tensor]:
        for epoch in range(epochs):
            if epoch and epoch % self.every == 0:
                for m, w in self.factors.values():
                    new = balanced_factors((m * w).detach(), self.balance, m.detach())
                    m.data, w.data = new[0], new[1]
            for inputs, targets in Doubles().train_dataloader():
                weights = {name: m * w * self.mask[name] for name, (m, w) in self.factors.items()}
                others = {name: part for name, part in self.parts.items() if name not in NAMES}
                buffers = dict(self.module.named_buffers())
                hidden = torch.func.functional_call(
                    self.module.encoder, named("encoder.", {**weights, **others, **buffers}), (inputs,)
                )
                output = torch.func.functional_call(self.module.head, named("head.", {**weights, **others}), (hidden,))
                self.optimizer.zero_grad()
                nn.functional.huber_loss(output, targets).backward()
                self.optimizer.step()
            if self.halves:
                for group in self.optimizer.param_groups:
                    group["lr"] *= 0.5
        weights = {name: (m * w * self.mask[name]).detach() for name, (m, w) in self.factors.items()}
        return {**self.module.state_dict(), **weights}


def named(prefix, tensors):
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@pytest.mark.parametrize(("every", "balance", "first"), [(1, 1.0, True), (2, 0.3, False), (99, 1.0, True)])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_trains_as_a_network_with_two_factors_does(trainer, optimizer, every, balance, first) -> None:
    """In whichever order guard and callback are listed."""
    expected = TwoFactors(every, balance, optimizer).train(4)
    sign_in = SignIn(every, balance)
    _, found = fit(trainer, 4, module=made(optimizer=optimizer).double(), sign_in=sign_in, first=first, data=Doubles())
    for name, tensor in expected.items():
        assert torch.allclose(found[name].double(), tensor.double(), rtol=1e-7, atol=1e-7), name
    start = made().state_dict()
    assert any((start[name].sign() * found[name].sign() == -1).any() for name in NAMES), "no sign changed: too tame"


class Watch(Callback):
    """The weights and what the factors make of them, in every forward pass and when a step is over."""

    def __init__(self, sign_in):
        self.sign_in, self.at_start, self.at_end = sign_in, [], []

    def on_before_backward(self, trainer, pl_module, loss):
        self.at_start.append(self.seen(pl_module))

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.at_end.append(self.seen(pl_module))

    def seen(self, module):
        state = self.sign_in.state_dict()
        weights = {name: module.get_parameter(name).detach().clone() for name in NAMES}
        return {name: (weight, state["m"][name].clone(), state["w"][name].clone()) for name, weight in weights.items()}


@pytest.mark.parametrize("kind", [ForeignModule, RestlessModule])
def test_weights_are_products_zero_under_the_mask_and_not_moved_by_a_rescaling(trainer, kind) -> None:
    """Restless writes to weights beside its steps, pruned ones too: their factors follow."""
    sign_in = SignIn()
    watch = Watch(sign_in)
    module = made(kind)
    mask = mask_of(module)
    fit(trainer, 3, [watch], module, sign_in=sign_in)
    assert len(watch.at_start) == len(watch.at_end) == 12
    for step in range(1, 12):
        for name in NAMES:
            (before, *_), (weight, m, w) = watch.at_end[step - 1][name], watch.at_start[step][name]
            assert torch.equal(before, weight), "a rescaling moved the product"
            assert not weight[~mask[name]].any()
            if kind is ForeignModule:
                assert torch.allclose(m * w, weight, rtol=1e-5, atol=1e-7)
            if step % 4 == 0:
                assert torch.allclose(m**2 - w**2, torch.ones(()), atol=1e-4)
    late = watch.at_end[3]
    assert any(not torch.allclose(m**2 - w**2, torch.ones(()), atol=1e-4) for _, m, w in late.values())


class Stop(Callback):
    """Writes a checkpoint after so many steps."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("step", [3, 8, 10])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resume_is_exact(trainer, tmp_path, optimizer, step) -> None:
    """In the middle of an epoch, and at an end of one at which factors are chosen anew; optimiser included."""
    path = tmp_path / "half.ckpt"
    network = Classifier(width=0.25).net
    mask = Mask({name: torch.rand(w.shape) < 0.3 for name, w in network.named_parameters() if w.dim() == 2})
    mask.save(tmp_path / "m.mask.safetensors")

    def run(callbacks=(), ckpt_path=None):
        torch.manual_seed(1)
        module = MaskedClassifier(str(tmp_path / "m.mask.safetensors"), width=0.25, optimizer=optimizer)
        whole = trainer(4, [SignIn(2), *callbacks], enable_checkpointing=True)
        whole.fit(module, Digits(batch_size=25, train_size=100), ckpt_path=ckpt_path)
        assert whole.global_step == 16
        return module.state_dict(), whole.optimizers[0].state_dict()["state"]

    (whole, states), (resumed, others) = run([Stop(step, path)]), run(ckpt_path=str(path))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert all(torch.equal(states[key][name], others[key][name]) for key in states for name in states[key])


def test_checkpoints_hold_plain_weights_under_their_own_names(trainer, tmp_path) -> None:
    run, state = fit(trainer)
    run.save_checkpoint(tmp_path / "last.ckpt")
    content = read_checkpoint(tmp_path / "last.ckpt")
    assert content["state_dict"].keys() == made().state_dict().keys()
    assert all(torch.equal(content["state_dict"][name], tensor) for name, tensor in state.items())
    assert set(content["callbacks"]["rebasin_lt.sign_in"]) == {"every", "balance", "m", "w"}


def test_a_step_that_is_not_taken_leaves_the_weights(trainer) -> None:
    """As one in half precision that overflows: gradients are asked for, and no step follows."""
    sign_in, module = SignIn(), made()
    weight = module.get_parameter(NAMES[0])
    sign_in._weights, sign_in._m = {"a": weight}, {"a": nn.Parameter(torch.ones_like(weight))}
    sign_in._rescale()
    weight.grad, before = torch.ones_like(weight), weight.detach().clone()
    sign_in.on_before_optimizer_step(None, module, None)
    assert not torch.equal(weight, before)
    sign_in.on_train_batch_end(None, module, None, None, 0)
    assert torch.allclose(weight, before, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every is 0, expected a number of epochs, at least 1"),
        ({"balance": 0.0}, "balance is 0.0, expected a positive number"),
        ({"balance": float("nan")}, "balance is nan, expected a positive number"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        SignIn(**settings)


class Rated(ForeignModule):
    """With a rate that a finder can set."""

    def __init__(self):
        super().__init__()
        self.lr = 0.01

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


@pytest.mark.filterwarnings("ignore")  # Lightning's own, of its rate finder
@pytest.mark.parametrize("before", [True, False])
def test_a_rate_finder_may_stand_before_or_after_it(trainer, tmp_path, before) -> None:
    """It writes a checkpoint before there are factors, and reads it again."""
    module, sign_in = made(Rated), SignIn()
    finder = LearningRateFinder(num_training_steps=6, max_lr=0.1)
    both = [finder, sign_in] if before else [sign_in, finder]
    run = trainer(2, [*both, MaskGuard(mask_of(module))], default_root_dir=tmp_path)
    run.fit(module, ForeignData())
    assert run.global_step == 8
    assert all(not torch.equal(m, torch.ones_like(m)) for m in sign_in.state_dict()["m"].values())


class TwoLooks(torch.optim.SGD):
    """As SAM: gradients at two points make one step."""

    def step(self, closure):
        with torch.enable_grad():
            closure()
            loss = closure()
        super().step()
        return loss


class Sharp(ForeignModule):
    def configure_optimizers(self):
        return TwoLooks(self.parameters(), lr=0.05)


class Thaws(Callback):
    """Freezes the head's weight when fit starts, and lets it train from an epoch on."""

    def __init__(self, at: int):
        self.at = at

    def setup(self, trainer, pl_module, stage):
        pl_module.head.weight.requires_grad_(False)
        self.frozen = pl_module.head.weight.detach().clone()

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch < self.at:
            mask = mask_of(pl_module)["head.weight"]
            assert torch.equal(pl_module.head.weight, self.frozen * mask), "frozen weights stay as they are, to the bit"
        else:
            pl_module.head.weight.requires_grad_(True)


def test_weights_that_thaw_train_as_products_too(trainer) -> None:
    """The optimiser has had them from the start: what it does to them is what it does with factors, not plain."""
    sign_in = SignIn()
    _, ours = fit(trainer, epochs=4, callbacks=[Thaws(2)], sign_in=sign_in)
    assert set(sign_in._m) == {*NAMES}
    module = made()
    trainer(4, [MaskGuard(mask_of(module)), Thaws(2)]).fit(module, ForeignData())
    plain = module.state_dict()
    assert not torch.equal(ours["head.weight"], made().state_dict()["head.weight"])
    assert not torch.equal(ours["head.weight"], plain["head.weight"])
    m, w = sign_in._m["head.weight"].detach(), sign_in._w["head.weight"]
    assert torch.equal(m * w, ours["head.weight"])


class Late(ForeignModule):
    """Gives its optimiser the head's weight at the second epoch."""

    def configure_optimizers(self):
        return torch.optim.SGD([p for name, p in self.named_parameters() if name != "head.weight"], lr=0.1)

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.optimizers().optimizer.add_param_group({"params": [self.head.weight]})


def test_weights_that_come_to_the_optimiser_later_are_named(trainer, caplog) -> None:
    fit(trainer, epochs=3, module=made(Late))
    lines = [record.message for record in caplog.records if "train without factors" in record.message]
    assert lines == [
        "head.weight came to the optimiser after training began, and train without factors: give it all "
        "weights at the start, those that are to train later with requires_grad False"
    ]


def test_callbacks_of_fine_tuning_are_refused(trainer) -> None:
    with pytest.raises(InputError, match=r"SignIn does not train beside BackboneFinetuning: freeze weights by"):
        fit(trainer, callbacks=[BackboneFinetuning()], module=made(Backbone))


class Backbone(ForeignModule):
    """With what that callback looks for."""

    @property
    def backbone(self):
        return self.encoder


def test_an_optimiser_that_looks_twice_in_a_step_is_refused(trainer) -> None:
    """Its second forward pass would see w in the place of the product."""
    with pytest.raises(InputError, match="looks at gradients more than once in a step, which SignIn cannot follow"):
        fit(trainer, module=made(Sharp))


class Lazy(ForeignModule):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters())


def test_what_it_cannot_train_is_refused(trainer, tmp_path) -> None:
    with pytest.raises(InputError, match="SignIn trains under one MaskGuard, .* this fit has none"):
        trainer(1, [SignIn()]).fit(made(), ForeignData())
    moving = DynamicSparseTraining(sparsity=0.5, update_every=2)
    with pytest.raises(InputError, match="this fit has DynamicSparseTraining"):
        trainer(1, [SignIn(), moving]).fit(made(), ForeignData())
    with pytest.raises(InputError, match="needs one optimiser of torch that is not LBFGS, the module has LBFGS"):
        fit(trainer, module=made(Lazy))
    run, _ = fit(trainer, 1)
    run.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(InputError, match="was trained by SignIn with every 1, this run has 2"):
        fit(trainer, 2, ckpt_path=str(tmp_path / "one.ckpt"), sign_in=SignIn(2))
    plain = trainer(1, [MaskGuard(mask_of(made()))])
    plain.fit(made(), ForeignData())
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(InputError, match="the checkpoint to resume was trained without SignIn"):
        fit(trainer, 2, ckpt_path=str(tmp_path / "plain.ckpt"))
