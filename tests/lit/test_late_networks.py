"""Callbacks look at a module's parameters when fit starts, wherever these were made."""

import pytest
import torch
from foreign import ForeignData, ForeignModule
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.dynamic_sparse_training import DynamicSparseTraining
from rebasin_lt.lit.callbacks.init_from import InitFrom
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.pruning.mask import Mask

NAMES = ["encoder.0.weight", "head.weight"]


class Late(ForeignModule):
    def __init__(self):
        super().__init__()
        self.made, self.encoder, self.head = (self.encoder, self.head), None, None

    def __setattr__(self, name, value):
        if name == "made":  # kept from nn.Module, which would list it
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def make(self):
        if self.encoder is None:
            self.encoder, self.head = self.made


class InSetup(Late):
    def setup(self, stage):
        self.make()


class InConfigureModel(Late):
    def configure_model(self):
        self.make()


class Lazy(ForeignModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.LazyLinear(12), nn.BatchNorm1d(12), nn.ReLU())
        self.head = nn.LazyLinear(1)

    def setup(self, stage):
        self.head(self.encoder(torch.randn(4, 6)))


MODULES = [ForeignModule, InSetup, InConfigureModel, Lazy]


def random_mask():
    generator = torch.Generator().manual_seed(0)
    shapes = zip(NAMES, ((12, 6), (1, 12)), strict=True)
    return Mask({name: torch.rand(shape, generator=generator) > 0.5 for name, shape in shapes})


GUARDS = {
    "imp": lambda: IterativeMagnitudePruning([0.5], 1, 0.5, dirpath="unused"),
    "guard": lambda: MaskGuard(random_mask()),
    "dst": lambda: DynamicSparseTraining(sparsity=0.5, update_every=2),
    "dst of a mask": lambda: DynamicSparseTraining(random_mask(), update_every=2),
}


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("guard", GUARDS)
def test_networks_made_late_train_under_a_mask_and_resume(trainer, tmp_path, monkeypatch, make, guard):
    monkeypatch.chdir(tmp_path)
    module, callback = make(), GUARDS[guard]()
    run = trainer(-1 if guard == "imp" else 1, [callback])
    run.fit(module, ForeignData())
    assert list(callback.mask) == NAMES
    assert all(not module.get_parameter(name)[~kept].any() for name, kept in callback.mask.items())
    run.save_checkpoint(tmp_path / "end.ckpt")
    again, resumed = make(), GUARDS[guard]()
    trainer(-1 if guard == "imp" else 2, [resumed]).fit(again, ForeignData(), ckpt_path=tmp_path / "end.ckpt")
    assert list(resumed.mask) == NAMES
    assert all(not again.get_parameter(name)[~kept].any() for name, kept in resumed.mask.items())


class Begin(MaskGuard):
    """The weights that training begins with."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.__dict__.setdefault("begin", {n: t.clone() for n, t in pl_module.state_dict().items()})


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("first", [True, False])
def test_networks_made_late_start_from_a_checkpoint_and_resumed_ones_do_not(trainer, tmp_path, make, first):
    weights, mask = ForeignModule().state_dict(), random_mask()
    torch.save(weights, tmp_path / "from.pt")
    callbacks = [InitFrom(str(tmp_path / "from.pt")), Begin(mask)]
    run = trainer(1, callbacks if first else callbacks[::-1])
    run.fit(make(), ForeignData())
    expected = {name: tensor * mask[name] if name in mask else tensor for name, tensor in weights.items()}
    assert all(torch.equal(callbacks[1].begin[name], tensor) for name, tensor in expected.items())
    run.save_checkpoint(tmp_path / "end.ckpt")
    end = {name: tensor.clone() for name, tensor in run.lightning_module.state_dict().items()}
    later = [InitFrom(str(tmp_path / "from.pt")), Begin(mask)]
    trainer(2, later).fit(make(), ForeignData(), ckpt_path=tmp_path / "end.ckpt")
    assert all(torch.equal(later[1].begin[name], tensor) for name, tensor in end.items())


def test_a_mask_of_other_names_is_refused_before_training(trainer):
    with pytest.raises(InputError, match="mask names encoder.0.weight, which the network does not have"):
        trainer(1, [MaskGuard(random_mask())]).fit(Renamed(), ForeignData())


class Renamed(ForeignModule):
    def __init__(self):
        super().__init__()
        self.body, self.encoder = self.encoder, nn.Identity()

    def forward(self, inputs):
        return self.head(self.body(inputs))

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "guard",
    [
        lambda: IterativeMagnitudePruning([0.5], 1, 0.5, exclude=("head*",)),
        lambda: DynamicSparseTraining(sparsity=0.5, exclude=("head*",)),
    ],
)
def test_what_stays_dense_is_said_in_one_line(trainer, caplog, guard):
    trainer(-1 if isinstance(guard(), IterativeMagnitudePruning) else 1, [guard()]).fit(ForeignModule(), ForeignData())
    assert [record.message for record in caplog.records if "dense" in record.message] == [
        "14.29% of the elements of all matrices stay dense (excluded: head.weight 14.29%)"
    ]


def test_layers_without_a_weight_left_are_said(trainer, caplog):
    mask = {name: tensor.clone() for name, tensor in random_mask().items()}
    mask["head.weight"][:] = False
    trainer(1, [MaskGuard(Mask(mask))]).fit(ForeignModule(), ForeignData())
    assert "the mask keeps no weight of head.weight: no signal passes there" in caplog.text
