"""State dicts that leave something out, or hold what is no tensor."""

import pytest
import torch
from foreign import ForeignData, ForeignModule
from torch import nn

import rebasin_lt as rb
from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.init_from import InitFrom
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import read_checkpoint


class Frozen(ForeignModule):
    """Keeps its frozen front out of its checkpoints."""

    def __init__(self):
        super().__init__()
        self.strict_loading = False
        self.front = nn.Linear(6, 6).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        return super().training_step((self.front(batch[0]), batch[1]), batch_idx)

    def state_dict(self, *args, **kwargs):
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "front" not in name}


class Extra(ForeignModule):
    """Has a state that is no tensor."""

    def __init__(self, tag="made"):
        super().__init__()
        self.tag = tag

    def get_extra_state(self):
        return {"tag": self.tag, "table": torch.ones(2)}

    def set_extra_state(self, state):
        self.tag = state["tag"]


@pytest.mark.parametrize("make", [Frozen, Extra])
def test_rewinding_takes_back_what_the_checkpoint_holds_and_leaves_the_rest_alone(trainer, make):
    module = make()
    front = {name: tensor.clone() for name, tensor in module.named_parameters() if "front" in name}
    imp = IterativeMagnitudePruning([0.3], 1, 0.3, "rewind_weights", "2it", dense_epochs=1)
    rewind = RewindCheckpoint(["2it"])
    trainer(-1, [rewind, imp]).fit(module, ForeignData())
    assert all(torch.equal(module.get_parameter(name), tensor) for name, tensor in front.items())
    assert list(imp.mask) == ["encoder.0.weight", "head.weight"]
    ticket = read_checkpoint(imp.ticket_path(0.3))["state_dict"]
    assert ticket.keys() == module.state_dict().keys()


def test_extra_state_is_carried_from_a_rewind_checkpoint_into_a_run(trainer, tmp_path):
    trainer(1, [RewindCheckpoint(["0it"])]).fit(Extra("first"), ForeignData())
    module = Extra("second")
    trainer(1, [InitFrom(str(tmp_path / "rewind" / "0it.ckpt"))]).fit(module, ForeignData())
    assert module.tag == "first"
    torch.save(ForeignModule().state_dict(), tmp_path / "plain.pt")
    with pytest.raises(InputError, match="lacks _extra_state, which the network has"):
        trainer(1, [InitFrom(str(tmp_path / "plain.pt"))]).fit(Extra(), ForeignData())


def test_a_module_starts_from_its_own_partial_checkpoint_and_from_a_full_one(trainer, tmp_path):
    trainer(1, [RewindCheckpoint(["0it"])]).fit(Frozen(), ForeignData())
    module = Frozen()
    front = module.front.weight.clone()
    trainer(1, [InitFrom(str(tmp_path / "rewind" / "0it.ckpt"))]).fit(module, ForeignData())
    assert torch.equal(module.front.weight, front)
    full = {**dict(Frozen().named_parameters()), **dict(Frozen().named_buffers())}
    torch.save({name: tensor.detach() for name, tensor in full.items()}, tmp_path / "full.pt")
    trainer(1, [InitFrom(str(tmp_path / "full.pt"))]).fit(module, ForeignData())
    assert torch.equal(module.front.weight, full["front.weight"])
    torch.save({**ForeignModule().state_dict(), "other": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"has other, which the network lacks"):
        trainer(1, [InitFrom(str(tmp_path / "other.pt"))]).fit(module, ForeignData())


def test_a_weight_that_is_no_tensor_is_refused_and_what_is_no_weight_is_left_aside(trainer, tmp_path):
    state = ForeignModule().state_dict()
    torch.save({**state, "tag": {"a": 1}}, tmp_path / "more.pt")
    trainer(1, [InitFrom(str(tmp_path / "more.pt"))]).fit(ForeignModule(), ForeignData())
    name = next(iter(state))
    torch.save({**state, name: {"a": 1}}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=f"lacks {name}, which the network has"):
        trainer(1, [InitFrom(str(tmp_path / "bad.pt"))]).fit(ForeignModule(), ForeignData())


class Tagged(nn.Sequential):
    def get_extra_state(self):
        return {"tag": 1}

    def set_extra_state(self, state):
        self.tag = state["tag"]


def test_networks_with_extra_state_are_permuted_and_matched():
    torch.manual_seed(0)
    network = Tagged(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    symmetry = rb.trace_symmetry(network, torch.randn(2, 6))
    planted = symmetry.random(torch.Generator().manual_seed(1))
    twin = symmetry.permute(network.state_dict(), planted)
    assert twin["_extra_state"] == {"tag": 1}
    reference = Tagged(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    reference.load_state_dict(twin)
    batches = [torch.randn(64, 6)]
    assert rb.match_activations(network, reference, batches, symmetry).permutation == planted
    assert rb.match_weights(network.state_dict(), twin, symmetry).permutation == planted
