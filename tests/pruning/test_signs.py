"""Signed masks: what they are, that signs travel with their weights, and what their files hold."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.mix import mix_with_magnitude
from rebasin_lt.pruning.shuffles import permute_randomly, shuffle_degrees, shuffle_layerwise
from rebasin_lt.pruning.signs import set_signs_, sign_agreement
from rebasin_lt.symmetry.trace import trace_symmetry

NETWORKS = {
    "mlp": (("mlp", 0.25, 10, None), (1, 8, 8)),
    "resnet": (("resnet20", 0.25, 10, (1, 8, 8)), (1, 8, 8)),
    "conv": (("conv2", 0.125, 10, (1, 8, 8)), (1, 8, 8)),
}


def network(name):
    (arch, width, classes, shape), images = NETWORKS[name]
    return build_network(arch, width=width, num_classes=classes, input_shape=shape).eval(), torch.zeros(2, *images)


def pruned(net, sparsity=0.8):
    return prune_to_sparsity(net.state_dict(), Mask.ones_of(net), sparsity)


def differs(first, second):
    return any(not torch.equal(tensor, second.content[name]) for name, tensor in first.content.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_signs_move_with_their_weights(name):
    """π(mask signed by w) is π(mask) signed by π(w), whatever the permutation."""
    net, images = network(name)
    symmetry = trace_symmetry(net, images)
    permutation = symmetry.random()
    mask, state = pruned(net), net.state_dict()
    moved = symmetry.permute(state, permutation)
    assert mask.signed_by(state).permuted(symmetry, permutation) == mask.permuted(symmetry, permutation).signed_by(
        moved
    )
    assert mask.signed_by(state).permuted(symmetry, permutation).unsigned == mask.permuted(symmetry, permutation)
    assert differs(mask.signed_by(state), mask.signed_by(state).permuted(symmetry, permutation))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_own_signs_change_no_bit(name):
    net, _ = network(name)
    mask = pruned(net)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    found = set_signs_(dict(net.named_parameters()), mask.signed_by(net.state_dict()))
    assert found == (mask.num_kept, 0, 0)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


def test_set_signs_is_w_times_sign_on_what_is_kept():
    weights = {"a": torch.randn(30, 20), "b": torch.randn(7, 5, 3, 3)}
    other = {name: torch.randn(tensor.shape) for name, tensor in weights.items()}
    weights["a"][0] = 0
    mask = Mask({name: torch.rand(tensor.shape) < 0.5 for name, tensor in weights.items()})
    expected = {n: torch.where(mask[n], w.abs() * other[n].sign(), w) for n, w in weights.items()}
    turned = sum(int((expected[n] != w).sum()) for n, w in weights.items())
    found = set_signs_(weights, mask.signed_by(other))
    assert found == (mask.num_kept, turned, int(mask["a"][0].sum()))
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights.items())
    assert sign_agreement(mask.signed_by(other), weights) == pytest.approx(1 - found.zero / found.kept)
    assert set_signs_(weights, mask.signed_by(other)).turned == 0  # twice is as good as once


def test_agreement_is_a_half_by_chance_and_nothing_for_opposites():
    state = {"a": torch.randn(200, 200)}
    mask = Mask({"a": torch.rand(200, 200) < 0.5}).signed_by(state)
    assert sign_agreement(mask, state) == 1
    assert sign_agreement(mask, {"a": -state["a"]}) == 0
    assert abs(sign_agreement(mask, {"a": torch.randn(200, 200)}) - 0.5) < 0.02


def test_a_weight_of_zero_that_is_kept_stays_kept():
    signed = Mask({"a": torch.ones(3, dtype=torch.bool)}).signed_by({"a": torch.tensor([0.0, -0.0, -1.0])})
    assert signed.content["a"].tolist() == [1, 1, -1]
    assert signed.num_kept == 3


def test_files_of_signed_masks_are_no_larger_and_come_back(tmp_path):
    net, _ = network("mlp")
    mask = pruned(net)
    signed = mask.signed_by(net.state_dict())
    mask.save(tmp_path / "bool.mask.safetensors")
    signed.save(tmp_path / "signed.mask.safetensors", stage="imp")
    loaded, about = Mask.load_with_metadata(tmp_path / "signed.mask.safetensors")
    assert loaded == signed != mask
    assert mask != signed
    assert loaded.unsigned == mask == Mask.load(tmp_path / "bool.mask.safetensors")
    assert loaded.unsigned.hash == mask.hash != loaded.hash == about["sha256"]
    assert about["version"] == "2"
    sizes = [(tmp_path / f"{name}.mask.safetensors").stat().st_size for name in ("bool", "signed")]
    assert abs(sizes[1] - sizes[0]) < 100
    assert {tensor.dtype for tensor in load_file(tmp_path / "bool.mask.safetensors").values()} == {torch.bool}
    assert "signed" in repr(signed)
    assert "signed" not in repr(mask)


def test_controls_carry_signs_where_they_keep_places_of_the_mask():
    net, images = network("mlp")
    state, symmetry = net.state_dict(), trace_symmetry(net, images)
    signed = pruned(net).signed_by(state)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    (first,), (second,) = (
        permute_randomly([mask], symmetry, g) for mask, g in zip((signed, signed.unsigned), generators, strict=True)
    )
    assert first.unsigned == second
    assert first.is_signed
    shuffled = shuffle_layerwise(signed)
    assert all(int(shuffled.content[name].sum()) == int(tensor.sum()) for name, tensor in signed.content.items())
    assert not shuffle_degrees(signed).is_signed
    for share in (0.0, 0.5, 1.0):
        mixed = mix_with_magnitude(signed, state, share)
        assert mixed == mix_with_magnitude(signed.unsigned, state, share).signed_by(state)
    turned = Mask({name: -tensor for name, tensor in signed.content.items()})
    mixed = mix_with_magnitude(turned, {name: -w.roll(1) for name, w in state.items()}, 0.5)
    same = torch.cat([(mixed.content[n] == turned.content[n])[mixed[n] & turned[n]] for n in mixed])
    assert same.all()


def test_what_is_no_sign_is_refused():
    eights = torch.full((2, 2), 8, dtype=torch.int8)
    with pytest.raises(InputError, match=r"mask for a holds 8 to 8, expected signs: -1, 0 or 1"):
        Mask({"a": eights})
    with pytest.raises(InputError, match="the mask has signs for some tensors only, expected them for all or for none"):
        Mask({"a": eights.sign(), "b": eights.bool()})
    mask = Mask({"weight": torch.ones(2, 2, dtype=torch.bool)})
    for use in (set_signs_, lambda state, mask: sign_agreement(mask, state)):
        with pytest.raises(InputError, match=r"the mask has no signs: expected one that IMP of this release left"):
            use(nn.Linear(2, 2).state_dict(), mask)
        with pytest.raises(InputError, match=r"mask for weight has shape \(2, 2\), the network has \(3, 3\)"):
            use(nn.Linear(3, 3).state_dict(), mask.signed_by(nn.Linear(2, 2).state_dict()))
