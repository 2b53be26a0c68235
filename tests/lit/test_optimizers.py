import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning

from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning


class OneGroup(ForeignModule):
    """One optimiser over what is trainable, as Lightning's finetuning callbacks ask for."""

    def configure_optimizers(self):
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=0.05, momentum=0.9)


class PerLayer(ForeignModule):
    """A group for each layer that is trainable, and a schedule over all of them."""

    def configure_optimizers(self):
        groups = [
            {"params": [p for p in layer.parameters() if p.requires_grad], "lr": rate}
            for layer, rate in ((self.encoder, 0.3), (self.head, 0.05))
        ]
        return torch.optim.SGD([group for group in groups if group["params"]], lr=0.05, momentum=0.9)


class Unfreeze(BaseFinetuning):
    """The encoder joins in epoch 1, at a rate of its own."""

    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.encoder, train_bn=False)

    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.encoder, optimizer, lr=0.007, train_bn=False)


class Decoy(Callback):
    """Adds a group of a parameter that no optimiser has, with options of its own."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.parameter = torch.nn.Parameter(torch.ones(2, 2))
            trainer.optimizers[0].add_param_group({"params": [self.parameter], "lr": 0.001, "weight_decay": 0.5})


class Groups(Callback):
    """Which parameters each group has, and its rates, at the end of every epoch and at the first batch of the next."""

    def __init__(self):
        self.begin, self.end = [], []

    def look(self, trainer):
        return [
            (sorted(map(id, group["params"])), group["lr"], group["weight_decay"], group["momentum"])
            for group in trainer.optimizers[0].param_groups
        ]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.begin.append(self.look(trainer))

    def on_train_epoch_end(self, trainer, pl_module):
        self.end.append(self.look(trainer))


@pytest.mark.parametrize("make", [OneGroup, PerLayer])
@pytest.mark.parametrize("extend", [Unfreeze, Decoy])
@pytest.mark.parametrize("first", [True, False])
def test_a_round_goes_on_with_the_groups_and_rates_of_callbacks(trainer, make, extend, first):
    """Rounds begin in epochs 0, 2 and 4; the group is added in epoch 1."""
    groups, callbacks = Groups(), [extend(), IterativeMagnitudePruning([0.2, 0.36, 0.488], 2)]
    trainer(-1, [*(callbacks if first else callbacks[::-1]), groups]).fit(make(), ForeignData())
    assert len(groups.end[1]) == len(groups.end[0]) + 1
    assert groups.begin[2] == groups.end[1]
    assert groups.begin[4] == groups.end[3]


def test_a_rate_that_a_callback_drives_is_driven_on_the_same_parameters(trainer):
    module = OneGroup()
    module.backbone = module.encoder
    finetuning = BackboneFinetuning(1, backbone_initial_lr=0.001, train_bn=False, verbose=False)
    groups = Groups()
    trainer(-1, [finetuning, IterativeMagnitudePruning([0.2, 0.36, 0.488], 2), groups]).fit(module, ForeignData())
    assert all(epoch[0] == groups.begin[0][0] for epoch in groups.begin)
    rates = [epoch[1][1] for epoch in groups.begin[1:]]
    assert rates == pytest.approx([0.001 * 2**k for k in range(len(rates))])
