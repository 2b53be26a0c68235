"""Align network A to network B: match, permute weights and masks, measure what that brings them closer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_lt.batches import device_of
from rebasin_lt.connectivity.barrier import BarrierResult, loss_barrier
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.file_names import PERMUTATION
from rebasin_lt.experiment.matcher import Matcher
from rebasin_lt.experiment.subjects import Images, load_networks, open_data, open_images, resolve_device
from rebasin_lt.lit.checkpoint import CHECKPOINT_VERSION, MASK, METADATA, LoadedNetwork
from rebasin_lt.lit.checkpoint_file import write_checkpoint
from rebasin_lt.lit.data.loader import Batch, ImageLoader
from rebasin_lt.matching.activation import MatchResult
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import expected_overlap
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.run_folder import CONFIG, RESULT, run_once
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

PERMUTED = "permuted.ckpt"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Alignment:
    """What to align, how, and on which images; see the options of `rebasin-lt permute`."""

    ckpt_a: str
    ckpt_b: str
    masks: tuple[str, ...] = ()
    matcher: Matcher = field(default_factory=Matcher)
    data: str | None = None
    root: str | None = None
    model: str | None = None
    width: float = 1
    num_classes: int = 10
    num_images: int | None = None
    batch_size: int = 500
    num_alphas: int = 11
    device: str = "auto"

    @property
    def needs_images(self) -> bool:
        """Whether anything looks at images: matching, or the barrier."""
        return self.matcher.needs_images or self.num_alphas > 0


class _Subjects(NamedTuple):
    """What an alignment is given, read and checked."""

    source: LoadedNetwork
    reference: LoadedNetwork
    masks: Mapping[str, Mask]  # by file name
    images: Images | None  # None where nothing looks at images
    matched: Iterable[Batch]  # training images to match on


def align(settings: Alignment, out: Path | str, progress: Progress | None = None) -> dict[str, Any]:
    """Match A to B; write π, π(A), π(masks), their overlap with B's own, and the barrier into `out`; once.

    Everything is checked before the folder is made. Raises InputError for checkpoints of different networks, masks
    that do not fit A, data that is not there, or settings that cannot be or have no effect.
    """
    out = Path(out)
    _check_settings(settings)
    given = _open(settings)
    contents = {
        "sha256_a": hash_tensors(given.source.network.state_dict()),
        "sha256_b": hash_tensors(given.reference.network.state_dict()),
        "sha256_masks": [mask.hash for mask in given.masks.values()],
    }
    work = partial(_align, settings, out, given, progress or (lambda *_: None))
    outputs = [PERMUTATION, PERMUTED, *given.masks, *map(permutation_file, given.masks)]
    return run_once(out, {**asdict(settings), **contents}, work, outputs, but=("ckpt_a", "ckpt_b", "masks", "root"))


def _check_settings(settings: Alignment) -> None:
    """Raise InputError for settings that cannot be, or that have no effect beside the others."""
    settings.matcher.check_code()
    if settings.num_alphas < 0 or settings.num_alphas in {1, 2}:
        raise InputError(f"alphas is {settings.num_alphas}, expected 0 (no barrier) or at least 3")
    if settings.needs_images:
        return
    for option, value in (("data", settings.data), ("root", settings.root), ("n-images", settings.num_images)):
        if value is not None:
            raise InputError(
                f"--{option} is {value}, but --method {settings.matcher.method} with --alphas 0 looks at no image: "
                "leave it out"
            )


def _open(settings: Alignment) -> _Subjects:
    source, reference = load_networks(
        {"--ckpt-a": settings.ckpt_a, "--ckpt-b": settings.ckpt_b}, settings.model, settings.width, settings.num_classes
    )
    masks = {Path(path).name: Mask.load(path) for path in settings.masks}
    if len({*map(permutation_file, masks)}) < len(settings.masks):
        raise InputError(
            f"masks {list(settings.masks)} share a file name: the permuted ones would overwrite each other"
        )
    for name, mask in masks.items():
        if not {name, permutation_file(name)}.isdisjoint({CONFIG, RESULT, PERMUTATION, PERMUTED}):
            raise InputError(f"mask {name} has the name of a file that permute writes: rename it")
        mask.check_fits(dict(source.network.named_parameters()))
    images, matched = _open_images(settings, source) if settings.needs_images else (None, ())
    device = resolve_device(settings.device) if images is None else images.device
    for network in (source.network, reference.network):
        network.to(device)
    return _Subjects(source, reference, masks, images, matched)


def _open_images(settings: Alignment, source: LoadedNetwork) -> tuple[Images, ImageLoader]:
    """The images, and the training images as they are matched on."""
    data = open_data(source, f"--ckpt-a {settings.ckpt_a}", settings.data, settings.root)
    common: dict[str, Any] = {
        "num_images": settings.num_images,
        "batch_size": settings.batch_size,
        "seed": settings.matcher.seed,
        "device": settings.device,
    }
    images = open_images(data, **common)
    count, size = len(images.train.sampler.indices), settings.batch_size
    if settings.matcher.preset == "paper" and (size == 1 or count % size == 1):
        raise InputError(
            f"--batch-size is {size}, which leaves one of {count} images alone: --preset paper takes batches of at "
            "least 2"
        )
    return images, open_images(data, augment=True, **common).train if settings.matcher.augment else images.train


def _align(settings: Alignment, out: Path, given: _Subjects, progress: Progress) -> dict[str, Any]:
    network_a, network_b = given.source.network, given.reference.network
    symmetry = trace_symmetry(network_a, _example(settings, given).to(device_of(network_a.state_dict())))
    tell = partial(progress, "match")
    match = settings.matcher.match(network_a, network_b, given.matched, symmetry, given.masks, tell)
    permuted = symmetry.permute(network_a.state_dict(), match.permutation)
    masks = {name: Mask(symmetry.permute(mask, match.masked[name])) for name, mask in given.masks.items()}
    _write(settings, out, given, permuted, symmetry, match, masks)
    result: dict[str, Any] = {
        "method": settings.matcher.method,
        "num_samples": match.num_samples,
        "measure": settings.matcher.measure,
        "objective": dict(match.objective),
        "sizes": dict(symmetry.groups),
        "masks": {
            name: {"sparsity": mask.sparsity, **mask_overlaps(mask, masks[name], network_b.state_dict())}
            for name, mask in given.masks.items()
        },
    }
    if given.images is not None and settings.num_alphas:
        result["barrier"] = _barriers(settings, network_a, network_b, permuted, given.images, progress)
    return result


def _example(settings: Alignment, given: _Subjects) -> Tensor:
    """Two images to trace the network with; their values do not matter."""
    if given.images is not None:
        return next(iter(given.images.train))[0][:2]
    return torch.zeros(2, *given.source.image_shape(settings.model))


def mask_overlaps(mask: Mask, permuted: Mask, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """IoU of a mask, before and after its permutation, with the reference's own one-shot mask; and by chance.

    The reference's own mask prunes its weights by magnitude, over the mask's tensors together, until as many are left.
    `independent` is the expectation for independent masks with the same kept counts per tensor: a permutation does not
    change these, so it is the same for both.
    """
    own = one_shot_like(reference, mask)
    return {
        "permuted": permuted.overlap(own),
        "unpermuted": mask.overlap(own),
        "independent": expected_overlap(mask, own),
    }


def permutation_file(mask: str) -> str:
    """The name of the file that holds a mask's own permutation, from the mask's file name."""
    return f"{mask.removesuffix('.safetensors').removesuffix('.mask')}.perm.safetensors"


def _write(
    settings: Alignment,
    out: Path,
    given: _Subjects,
    permuted: dict[str, Tensor],
    symmetry: Symmetry,
    match: MatchResult,
    masks: Mapping[str, Mask],
) -> None:
    """The permutation, and A and its masks in B's order of units."""
    source = given.source
    hashes = {
        "source_sha256": hash_tensors(source.network.state_dict()),
        "reference_sha256": hash_tensors(given.reference.network.state_dict()),
    }
    match.permutation.save(
        out / PERMUTATION,
        method=settings.matcher.method,
        measure=settings.matcher.measure,
        objective=json.dumps(match.objective),
        **hashes,
    )
    for name, permutation in match.masked.items():
        permutation.save(
            out / permutation_file(name), method=settings.matcher.method, mask_sha256=given.masks[name].hash, **hashes
        )
    origin = {"stage": "permute", "source": settings.ckpt_a, "reference": settings.ckpt_b}
    content: dict[str, Any] = {
        "state_dict": {f"net.{name}": tensor.cpu() for name, tensor in permuted.items()},
        METADATA: {**source.metadata, **origin, "format_version": CHECKPOINT_VERSION},
    }
    if "arch" not in source.metadata:
        content["state_dict"] = {name: tensor.cpu() for name, tensor in permuted.items()}
    if source.mask is not None:
        content[MASK] = symmetry.permute(source.mask, match.permutation)
        content[METADATA]["mask_sha256"] = hash_tensors(content[MASK])
    write_checkpoint(out / PERMUTED, content)
    for name, mask in masks.items():
        mask.save(out / name, **origin)


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
    corrections = ("none", "bn_reset" if normalised else "repair")
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
