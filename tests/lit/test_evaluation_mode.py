import pytest
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data import Digits


class KeepsFrozen(nn.Sequential):
    """Keeps its first batch norm frozen, as detection backbones do, but does not insist on it."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10), nn.BatchNorm1d(10))
        self[2].eval()


@pytest.mark.parametrize("training", [True, False])
def test_checking_what_a_network_takes_leaves_every_module_in_its_mode(training):
    module = Classifier(width=0.25)
    module.net = KeepsFrozen()
    if not training:
        module.net.eval()
    before = [part.training for part in module.net.modules()]
    module.check_takes(Digits())
    assert [part.training for part in module.net.modules()] == before
    module.net[1] = nn.Linear(63, 8).train(training)
    with pytest.raises(InputError, match="network mlp does not take the data's images"):
        module.check_takes(Digits())
    assert [part.training for part in module.net.modules()] == before


@pytest.mark.filterwarnings("ignore:Found 1 module.* in eval mode at the start of training")
def test_a_frozen_batch_norm_stays_frozen_through_a_fit(trainer):
    module = Classifier(width=0.25, learning_rate=0.01)
    module.net = KeepsFrozen()
    trainer(1, limit_val_batches=1).fit(module, Digits(batch_size=500))
    assert not module.net[2].running_mean.any()
    assert module.net[4].running_mean.any()
