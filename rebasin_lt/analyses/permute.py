"""Match network A to network B, permute its weights and masks, and measure how much closer that brings them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import BarrierResult, loss_barrier
from rebasin_lt.connectivity.batchnorm import batchnorm_layers
from rebasin_lt.connectivity.evaluation import check_judged
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.before import Beginning, beginning_of, fit_of, memory_of, reading, settings_with
from rebasin_lt.experiment.file_names import PERMUTATION
from rebasin_lt.experiment.matcher import Matcher
from rebasin_lt.experiment.subjects import Subjects, open_pair
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.judging.judge import Judge, judge_of
from rebasin_lt.judging.losses import CROSS_ENTROPY, judged_in_result, without_default
from rebasin_lt.lit.checkpoint import CHECKPOINT_VERSION, MASK, METADATA, LoadedNetwork
from rebasin_lt.lit.checkpoint_file import write_checkpoint
from rebasin_lt.lit.data.registry import is_of_images
from rebasin_lt.matching.activation import MatchResult
from rebasin_lt.process.progress import Progress, untold
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import expected_overlap
from rebasin_lt.settings.options import MatchOptions, PermuteOptions
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.run_folder import CONFIG, RESULT, run_once
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

PERMUTED = "permuted.ckpt"


class _Given(NamedTuple):
    """What is matched and permuted, read and checked."""

    matcher: Matcher
    subjects: Subjects
    masks: Mapping[str, Mask]  # by file name
    images: _Images | None  # None where nothing looks at images
    beginning: Beginning | None  # None without masks
    judge: Judge  # of the barrier


class _Images(NamedTuple):
    """Batches of inputs and labels: to match on, to re-estimate statistics on, and to measure on."""

    matched: Fed
    train: Fed
    test: Fed


def match_and_permute(options: PermuteOptions, out: Path | str, progress: Progress = untold) -> dict[str, Any]:
    """Match A to B; write π, π(A), π(masks), their overlap with B's own, and the barrier into `out`; once.

    Everything is checked before the folder is made. Raises InputError for checkpoints of different networks, masks
    that do not fit A, data that is not there, or options that cannot be or have no effect.
    """
    out = Path(out)
    given = _open(options, _matcher(options))
    sha256_a, sha256_b = given.subjects.sha256
    contents = {
        "sha256_a": sha256_a,
        "sha256_b": sha256_b,
        "sha256_masks": [mask.hash for mask in given.masks.values()],
    }
    work = partial(_permute, options, out, given, progress)
    outputs = [PERMUTATION, PERMUTED, *given.masks, *map(permutation_file, given.masks)]
    config = {**without_default(settings_with(options, given.beginning)), **contents}
    return run_once(out, config, work, outputs, but=("ckpt_a", "ckpt_b", "masks", "init_a", "root"))


def _matcher(options: PermuteOptions) -> Matcher:
    """How to match. Raises InputError for options that cannot be, or that have no effect beside the others."""
    matcher = Matcher(**{field.name: getattr(options, field.name) for field in fields(MatchOptions)})
    matcher.check_code()
    if options.num_alphas < 0 or options.num_alphas in {1, 2}:
        raise InputError(f"--num-alphas is {options.num_alphas}, expected 0 (no barrier) or at least 3")
    if not options.num_alphas and options.loss != CROSS_ENTROPY:
        raise InputError(f"--loss is {options.loss}, but --num-alphas 0 measures no barrier: leave it out")
    if matcher.needs_images or options.num_alphas:
        return matcher
    of_images = options.data is None or is_of_images(options.data)  # batches of others say what a network is given
    source = {"data": options.data, "root": options.root, "inputs": options.inputs} if of_images else {}
    for option, value in {**source, "targets": options.targets, "num-images": options.num_images}.items():
        if value is not None:
            raise InputError(
                f"--{option} is {value}, but --method {options.method} with --num-alphas 0 looks at no image: "
                "leave it out"
            )
    return matcher


def _open(options: PermuteOptions, matcher: Matcher) -> _Given:
    subjects = open_pair(options)
    masks = {Path(path).name: mask for path, mask in zip(options.masks, subjects.masks(options.masks), strict=True)}
    if len({*map(permutation_file, masks)}) < len(options.masks):
        raise InputError(f"masks {list(options.masks)} share a file name: the permuted ones would overwrite each other")
    for name in masks:
        if not {name, permutation_file(name)}.isdisjoint({CONFIG, RESULT, PERMUTATION, PERMUTED}):
            raise InputError(f"mask {name} has the name of a file that permute writes: rename it")
    images = _open_images(options, subjects) if matcher.needs_images or options.num_alphas else None
    _, network_b = subjects.on_device()
    judge = judge_of(options.loss, "--loss")
    if images is not None and options.num_alphas:
        check_judged(network_b, images.test, "--loss on the test set", judge)
    return _Given(matcher, subjects, masks, images, _beginning(options, masks), judge)


def _beginning(options: PermuteOptions, masks: Mapping[str, Mask]) -> Beginning | None:
    if not masks:
        if options.init_a is not None:
            raise InputError(f"--init-a is {options.init_a}, but there is no mask to compare with it: give --masks")
        return None
    return beginning_of(options.ckpt_a, options.init_a, masks.values())


def _open_images(options: PermuteOptions, subjects: Subjects) -> _Images:
    train = subjects.train()
    shares = subjects.shares(train)
    if options.preset == "paper" and 1 in shares:
        raise InputError(
            f"--batch-size is {options.batch_size}, which leaves one of {sum(shares)} images alone: --preset paper "
            "takes batches of at least 2"
        )
    return _Images(subjects.train(augment=True) if options.augment else train, train, subjects.test())


def _permute(options: PermuteOptions, out: Path, given: _Given, progress: Progress) -> dict[str, Any]:
    network_a, network_b = given.subjects.on_device()
    example = given.subjects.example(given.images and given.images.train)
    symmetry = trace_symmetry(network_a, example.args, example.kwargs)
    batches = given.images.matched if given.images else ()
    tell = partial(progress, "match")
    match = given.matcher.match(network_a, network_b, batches, symmetry, given.masks, tell)
    permuted = symmetry.permute(network_a.state_dict(), match.permutation)
    masks = {name: mask.permuted(symmetry, match.masked[name]) for name, mask in given.masks.items()}
    _write(options, out, given, permuted, symmetry, match, masks)
    result: dict[str, Any] = {
        "method": options.method,
        "num_samples": match.num_samples,
        "measure": given.matcher.measure,
        "objective": dict(match.objective),
        "sizes": {group: symmetry.num_units(group) for group in symmetry.groups},
        "masks": {
            name: {"sparsity": mask.sparsity, **mask_overlaps(mask, masks[name], network_b.state_dict())}
            for name, mask in given.masks.items()
        },
    }
    if given.beginning is not None:
        result["before_training"] = {
            "missing": list(given.beginning.missing),
            "masks": {name: _before(given, name, symmetry, match.masked[name]) for name in given.masks},
        }
    if given.images is not None and options.num_alphas:
        result |= judged_in_result(given.judge.judged)
        result["barrier"] = _barriers(options, (network_a, network_b), permuted, given.images, given.judge, progress)
    return result


def _before(given: _Given, name: str, symmetry: Symmetry, permutation: Permutation) -> dict[str, Any]:
    """What is known of a mask before anything is trained under it, and the sentence that says what it means."""
    assert given.beginning is not None
    (network_a, network_b), mask = given.subjects.on_device(), given.masks[name]
    signed = mask if mask.is_signed else mask.signed_by(network_a.state_dict())
    reference = {name: tensor.cpu() for name, tensor in network_b.state_dict().items()}
    found = {**memory_of(mask, given.beginning), **fit_of(signed.permuted(symmetry, permutation), reference)}
    return {**found, "signs_of": "the mask" if mask.is_signed else "A's weights", "reading": reading(found)}


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
    options: PermuteOptions,
    out: Path,
    given: _Given,
    permuted: dict[str, Tensor],
    symmetry: Symmetry,
    match: MatchResult,
    masks: Mapping[str, Mask],
) -> None:
    """The permutation, and A and its masks in B's order of units."""
    source = given.subjects.networks[0]
    hashes = dict(zip(("source_sha256", "reference_sha256"), given.subjects.sha256, strict=True))
    match.permutation.save(
        out / PERMUTATION,
        method=options.method,
        measure=given.matcher.measure,
        objective=json.dumps(match.objective),
        **hashes,
    )
    for name, permutation in match.masked.items():
        permutation.save(
            out / permutation_file(name), method=options.method, mask_sha256=given.masks[name].hash, **hashes
        )
    origin = {"stage": "permute", "source": options.ckpt_a, "reference": options.ckpt_b}
    own = None if source.mask is None else symmetry.permute(source.mask, match.permutation)
    write_changed(out / PERMUTED, source, permuted, own, origin)
    for name, mask in masks.items():
        mask.save(out / name, **origin)


def write_changed(
    path: Path,
    source: LoadedNetwork,
    state: Mapping[str, Tensor],
    mask: Mapping[str, Tensor] | None,
    origin: Mapping[str, str],
) -> None:
    """A checkpoint of a network with other weights, and another mask if it has one; `origin` says how it came to be."""
    prefix = "net." if "arch" in source.metadata else ""
    content: dict[str, Any] = {
        "state_dict": {f"{prefix}{name}": tensor.cpu() for name, tensor in state.items()},
        METADATA: {**source.metadata, **origin, "format_version": CHECKPOINT_VERSION},
    }
    content[METADATA].pop("mask_sha256", None)
    if mask is not None:
        content[MASK] = dict(mask)
        content[METADATA]["mask_sha256"] = hash_tensors(content[MASK])
    write_checkpoint(path, content)


def _barriers(
    options: PermuteOptions,
    networks: tuple[nn.Module, nn.Module],
    permuted: Mapping[str, Tensor],
    images: _Images,
    judge: Judge,
    progress: Progress,
) -> dict[str, Any]:
    """Curves on the test images, by correction, before (A to B) and after A is permuted (π(A) to B)."""
    network_a, network_b = networks
    settings: Any = {"alphas": options.num_alphas, "correction_batches": images.train, "loss": judge}
    curves: dict[str, Any] = {"none": {}, "bn_reset" if batchnorm_layers(network_b) else "repair": {}}
    for correction, measured in curves.items():
        for name, state in (("before", network_a), ("after", permuted)):
            settings |= {"correction": correction, "progress": partial(progress, f"barrier {name}, {correction}")}
            measured[name] = _curve(loss_barrier(network_b, state, network_b, images.test, **settings))
    return curves


def _curve(barrier: BarrierResult) -> dict[str, Any]:
    names = ("alphas", "loss", "error", "num_images", "loss_barrier", "error_barrier", "midpoint_excess_over_mean")
    return {name: getattr(barrier, name) for name in names}
