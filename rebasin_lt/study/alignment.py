"""Align network A to network B: match, permute weights and masks, measure the loss between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import BarrierResult, loss_barrier
from rebasin_lt.errors import InputError
from rebasin_lt.files import atomic_path, hash_tensors
from rebasin_lt.lit.checkpoint import FORMAT_VERSION, METADATA, LoadedNetwork, load_network
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.matching.activation import MatchResult, match_activations
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.run_folder import claim_folder, finish, finished
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

PERMUTATION, PERMUTED = "permutation.perm.safetensors", "permuted.ckpt"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Alignment:
    """What to align, on which images; see the options of `rebasin-lt permute`."""

    ckpt_a: str
    ckpt_b: str
    masks: tuple[str, ...] = ()
    data: str | None = None
    root: str = "data"
    model: str | None = None
    width: float = 1
    num_classes: int = 10
    num_images: int | None = None
    batch_size: int = 500
    num_alphas: int = 11
    seed: int = 0
    device: str = "auto"


def align(settings: Alignment, out: Path | str, progress: Progress | None = None) -> dict[str, Any]:
    """Match A to B and write π, π(A), π(masks) and the barrier before and after into `out`; a complete one is kept.

    Everything is checked before the folder is made. Raises InputError for checkpoints of different networks, masks
    that do not fit A, or data that is not there.
    """
    out = Path(out)
    if settings.num_alphas < 0 or settings.num_alphas in {1, 2}:
        raise InputError(f"alphas is {settings.num_alphas}, expected 0 (no barrier) or at least 3")
    source, reference = load_pair(settings)
    masks = {Path(path).name: Mask.load(path) for path in settings.masks}
    if len(masks) < len(settings.masks):
        raise InputError(f"masks {list(settings.masks)} share a file name: the permuted ones would overwrite each other")
    for mask in masks.values():
        mask.check_fits(dict(source.network.named_parameters()))
    data = _data(settings, source)
    claim_folder(out, asdict(settings))
    result = finished(out)
    if result is None:
        result = _align(settings, out, source, reference, masks, data, progress or (lambda *_: None))
        finish(out, result)
    return result


def load_pair(settings: Alignment) -> tuple[LoadedNetwork, LoadedNetwork]:
    """Networks A and B. Raises InputError where their architectures or widths differ, with both values."""
    load = {"arch": settings.model, "width": settings.width, "num_classes": settings.num_classes}
    source, reference = (load_network(path, **load) for path in (settings.ckpt_a, settings.ckpt_b))
    for key in ("arch", "width", "num_classes", "input_shape"):
        ours, theirs = source.metadata.get(key), reference.metadata.get(key)
        if ours != theirs:
            raise InputError(
                f"--ckpt-a {settings.ckpt_a} has {key} {ours} and --ckpt-b {settings.ckpt_b} has {theirs}: "
                "only networks of one architecture can be aligned"
            )
    return source, reference


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one. Raises InputError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def _align(
    settings: Alignment,
    out: Path,
    source: LoadedNetwork,
    reference: LoadedNetwork,
    masks: Mapping[str, Mask],
    data: ImageData,
    progress: Progress,
) -> dict[str, Any]:
    device = resolve_device(settings.device)
    network_a, network_b = source.network.to(device), reference.network.to(device)
    sweep = {"num_images": settings.num_images, "batch_size": settings.batch_size, "seed": settings.seed}
    batches = data.sweep("train", **sweep, device=device)
    symmetry = trace_symmetry(network_a, next(iter(batches))[0][:2])
    match = match_activations(
        network_a, network_b, batches, symmetry, progress=lambda done, total: progress("match", done, total)
    )
    _write(out, source, network_a, network_b, symmetry, match, masks)
    result: dict[str, Any] = {
        "num_samples": match.num_samples,
        "objective": dict(match.objective),
        "moved": {group: float((p != torch.arange(len(p))).float().mean()) for group, p in match.permutation.items()},
        "masks": {name: mask.sparsity for name, mask in masks.items()},
    }
    if settings.num_alphas:
        states = [state_on(network_a, device), symmetry.permute(state_on(network_a, device), match.permutation)]
        test = data.sweep("test", batch_size=settings.batch_size, device=device)
        result["barrier"] = {
            name: _curve(_barrier(settings, network_b, state, test, batches, correction, name, progress))
            for correction in _corrections(network_b)
            for name, state in zip((f"before {correction}", f"after {correction}"), states, strict=True)
        }
    return result


def state_on(network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The network's state dict, detached."""
    return {name: tensor.detach().to(device) for name, tensor in network.state_dict().items()}
