"""Our LightningModules are taken wherever a network is, and count as the network in them: names are those of masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, NamedTuple

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import rebasin_lt as rb
from rebasin_lt.batches import network_of, state_of
from rebasin_lt.connectivity.closed_form import closed_form_line
from rebasin_lt.connectivity.corrections import CORRECTIONS, applicable
from rebasin_lt.connectivity.evaluation import evaluate
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.connectivity.repair import output_moments
from rebasin_lt.connectivity.temperature import inverse_temperatures
from rebasin_lt.matching.signs import match_signs
from rebasin_lt.pruning.criteria import CRITERIA, prune_by
from rebasin_lt.pruning.dead_units import find_dead_units
from rebasin_lt.pruning.magnitude import one_shot_like, prune_to_sparsity
from rebasin_lt.pruning.memory import init_memory
from rebasin_lt.pruning.mix import mix_with_magnitude
from rebasin_lt.pruning.prunable import prunable_names
from rebasin_lt.pruning.saliency import grasp, snip, taylor_scores
from rebasin_lt.pruning.signs import sign_agreement
from rebasin_lt.pruning.synflow import synflow
from rebasin_lt.pruning.weight_norm import check_directions, directions


class Given(NamedTuple):
    """What the functions below are given."""

    a: nn.Module
    b: nn.Module
    c: nn.Module
    mask: rb.Mask
    batches: list[tuple[Tensor, Tensor]]
    symmetry: rb.Symmetry
    permutation: rb.Permutation


CALLS: dict[str, Callable[[Given], Any]] = {
    "trace_symmetry": lambda g: dict(rb.trace_symmetry(g.a, g.batches[0][0]).groups),
    "verify": lambda g: g.symmetry.verify(g.a, g.batches[0][0]),
    "permute": lambda g: g.symmetry.permute(g.a, g.permutation),
    "match_activations": lambda g: rb.match_activations(g.a, g.b, g.batches, g.symmetry, masks={"a": g.mask}),
    "match_weights": lambda g: rb.match_weights(g.a, g.b, g.symmetry, masks={"a": g.mask}),
    "match_signs": lambda g: match_signs(g.a, g.b, g.symmetry, masks={"a": g.mask}),
    "loss_barrier": lambda g: rb.loss_barrier(g.a, g.a, g.b, g.batches, alphas=3),
    **{
        f"loss_barrier {name}": lambda g, name=name: rb.loss_barrier(
            g.a, g.a, g.b, g.batches, alphas=3, correction=name, correction_batches=g.batches
        )
        for name in CORRECTIONS
    },
    "applicable": lambda g: applicable(g.a),
    "interpolate": lambda g: interpolate(g.a, g.b, 0.3),
    "evaluate": lambda g: evaluate([g.a.eval(), g.b.eval()], g.batches),
    "inverse_temperatures": lambda g: inverse_temperatures([g.a.eval()], g.batches),
    "reset_batchnorm": lambda g: rb.reset_batchnorm(g.a, g.batches),
    "reset_batchnorm of a state": lambda g: rb.reset_batchnorm(g.a, g.batches, g.b),
    "repair": lambda g: rb.repair(g.a, (g.a, g.b), 0.5, g.batches),
    "closed_form_line": lambda g: closed_form_line(g.a, (state_of(g.a), state_of(g.b)), g.batches)([0.5]),
    "output_moments": lambda g: list(output_moments([g.a.eval()], g.batches)[0]),
    "plane_losses": lambda g: plane_losses(g.a, Plane(g.a, g.a, g.b, g.c), [(0.0, 0.0), (1.0, 1.0)], g.batches),
    "ones_of": lambda g: rb.Mask.ones_of(g.a),
    "ones_like": lambda g: rb.Mask.ones_like(g.a),
    "signed_by": lambda g: g.mask.signed_by(g.a),
    "applied_to": lambda g: g.mask.applied_to(g.a),
    "check_fits": lambda g: g.mask.check_fits(g.a),
    "prunable_names": lambda g: prunable_names(g.a),
    "magnitude_prune": lambda g: rb.magnitude_prune(g.a, rb.Mask.ones_of(g.a), 0.5),
    "prune_to_sparsity": lambda g: prune_to_sparsity(g.a, rb.Mask.ones_of(g.a), 0.5),
    "one_shot_like": lambda g: one_shot_like(g.a, g.mask),
    **{
        f"prune_by {name}": lambda g, name=name: prune_by(name, g.a, g.batches, rb.Mask.ones_of(g.a), 0.5)
        for name in CRITERIA
    },
    "snip": lambda g: snip(g.a, rb.Mask.ones_of(g.a), g.batches, 0.5),
    "grasp": lambda g: grasp(g.a, rb.Mask.ones_of(g.a), g.batches, 0.5),
    "synflow": lambda g: synflow(g.a, rb.Mask.ones_of(g.a), (1, 8, 8), 0.5, rounds=3),
    "taylor_scores": lambda g: taylor_scores(g.a, g.batches),
    "init_memory": lambda g: init_memory(g.mask, g.a),
    "mix_with_magnitude": lambda g: mix_with_magnitude(g.mask, g.b, 0.5),
    "sign_agreement": lambda g: sign_agreement(g.mask.signed_by(g.a), g.b),
    "find_dead_units": lambda g: find_dead_units(g.a, g.symmetry, g.mask).dead,
    "directions": lambda g: directions(g.a),
    "check_directions": lambda g: check_directions(g.a, g.mask),
}
"""Every public function below `lit` that takes a network."""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[LightningModule], rb.Mask, Any]:
    """Three classifiers, the mask of IMP in the first, and what it was trained on."""
    torch.manual_seed(0)
    images = torch.randn(64, 1, 8, 8)
    data = TensorDataset(images, images.flatten(1)[:, :10].argmax(1))
    imp = rb.IterativeMagnitudePruning(targets=[0.5], fraction=0.5, epochs_per_round=1, dense_epochs=1)
    classifiers = [rb.Classifier("mlp", num_classes=10) for _ in "abc"]
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(default_root_dir=tmp_path_factory.mktemp("imp"), callbacks=[imp], max_epochs=-1, **silent)
    trainer.fit(classifiers[0], DataLoader(data, 32), DataLoader(data, 32))
    return classifiers, imp.mask, [(images[:40], data.tensors[1][:40]), (images[40:], data.tensors[1][40:])]


def comparable(value: Any) -> Any:
    """A result in primitives, tensors by their values."""
    if isinstance(value, Tensor):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return comparable(asdict(value))
    if isinstance(value, Mapping):
        return {key: comparable(each) for key, each in value.items()}
    return [comparable(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.filterwarnings("ignore:.*images.*units.*", "ignore:.*normalised.*")
@pytest.mark.parametrize("name", CALLS)
def test_a_classifier_counts_as_its_network(name: str, modules: Any) -> None:
    (a, b, c), mask, batches = modules
    symmetry = rb.trace_symmetry(a.net, batches[0][0], verify=False)
    rest = (mask, batches, symmetry, symmetry.random(torch.Generator().manual_seed(0)))
    wrapped = CALLS[name](Given(a, b, c, *rest))
    assert comparable(wrapped) == comparable(CALLS[name](Given(a.net, b.net, c.net, *rest)))


def test_the_mask_of_imp_names_what_it_pruned(modules: Any) -> None:
    (a, *_), mask, _ = modules
    assert mask.sparsity == 0.5
    pruned = rb.Mask({name: state_of(a)[name] != 0 for name in mask})
    assert pruned == mask


def test_a_mask_is_applied_to_the_network_within() -> None:
    classifier = rb.Classifier("mlp")
    mask = rb.magnitude_prune(classifier, rb.Mask.ones_of(classifier), 0.9)
    mask.apply_(classifier)
    assert rb.Mask({name: state_of(classifier.net)[name] != 0 for name in mask}) == mask


def test_other_modules_stay_as_they_are() -> None:
    """A `net` of somebody else's may have layers beside it, which masks name too."""

    class Own(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 4)

    module = Own()
    assert network_of(module) is module
    assert network_of(rb.Classifier("mlp")) is not module
    assert list(state_of(module)) == ["net.weight", "net.bias"]
