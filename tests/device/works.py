"""Everything that is asked of networks and masks, each to be done on one device and on another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import torch
from small import CLASSES, SIZE, network
from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.connectivity.batchnorm import reset_batchnorm
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.diversity import EnsembleDiversity
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.objectives import OBJECTIVES
from rebasin_lt.matching.signs import match_signs
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.criteria import CRITERIA, prune_by
from rebasin_lt.pruning.dead_units import find_dead_units
from rebasin_lt.pruning.magnitude import magnitude_prune, prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.memory import init_memory
from rebasin_lt.pruning.mix import mix_with_magnitude
from rebasin_lt.pruning.saliency import grasp, snip
from rebasin_lt.pruning.shuffles import permute_randomly, shuffle_degrees
from rebasin_lt.pruning.signs import set_signs_, sign_agreement
from rebasin_lt.pruning.synflow import synflow
from rebasin_lt.symmetry.trace import trace_symmetry


class Case(NamedTuple):
    """Two networks in evaluation mode, batches on their device, and a mask, which lies on the CPU as masks do."""

    a: nn.Module
    b: nn.Module
    batches: list[tuple[Tensor, Tensor]]
    mask: Mask


def without_batchnorm(num_classes: int = CLASSES) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 6), nn.ReLU(), nn.Linear(6, num_classes)
    )


def case_on(device: torch.device | str, build: Callable[[], nn.Module] = network) -> Case:
    torch.manual_seed(0)
    a, b = build().eval(), build().eval()
    for layer in (*a.modules(), *b.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                tensor.uniform_(0.3, 1.5)
    images, labels = torch.randn(30, *SIZE), torch.randint(CLASSES, (30,))
    mask = prune_to_sparsity(a.state_dict(), Mask.ones_of(a), 0.5)
    batches = [(x.to(device), y.to(device)) for x, y in zip(images.split(12), labels.split(12), strict=True)]
    return Case(a.to(device), b.to(device), batches, mask)


def symmetry_of(case: Case) -> Any:
    return trace_symmetry(case.a, case.batches[0][0])


def matched(case: Case, **settings: Any) -> Any:
    return match_activations(case.a, case.b, case.batches, symmetry_of(case), masks={"m": case.mask}, **settings)


def traced(case: Case) -> Any:
    symmetry = symmetry_of(case)
    permutation = symmetry.random(torch.Generator().manual_seed(0))
    state = symmetry.permute(case.a, permutation)
    assert all(tensor.device == case.batches[0][0].device for tensor in state.values())
    return {"groups": dict(symmetry.groups), "error": symmetry.verify(case.a, case.batches[0][0]), "state": state}


def plane(case: Case) -> Any:
    permuted = symmetry_of(case).permute(case.a, symmetry_of(case).random(torch.Generator().manual_seed(0)))
    through = Plane(case.a, case.a, permuted, case.b)
    return plane_losses(case.a, through, [(0.0, 0.0), (0.5, 0.5)], case.batches, reset_batches=case.batches)


def diversity(case: Case) -> Any:
    device = case.batches[0][0].device
    found = EnsembleDiversity(2).to(device)
    for images, labels in case.batches:
        with torch.no_grad():
            found.update(torch.stack([case.a(images), case.b(images)]), labels)
    return found.compute()


def signs(case: Case) -> Any:
    signed = case.mask.signed_by(case.a)
    agreement = sign_agreement(signed, case.b.state_dict())
    return {
        "before": agreement,
        "turned": set_signs_(dict(case.b.named_parameters()), signed),
        "state": case.b.state_dict(),
    }


def line(case: Case, correction: str) -> Any:
    return loss_barrier(
        case.a, case.a.state_dict(), case.b.state_dict(), case.batches, alphas=3, correction=correction,
        correction_batches=case.batches,
    )  # fmt: skip


WORKS: dict[str, Callable[[Case], Any]] = {
    **{f"match {name}": lambda case, name=name: matched(case, objective=name) for name in OBJECTIVES},
    "match paper": lambda case: matched(case, preset="paper"),
    "match mixed": lambda case: matched(case, weight_mix=0.3, stream="last"),
    "coordinate_descent": lambda case: match_weights(case.a, case.b, symmetry_of(case), masks={"m": case.mask}),
    "frank_wolfe": lambda case: match_weights(case.a, case.b, symmetry_of(case), method="frank_wolfe", max_sweeps=3),
    "match signs": lambda case: match_signs(
        case.a, case.b, symmetry_of(case), masks={"m": case.mask.signed_by(case.a)}
    ),
    "symmetry": traced,
    "magnitude": lambda case: magnitude_prune(case.a.state_dict(), case.mask, 0.3),
    **{
        f"prune {name}": lambda case, name=name: prune_by(name, case.a, case.batches, case.mask, 0.7)
        for name in CRITERIA
    },
    "snip": lambda case: snip(case.a, Mask.ones_of(case.a), case.batches, 0.7),
    "grasp": lambda case: grasp(case.a, Mask.ones_of(case.a), case.batches, 0.7),
    "synflow": lambda case: synflow(case.a, Mask.ones_of(case.a), SIZE, 0.7, rounds=5),
    "dead units": lambda case: find_dead_units(case.a, symmetry_of(case), case.mask),
    "mix": lambda case: mix_with_magnitude(case.mask, case.b.state_dict(), 0.5),
    "random permutation": lambda case: permute_randomly(
        [case.mask], symmetry_of(case), torch.Generator().manual_seed(0)
    ),
    "degrees": lambda case: shuffle_degrees(case.mask, torch.Generator().manual_seed(0)),
    "init memory": lambda case: init_memory(case.mask, case.a.state_dict()),
    "masked state": lambda case: case.mask.applied_to(case.a.state_dict()),
    "signs": signs,
    "reset": lambda case: reset_batchnorm(case.a, case.batches),
    "diversity": diversity,
    "plane": plane,
    **{f"line {name}": lambda case, name=name: line(case, name) for name in ("bn_reset", "temperature")},
}


def plain(value: Any) -> Any:
    """The numbers in a result, wherever they lie."""
    if isinstance(value, Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, Mask):
        return plain(value.content)
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value
