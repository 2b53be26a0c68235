"""Loss and error along the line from A to B, before and after A is permuted, raw and corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import BarrierResult, loss_barriers
from rebasin_lt.connectivity.corrections import CORRECTIONS, applicable, check_calibrates
from rebasin_lt.errors import InputError, check_least
from rebasin_lt.experiment.subjects import Subjects, open_pair
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.judging.judge import Judge, judge_of
from rebasin_lt.judging.losses import judged_in_result, without_default
from rebasin_lt.process.progress import Progress, untold
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.choices import check_known
from rebasin_lt.settings.options import SPLITS, BarrierOptions
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.run_folder import run_once
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import trace_symmetry


class Ends(NamedTuple):
    """The two ends of one line, each under its mask."""

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    mask: Mask | None  # what the line can reach; None where that is everything


def measure_barriers(options: BarrierOptions, out: Path | str, progress: Progress = untold) -> dict[str, Any]:
    """Measure every line under every correction on every split, and write the curves into `out`; once.

    Each end is multiplied by its mask: that of its checkpoint, or its own of two given `masks` (A's moves with A under
    the permutation). So the line runs in what the union of both masks leaves. One given mask, in B's order of units,
    holds for both ends and with them for the whole line.

    Everything is checked before the folder is made. Raises InputError for checkpoints of different networks, a
    permutation or masks that do not fit, corrections that do not apply, or data that is not there.
    """
    subjects = open_pair(options)
    judge, corrections = judge_of(options.loss, "--loss"), check_barrier(options, subjects.networks[1].network)
    for name in corrections:
        check_calibrates(name, judge.judged, judge.calibrates)
    masks = _masks(options, subjects)
    permutation = None if options.permutation is None else Permutation.load(options.permutation)
    images = {"train": subjects.train(), "test": subjects.test()}
    estimated = subjects.train(augment=True) if options.augment else images["train"]
    lines = dict(_lines(subjects, masks, permutation, images["train"]))
    sha256_a, sha256_b = subjects.sha256
    contents = {
        "sha256_a": sha256_a,
        "sha256_b": sha256_b,
        "sha256_permutation": None if permutation is None else hash_tensors(permutation),
        "sha256_masks": [mask.hash for mask in masks.given],
    }
    network = subjects.networks[1].network
    work = partial(_measure, options, judge, network, lines, corrections, images, estimated, progress)
    paths = ("ckpt_a", "ckpt_b", "permutation", "masks", "root")
    return run_once(out, {**without_default(asdict(options), augment=False), **contents}, work, but=paths)


class _Masks(NamedTuple):
    """Of A, in A's order of units; of B; of the whole line, in B's order."""

    first: Mask | None
    second: Mask | None
    line: Mask | None

    @property
    def given(self) -> list[Mask]:
        return [mask for mask in self if mask is not None]


def _masks(options: BarrierOptions, subjects: Subjects) -> _Masks:
    given = subjects.masks(options.masks)
    if len(given) > 2:
        raise InputError(f"--masks has {len(given)} files, expected one for the line, or A's and B's")
    if len(given) == 1:
        return _Masks(None, None, given[0])
    first, second = given or (loaded.mask for loaded in subjects.networks)
    return _Masks(first, second, None)


def check_barrier(options: BarrierOptions, network: nn.Module) -> list[str]:
    """The corrections to measure under: those asked for, or those measured by default that apply to it.

    Raises InputError for a split or correction that is not known or does not apply, and for too few points.
    """
    for split in options.splits or ("",):
        check_known("one of --splits", split, SPLITS)
    check_least("--num-alphas", options.num_alphas, 3)
    possible = applicable(network)
    if options.corrections is None:
        return [name for name in possible if CORRECTIONS[name].by_default]
    for name in options.corrections or ("",):
        check_known("one of --corrections", name, CORRECTIONS)
        if name not in possible:
            norm = "with" if "bn_reset" in possible else "without"
            raise InputError(
                f"--corrections holds {name}, which is not for a network {norm} batch norm such as this "
                f"{type(network).__name__}: choose from {', '.join(possible)}"
            )
    return [name for name in possible if name in options.corrections]


def _lines(
    subjects: Subjects, masks: _Masks, permutation: Permutation | None, images: Fed
) -> Iterator[tuple[str, Ends]]:
    """`before`: from A to B; with a permutation also `after`: from π(A) to B."""
    network_a, network_b = subjects.on_device()
    firsts = {"before": (masked(network_a.state_dict(), masks.first), masks.first)}
    if permutation is not None:
        example = subjects.example(images)
        symmetry = trace_symmetry(network_a, example.args, example.kwargs)
        moved = None if masks.first is None else masks.first.permuted(symmetry, permutation)
        firsts["after"] = symmetry.permute(firsts["before"][0], permutation), moved
    second = masked(network_b.state_dict(), masks.line or masks.second)
    for name, (first, mask) in firsts.items():
        if masks.line is not None:
            yield name, Ends(masked(first, masks.line), second, masks.line)
        else:
            yield name, Ends(first, second, None if mask is None or masks.second is None else union(mask, masks.second))


def masked(state: Mapping[str, Tensor], mask: Mask | None) -> dict[str, Tensor]:
    """The state with its pruned weights at 0, if there is a mask."""
    return dict(state) if mask is None else mask.applied_to(state)


def union(first: Mask, second: Mask) -> Mask:
    """What either mask keeps; weights that only one of them names are kept."""
    return Mask({name: tensor | second[name] for name, tensor in first.items() if name in second})


def _measure(
    options: BarrierOptions,
    judge: Judge,
    network: nn.Module,
    lines: Mapping[str, Ends],
    corrections: list[str],
    images: Mapping[str, Fed],
    estimated: Fed,
    progress: Progress,
) -> dict[str, Any]:
    splits = {name: images[name] for name in SPLITS if name in options.splits}
    curves = []
    for correction in corrections:
        for alignment, ends in lines.items():
            found = loss_barriers(
                network, ends.first, ends.second, splits,
                alphas=options.num_alphas, correction=correction, correction_batches=estimated, loss=judge,
                progress=partial(progress, f"{alignment} alignment, {correction}"),
            )  # fmt: skip
            curves += [_curve(correction, alignment, split, barrier) for split, barrier in found.items()]
    sparsity = {name: 0.0 if ends.mask is None else ends.mask.sparsity for name, ends in lines.items()}
    about = {**judged_in_result(judge.judged), **({"augment": True} if options.augment else {})}
    return {**about, "sparsity": sparsity, "curves": curves}


def _curve(correction: str, alignment: str, split: str, barrier: BarrierResult) -> dict[str, Any]:
    derived = ("loss_barrier", "loss_excess_over_mean", "error_barrier", "error_excess_over_mean")
    values = {name: getattr(barrier, name) for name in ("num_images", *derived, "alphas", "loss", "error")}
    return {"correction": correction, "alignment": alignment, "split": split, **values}
