"""Align network A to network B: match, permute weights and masks, measure the loss between them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_lt.connectivity.barrier import BarrierResult, Correction, loss_barrier
from rebasin_lt.errors import InputError
from rebasin_lt.files import hash_tensors, write_tensors
from rebasin_lt.lit.checkpoint import FORMAT_VERSION, MASK, METADATA, LoadedNetwork
from rebasin_lt.matching.activation import MatchResult, match_activations
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.run_folder import CONFIG, RESULT, claim_folder, finish, finished
from rebasin_lt.study.subjects import Images, load_networks, open_data, open_images
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
    root: str | None = None
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
    source, reference = load_networks(
        {"--ckpt-a": settings.ckpt_a, "--ckpt-b": settings.ckpt_b}, settings.model, settings.width, settings.num_classes
    )
    masks = {Path(path).name: Mask.load(path) for path in settings.masks}
    if len(masks) < len(settings.masks):
        raise InputError(
            f"masks {list(settings.masks)} share a file name: the permuted ones would overwrite each other"
        )
    for name, mask in masks.items():
        if name in {CONFIG, RESULT, PERMUTATION, PERMUTED}:
            raise InputError(f"mask {name} has the name of a file that permute writes: rename it")
        mask.check_fits(dict(source.network.named_parameters()))
    data = open_data(source, f"--ckpt-a {settings.ckpt_a}", settings.data, settings.root)
    images = open_images(
        data,
        num_images=settings.num_images,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=settings.device,
    )
    contents = {
        "sha256_a": hash_tensors(source.network.state_dict()),
        "sha256_b": hash_tensors(reference.network.state_dict()),
        "sha256_masks": [mask.hash for mask in masks.values()],
    }
    with claim_folder(out, {**asdict(settings), **contents}):
        result = finished(out)
        if result is None:
            result = _align(settings, out, source, reference, masks, images, progress or (lambda *_: None))
            finish(out, result)
    return result


def _align(
    settings: Alignment,
    out: Path,
    source: LoadedNetwork,
    reference: LoadedNetwork,
    masks: Mapping[str, Mask],
    images: Images,
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
        content[METADATA]["mask_sha256"] = hash_tensors(content[MASK])
    write_tensors(out / PERMUTED, content)
    for name, mask in masks.items():
        Mask(symmetry.permute(mask, match.permutation)).save(out / name, **origin)


def _barriers(
    settings: Alignment,
    network_a: nn.Module,
    network_b: nn.Module,
    permuted: Mapping[str, Tensor],
    images: Images,
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
