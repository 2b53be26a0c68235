"""Sign-In of weights that do not train from the beginning."""

from __future__ import annotations

import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback
from lightning.pytorch.callbacks import BackboneFinetuning

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.sign_in import SignIn
from rebasin_lt.pruning.mask import Mask

NAMES = ["encoder.0.weight", "head.weight"]


def mask_of(module) -> Mask:
    generator = torch.Generator().manual_seed(5)
    return Mask({name: torch.rand(module.get_parameter(name).shape, generator=generator) < 0.5 for name in NAMES})


def made(kind=ForeignModule):
    torch.manual_seed(1)
    return kind()


def fit(trainer, epochs=3, callbacks=(), module=None, sign_in=None):
    module = made() if module is None else module
    trainer(epochs, [sign_in or SignIn(), MaskGuard(mask_of(module)), *callbacks]).fit(module, ForeignData())
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


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
    ours = fit(trainer, epochs=4, callbacks=[Thaws(2)], sign_in=sign_in)
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
