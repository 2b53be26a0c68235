"""Each of these small faults, of which a CPU shows none, is found by the tests on the pretended device."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import trainings
import works
from accelerator import TRAINER
from faults import Fault
from marks import Marks
from pretended import counted
from small import CPU, differences

from rebasin_lt.errors import InputError

GUARD = "rebasin_lt.lit.callbacks.mask_guard:MaskGuard"
RESIDENT = "rebasin_lt.lit.data.resident"
QUIET = ("dense", "masked", "finetuned")
"""Trainings whose steps neither read nor send."""

FAULTS: dict[str, list[Fault]] = {
    "dense": [
        Fault(
            "a read of the loss in every step",
            "rebasin_lt.lit.classifier:Classifier.training_step",
            "loss.detach()",
            "loss.item()",
        ),
        Fault(
            "a constant made on the host in the step",
            "rebasin_lt.lit.classifier:Classifier._training_loss",
            "cross_entropy(logits, labels, ",
            "cross_entropy(logits, labels, weight=torch.tensor([1.0] * 7, device=logits.device), ",
        ),
        Fault(
            "images counted by a size that the device knows",
            "rebasin_lt.lit.epoch_sums:EpochSums.add",
            "logits.argmax(dim=1).eq(labels).count_nonzero()",
            "len(logits.argmax(dim=1).eq(labels).nonzero())",
        ),
        Fault(
            "sums that stay on the CPU",
            "rebasin_lt.lit.epoch_sums:EpochSums._move",
            "dtype=dtype, device=device",
            "dtype=dtype",
        ),
        Fault(
            "a generator of the CPU on the device",
            f"{RESIDENT}:ResidentImages.random_views",
            "(len(self),), generator=generator",
            "(len(self),), generator=generator, device=self.device",
        ),
        Fault(
            "an index on the wrong side",
            "rebasin_lt.lit.data.epoch_batches:EpochBatches.begin",
            "self._share().to(device)",
            "self._share()",
        ),
        Fault(
            "augmentation that stays on the CPU",
            f"{RESIDENT}:ResidentImages.random_views",
            "dim=1).to(self.device)",
            "dim=1)",
        ),
        Fault(
            "images sent batch by batch",
            f"{RESIDENT}:ResidentImages.loader",
            "self.on(device) if self.on_device else self",
            "self",
        ),
        Fault(
            "normalisation that stays on the CPU",
            f"{RESIDENT}:ResidentLoader.__init__",
            "images.normalise.to(device)",
            "images.normalise",
        ),
        Fault(
            "random numbers of the CPU alone seeded",
            "rebasin_lt.lit.callbacks.step_seed:_seed_torch",
            "torch.manual_seed(seed)",
            "torch.default_generator.manual_seed(seed)",
        ),
    ],
    "masked": [
        Fault(
            "a mask that stays on the CPU",
            f"{GUARD}._bind",
            "torch.empty_like(weight).copy_(self.mask[name])",
            "self.mask[name].float()",
        ),
        Fault(
            "a mask sent in every step",
            f"{GUARD}._mask_weights",
            "torch._foreach_mul_(self._weights, self._factors)",
            "[w.mul_(m.to(w.device)) for w, m in zip(self._weights, self.mask.values())]",
        ),
        Fault(
            "gradients looked at in every step",
            f"{GUARD}.on_before_optimizer_step",
            "if pairs:",
            "if pairs and pairs[0][0].isfinite().all():",
        ),
        Fault(
            "weights looked at in every step",
            f"{GUARD}._mask_what_was_written",
            "self._writes != [weight._version for weight in self._weights]",
            "any(weight.isnan().any() for weight in self._weights)",
        ),
        Fault(
            "pruned weights set to zero by a mask of the CPU",
            "rebasin_lt.pruning.mask:Mask.apply_",
            "~tensor.to(parameters[name].device)",
            "~tensor",
        ),
        Fault(
            "signs that stay on the CPU",
            "rebasin_lt.pruning.signs:set_signs_",
            "sign = sign.to(weight.device)",
            "",
        ),
        Fault(
            "a checkpoint looked at under a mask of the CPU",
            "rebasin_lt.lit.checkpoint_file:check_weights",
            "mask[name].to(weight.device)",
            "mask[name]",
        ),
    ],
    "finetuned": [
        Fault(
            "the signs of a ticket told on its device",
            "rebasin_lt.pruning.mask:Mask.signed_by",
            "state[name].cpu() < 0",
            "state[name] < 0",
        ),
    ],
    "rigl": [
        Fault(
            "an exchanged mask that stays on the CPU",
            "rebasin_lt.lit.callbacks.dynamic_sparse_training:DynamicSparseTraining._update",
            "kept.to(factor.device, factor.dtype)",
            "kept.to(factor.dtype)",
        ),
    ],
    "set_by_lot": [
        Fault(
            "lots that stay on the CPU",
            "rebasin_lt.pruning.dynamic:_exchanged",
            "growth.to(weight.device)",
            "growth",
        ),
    ],
    "streamed_from_memory": [
        Fault("labels that stay on the CPU", f"{RESIDENT}:ResidentLoader._epoch", "labels.to(self.device)", "labels"),
    ],
    "streamed_from_files": [
        Fault(
            "normalisation of files that stays on the CPU",
            "rebasin_lt.lit.data.folder:FolderLoader.__init__",
            "images.normalise.to(device)",
            "images.normalise",
        ),
    ],
    "resumed_in_mid_epoch": [
        Fault(
            "an optimiser's state that is not moved on resume",
            "lightning.pytorch.strategies.strategy:Strategy.load_optimizer_state_dict",
            "_optimizer_to_device(optimizer, self.root_device)",
            '_optimizer_to_device(optimizer, torch.device("cpu"))',
        ),
    ],
    "resumed_factors": [
        Fault(
            "factors that are not moved on resume",
            "rebasin_lt.lit.callbacks.sign_in:SignIn.on_train_start",
            '["w"][name].to(weight)',
            '["w"][name]',
        ),
    ],
    "match correlation": [
        Fault(
            "products that stay on the CPU",
            "rebasin_lt.matching.moments:CrossMoments.update",
            "self.products = self.products.to(place)",
            "",
        ),
        Fault(
            "sums of units that stay on the CPU",
            "rebasin_lt.matching.moments:UnitMoments.add",
            "self.total.to(place), self.squares.to(place)",
            "self.total, self.squares",
        ),
    ],
    "symmetry": [
        Fault(
            "a permutation that stays on the CPU",
            "rebasin_lt.symmetry.axis_type:permute_tensor",
            "axis.index(permutation).to(tensor.device)",
            "axis.index(permutation)",
        ),
    ],
    "synflow": [
        Fault(
            "an input made on the CPU",
            "rebasin_lt.pruning.synflow:_flows",
            "dtype=torch.float64, device=next(network.parameters()).device",
            "dtype=torch.float64",
        ),
    ],
}


@cache
def _of_the_cpu(name: str, folder: Path) -> Any:
    """What a training or an analysis comes to without a fault."""
    return _result(name, folder, CPU, "cpu")


def _result(name: str, folder: Path, trainer: dict[str, Any], device: torch.device | str) -> Any:
    known: dict[str, Callable[..., Any]] = {scenario.__name__: scenario for scenario in trainings.SCENARIOS}
    if name in known:
        return known[name](folder, trainer)
    return works.plain(works.WORKS[name](works.case_on(device)))


def _findings(name: str, folder: Path, expected: Any, device: torch.device) -> list[str]:
    """What the tests have to say of a training or an analysis on the pretended device; nothing if all is well."""
    Marks.steps = []
    with counted() as counts:
        Marks.counts = counts
        try:
            found = _result(name, folder, TRAINER, device)
        except (RuntimeError, TypeError, InputError) as error:
            return [str(error)]
    if name in works.WORKS:
        return [] if found == expected else ["another result"]
    steps = [f"a step {reads + sends}" for reads, sends in Marks.steps if reads or sends] if name in QUIET else []
    return [*differences(found, expected), *steps]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cpu")


CASES = [(name, fault) for name, faults in FAULTS.items() for fault in faults]


@pytest.mark.parametrize(("name", "fault"), CASES, ids=[fault.what for _, fault in CASES])
@pytest.mark.filterwarnings("ignore:.*fewer images.*", "ignore:.*images.*units.*", "ignore:.*normalised.*")
def test_fault_is_found(name, fault, folder, tmp_path, monkeypatch, request) -> None:
    expected = _of_the_cpu(name, folder / name)
    device = request.getfixturevalue("device")
    fault.plant(monkeypatch)
    assert _findings(name, tmp_path, expected, device)


@pytest.mark.parametrize("name", QUIET)
def test_nothing_is_found_without_a_fault(name, folder, tmp_path, request) -> None:
    expected = _of_the_cpu(name, folder / name)
    assert not _findings(name, tmp_path, expected, request.getfixturevalue("device"))


@pytest.mark.parametrize("fault", [fault for _, fault in CASES if "MaskGuard" in fault.place])
def test_the_cpu_shows_no_fault(fault, folder, tmp_path, monkeypatch) -> None:
    """So it is the device that finds them: each is a fault of place or of waiting, none of arithmetic."""
    name = next(name for name, other in CASES if other is fault)
    expected = _of_the_cpu(name, folder / name)
    fault.plant(monkeypatch)
    assert not differences(_result(name, tmp_path, CPU, "cpu"), expected)


def test_there_are_enough() -> None:
    assert len(CASES) >= 15
