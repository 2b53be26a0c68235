"""Align network A to network B: match, permute weights and masks, measure the loss between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_lt.connectivity.barrier import BarrierResult, Correction, loss_barrier
from rebasin_lt.errors import InputError
from rebasin_lt.files import atomic_path, hash_tensors
from rebasin_lt.lit.checkpoint import FORMAT_VERSION, MASK, METADATA, LoadedNetwork, load_network
from rebasin_lt.lit.data.loader import ImageLoader
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.matching.activation import MatchResult, match_activations
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.run_folder import claim_folder, finish, finished
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
        raise InputError(
            f"masks {list(settings.masks)} share a file name: the permuted ones would overwrite each other"
        )
    for mask in masks.values():
        mask.check_fits(dict(source.network.named_parameters()))
    images = _images(settings, source)
    contents = {
        "sha256_a": hash_tensors(source.network.state_dict()),
        "sha256_b": hash_tensors(reference.network.state_dict()),
        "sha256_masks": [mask.hash for mask in masks.values()],
    }
    claim_folder(out, {**asdict(settings), **contents})
    result = finished(out)
    if result is None:
        result = _align(settings, out, source, reference, masks, images, progress or (lambda *_: None))
        finish(out, result)
    return result


def load_pair(settings: Alignment) -> tuple[LoadedNetwork, LoadedNetwork]:
    """Networks A and B. Raises InputError where their architectures or widths differ, with both values."""
    load: dict[str, Any] = {"arch": settings.model, "width": settings.width, "num_classes": settings.num_classes}
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
    images: _Images,
    progress: Progress,
) -> dict[str, Any]:
    network_a, network_b = source.network.to(images.device), reference.network.to(images.device)
    symmetry = trace_symmetry(network_a, next(iter(images.train))[0][:2])
    match = match_activations(network_a, network_b, images.train, symmetry, progress=partial(progress, "match"))
    permuted = symmetry.permute(network_a.state_dict(), match.permutation)
    _write(settings, out, source, reference, permuted, symmetry, match, masks)
    result: dict[str, Any] = {
        "num_samples": match.num_samples,
        "objective": dict(match.objective),
        "sizes": dict(symmetry.groups),
        "masks": {name: mask.sparsity for name, mask in masks.items()},
    }
    if settings.num_alphas:
        result["barrier"] = _barriers(settings, network_a, network_b, permuted, images, progress)
    return result


def _write(
    settings: Alignment,
    out: Path,
    source: LoadedNetwork,
    reference: LoadedNetwork,
    permuted: dict[str, Tensor],
    symmetry: Symmetry,
    match: MatchResult,
    masks: Mapping[str, Mask],
) -> None:
    """The permutation, and A and its masks in B's order of units."""
    match.permutation.save(
        out / PERMUTATION,
        method="activations",
        objective=json.dumps(match.objective),
        source_sha256=hash_tensors(source.network.state_dict()),
        reference_sha256=hash_tensors(reference.network.state_dict()),
    )
    origin = {"stage": "permute", "source": settings.ckpt_a, "reference": settings.ckpt_b}
    content: dict[str, Any] = {
        "state_dict": {f"net.{name}": tensor.cpu() for name, tensor in permuted.items()},
        METADATA: {**source.metadata, **origin, "format_version": FORMAT_VERSION},
    }
    if "arch" not in source.metadata:
        content["state_dict"] = {name: tensor.cpu() for name, tensor in permuted.items()}
    if source.mask is not None:
        content[MASK] = symmetry.permute(source.mask, match.permutation)
    with atomic_path(out / PERMUTED) as temporary:
        torch.save(content, temporary)
    for name, mask in masks.items():
        Mask(symmetry.permute(mask, match.permutation)).save(out / name, **origin)


def _barriers(
    settings: Alignment,
    network_a: nn.Module,
    network_b: nn.Module,
    permuted: Mapping[str, Tensor],
    images: _Images,
    progress: Progress,
) -> dict[str, Any]:
    """Curves on the test images, by correction, before (A to B) and after (π(A) to B) alignment."""
    normalised = any(isinstance(module, _BatchNorm) for module in network_b.modules())
    corrections: tuple[Correction, ...] = ("none", "bn_reset" if normalised else "repair")
    curves: dict[str, Any] = {}
    for correction in corrections:
        for name, state in (("before", network_a), ("after", permuted)):
            curves.setdefault(correction, {})[name] = _curve(
                loss_barrier(
                    network_b,
                    state,
                    network_b,
                    images.test,
                    alphas=settings.num_alphas,
                    correction=correction,
                    correction_batches=images.train,
                    progress=partial(progress, f"barrier {name}, {correction}"),
                )
            )
    return curves


def _curve(barrier: BarrierResult) -> dict[str, Any]:
    names = ("alphas", "loss", "error", "num_images", "loss_barrier", "error_barrier", "midpoint_excess_over_mean")
    return {name: getattr(barrier, name) for name in names}


class _Images(NamedTuple):
    """What A and B see: batches of (images, labels) on one device, the same ones in every pass."""

    train: ImageLoader  # to match on, and to correct statistics
    test: ImageLoader  # to measure the loss
    device: torch.device


def _images(settings: Alignment, source: LoadedNetwork) -> _Images:
    """Those of the dataset that was asked for, or else of the one A was trained on."""
    if settings.data is not None:
        data = build_data(settings.data, root=settings.root)
    elif known := source.metadata.get("data"):
        data = build_data(**known)
    else:
        raise InputError(f"--ckpt-a {settings.ckpt_a} does not say what it was trained on: give --data NAME")
    device = resolve_device(settings.device)
    common: dict[str, Any] = {"batch_size": settings.batch_size, "device": device}
    train = data.sweep("train", num_images=settings.num_images, seed=settings.seed, **common)
    return _Images(train, data.sweep("test", **common), device)
