"""State dicts made by torch.nn.utils.prune itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.foreign import import_state
from rebasin_lt.pruning.mask import prunable_names


def pruned(amount: float = 0.9) -> tuple[nn.Module, list[str]]:
    """A ResNet20 pruned globally, as the paper's code does, and the names of its pruned weights."""
    network = build_network("resnet20").eval()
    names = prunable_names(network)
    modules = [(network.get_submodule(name.removesuffix(".weight")), "weight") for name in names]
    prune.global_unstructured(modules, pruning_method=prune.L1Unstructured, amount=amount)
    return network, names


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nested", [False, True])
def test_network_computes_what_the_pruned_one_did(tmp_path, prefix, nested) -> None:
    network, names = pruned()
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / "pruned.pt")
    loaded = load_network(tmp_path / "pruned.pt", "resnet20")
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(loaded.network(images), network(images))
    assert list(loaded.mask) == names
    assert loaded.mask.sparsity == pytest.approx(0.9, abs=1e-5)
    weights = dict(loaded.network.named_parameters())
    assert all(not weights[name][~loaded.mask[name]].any() for name in names)
    assert loaded.mask == loaded.mask.unsigned.signed_by(weights)


def test_dense_state_dicts_come_as_they_are(tmp_path) -> None:
    state = build_network("resnet20").state_dict()
    same, mask = import_state(state, state.keys())
    assert mask is None
    assert same.keys() == state.keys()
    assert all(same[name] is state[name] for name in state)


def test_fit_starts_from_one(tmp_path) -> None:
    network, names = pruned()
    torch.save(network.state_dict(), tmp_path / "pruned.pt")
    module = Classifier(arch="resnet20", init_from=str(tmp_path / "pruned.pt"))
    kept = sum(int(weight.count_nonzero()) for name, weight in module.net.named_parameters() if name in names)
    assert kept == sum(int(mask.sum()) for name, mask in network.state_dict().items() if name.endswith("_mask"))


def test_names_of_the_network_itself_are_left_alone() -> None:
    state = {"module.a_orig": torch.ones(2), "module.b_mask": torch.ones(2)}
    assert import_state(state, state.keys()) == (state, None)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"w_orig": torch.ones(2)}, "w_orig has no w_mask beside it"),
        ({"w_orig": torch.ones(2), "w_mask": torch.ones(3)}, r"w_mask has shape \(3,\), but w_orig has \(2,\)"),
        ({"w_orig": torch.ones(2), "w_mask": torch.tensor([1, 0.5])}, "w_mask holds other values than 0 and 1"),
        ({"w_orig": torch.ones(1), "w_mask": torch.tensor([float("nan")])}, "w_mask holds other values than 0 and 1"),
    ],
)
def test_broken_pairs_are_refused(state, message) -> None:
    with pytest.raises(BrokenFileError, match=message):
        import_state(state, ["w"])


def test_the_input_is_not_changed() -> None:
    network, _ = pruned()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    import_state(network.state_dict(), build_network("resnet20").state_dict().keys())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
