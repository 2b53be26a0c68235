"""Checkpoints of other code: the network is found in whatever entry and behind whatever prefix, if in one alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import rebasin_lt as rb
from rebasin_lt.lit.checkpoint_layout import state_in

State = dict[str, Tensor]
CONTAINERS: dict[str, Callable[[State], dict[str, Any]]] = {
    "alone": lambda state: dict(state),
    **{
        key: lambda state, key=key: {key: state}
        for key in ("state_dict", "model", "net", "network", "ema", "model_state_dict", "params_ema", "any thing")
    },
    "deep": lambda state: {"trainer": {"model": {"weights": state}}},
    "beside others": lambda state: {"generator": state, "discriminator": {"0.weight": torch.zeros(3, 3)}},
}
PREFIXES = ["", "module.", "model.", "net.", "_orig_mod.", "model._orig_mod.", "module.model.", "a.b.c.d."]
EXTRAS: dict[str, dict[str, Any]] = {
    "none": {},
    "training": {"epoch": 3, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}},
    "plain": {"args": {"lr": 0.1, "betas": (0.9, 0.99)}, "arch": "mlp", "acc": 91.2, "history": [1, 2], "scaler": None},
}


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return rb.build_network("mlp").state_dict()


def load(content: Any, folder: Path, arch: str = "mlp", **settings: Any) -> State:
    torch.save(content, folder / "theirs.pt")
    return rb.load_network(folder / "theirs.pt", arch, **settings).network.state_dict()


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_prefix_and_extra_entry(container, prefix, extra, state, tmp_path) -> None:
    content = CONTAINERS[container]({prefix + name: tensor for name, tensor in state.items()})
    assert same(load({**content, **EXTRAS[extra]}, tmp_path), state)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_pruned_network_is_found_like_a_dense_one(container, tmp_path) -> None:
    network = rb.build_network("mlp")
    layers = [(layer, "weight") for layer in network.modules() if isinstance(layer, nn.Linear)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.5)
    torch.save(CONTAINERS[container]({f"net.{k}": v for k, v in network.state_dict().items()}), tmp_path / "p.pt")
    found = rb.load_network(tmp_path / "p.pt", "mlp")
    assert found.mask is not None
    assert found.mask.sparsity == pytest.approx(0.5, abs=1e-3)
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(found.network(images), network(images))


def test_the_usual_layouts(state, tmp_path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    assert same(load({"state_dict": wrapped, "best_acc1": torch.tensor(3.0), "optimizer": {}}, tmp_path), state)
    assert same(load({"n_averaged": torch.tensor(5), **wrapped}, tmp_path), state)
    assert same(load({"state_dict": state, "state_dict_ema": state, "arch": "mlp", "metric": 1.0}, tmp_path), state)
    half = load({name: tensor.bfloat16() for name, tensor in state.items()}, tmp_path)
    assert all(torch.equal(half[name], tensor.bfloat16().to(tensor.dtype)) for name, tensor in state.items())


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_checkpoint_wrapped_module", "_orig_mod._fsdp_wrapped_module"])
@pytest.mark.parametrize("prefix", ["", "model.", "_orig_mod.", "model._orig_mod."])
def test_wrappers_of_modules_inside_are_left_out(wrapper, prefix, tmp_path) -> None:
    """Blocks that were compiled or wrapped one by one, whole and pruned."""
    network = rb.build_network("resnet20", width=0.25)
    state = network.state_dict()
    inside = {f"{prefix}{name.replace('layer1.', f'layer1.{wrapper}.')}": value for name, value in state.items()}
    assert same(load({"state_dict": inside}, tmp_path, "resnet20", width=0.25), state)
    pruned = next(name for name in inside if "layer1" in name and name.endswith("weight"))
    weight = inside.pop(pruned)
    halves = {**inside, f"{pruned}_orig": weight, f"{pruned}_mask": torch.ones_like(weight)}
    assert same(load(halves, tmp_path, "resnet20", width=0.25), state)


def test_a_part_that_the_network_knows_and_names_that_would_meet_stay(tmp_path) -> None:
    own = {"body._inner.weight": torch.ones(2), "body._other.weight": torch.zeros(2)}
    assert same(state_in({"state_dict": own}, own.keys(), "a.pt").state, own)
    with pytest.raises(rb.InputError, match="holds this network 2 times"):
        state_in({"state_dict": own}, ["weight"], "a.pt")


def test_a_file_from_before_batch_norm_counted_its_batches(state, tmp_path) -> None:
    """PyTorch before 0.4.1, whose files lie in many a repository: the count alters nothing unless momentum is None."""
    whole = rb.build_network("resnet20", width=0.25).state_dict()
    for prefix in ("", "module."):
        old = {f"{prefix}{name}": value for name, value in whole.items() if not name.endswith("num_batches_tracked")}
        assert same(load({"state_dict": old}, tmp_path, "resnet20", width=0.25), whole)
    with pytest.raises(rb.InputError, match=r"lacks bn1.num_batches_tracked, which"):
        load({n: v for n, v in whole.items() if n != "bn1.num_batches_tracked"}, tmp_path, "resnet20", width=0.25)


def test_a_state_dict_comes_before_averages(state, tmp_path) -> None:
    other = {name: tensor + 1 for name, tensor in state.items()}
    assert same(load({"state_dict": state, "state_dict_ema": other}, tmp_path), state)
    assert same(load({"ema": other, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path), state)


def test_two_that_differ_are_refused_by_name_and_two_alike_are_one(state, tmp_path) -> None:
    other = {name: tensor + 1 for name, tensor in state.items()}
    assert same(load({"model": state, "model_ema": state}, tmp_path), state)
    with pytest.raises(rb.InputError, match="holds this network 2 times, .* under 'model', 'model_ema'"):
        load({"model": state, "model_ema": other}, tmp_path)
    both = {**{f"online.{k}": v for k, v in state.items()}, **{f"target.{k}": v for k, v in other.items()}}
    with pytest.raises(rb.InputError, match=r"2 times, with other weights under 'online\.', 'target\.': save the one"):
        load(both, tmp_path)


def test_what_nearly_fits_says_where_and_what_it_lacks(state, tmp_path) -> None:
    missing = list(state)[-1]
    short = {f"module.{name}": tensor for name, tensor in state.items() if name != missing}
    with pytest.raises(rb.InputError, match=rf"theirs.pt \(under 'model' 'module\.'\) lacks {missing}, which"):
        load({"model": short}, tmp_path)
    with pytest.raises(rb.InputError, match=r"\(under 'net\.'\) has .* of shape .* is it of another width\?"):
        load({f"net.{name}": torch.cat([tensor, tensor]) for name, tensor in state.items()}, tmp_path)


def test_what_fits_nowhere_says_what_it_has(tmp_path) -> None:
    with pytest.raises(rb.InputError, match=r"lacks .*, which the network has, in every .*; it has 'stem.conv.weight'"):
        load({"model": {"stem.conv.weight": torch.zeros(3)}, "epoch": 3}, tmp_path)
    with pytest.raises(rb.InputError, match="it has no tensor by a name: is it"):
        load({}, tmp_path)


def test_objects_beside_the_weights_are_named_and_not_unpickled(state, tmp_path) -> None:
    for value, kind in ((argparse.Namespace(lr=0.1), "argparse.Namespace"), (np.float64(91.2), "multiarray.scalar")):
        with pytest.raises(rb.BrokenFileError, match=rf"never loaded \([\w.]*{kind}\): save tensors only, as by"):
            load({"model": state, "extra": value}, tmp_path)


def test_a_mask_beside_a_module_of_somebody_elses_goes_with_its_weights(state) -> None:
    """`save_network` of such a module writes its own names, which masks have too."""
    content = {
        "state_dict": {f"body.{name}": tensor for name, tensor in state.items()},
        "rebasin_lt": {"format_version": 1},
        "rebasin_lt_mask": {f"body.{name}": tensor > 0 for name, tensor in state.items() if tensor.dim() > 1},
    }
    found = state_in(content, state.keys(), "a.ckpt")
    assert same(found.state, state)
    assert found.mask is not None
    found.mask.check_fits(state)
