"""Align the experts of every mixture of a network, and measure what merging them, or one mask for all, costs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from rebasin_lt.analyses.permute import PERMUTED, permutation_file, write_changed
from rebasin_lt.connectivity.evaluation import check_judged, evaluate
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.file_names import PERMUTATION
from rebasin_lt.experiment.subjects import Subjects
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.judging.judge import Judge, judge_of
from rebasin_lt.judging.losses import CROSS_ENTROPY, judged_in_result, without_default
from rebasin_lt.matching.experts import AlignedExperts, align_experts, mixtures_to_align
from rebasin_lt.matching.shared import check_shared, merged_experts, with_mask_of
from rebasin_lt.process.progress import Progress, untold
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.choices import check_known
from rebasin_lt.settings.options import ALIGNED_BY, MERGES, ExpertsOptions
from rebasin_lt.storage.run_folder import CONFIG, RESULT, run_once
from rebasin_lt.symmetry.mixtures import mixture_label
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

MERGED = "merged.ckpt"
SHARED = "shared-"
"""Before the name of a mask's file, that of the one in which all experts of a layer have the mask of one."""


@dataclass
class _Given:
    """What is aligned, read and checked."""

    options: ExpertsOptions
    subjects: Subjects
    masks: Mapping[str, Mask]  # by file name
    judge: Judge

    @cached_property
    def traced(self) -> _Traced:
        """The network with its symmetry. Raises InputError without experts, or for a mask that they cannot share."""
        options, loaded = self.options, self.subjects.networks[0]
        batches = self.subjects.train() if options.by == "activations" else None
        looks = batches is not None or _measures(options)
        network = self.subjects.on_device()[0] if looks else loaded.network
        example = self.subjects.example(batches)
        symmetry = trace_symmetry(network, example.args, example.kwargs)
        mixtures_to_align(symmetry, options.expert, options.by)
        for name, mask in self.masks.items() if options.share_mask else ():
            check_shared(mask, symmetry, f"--share-mask is given, but {name}")
        return _Traced(network, symmetry, batches)


class _Traced(NamedTuple):
    network: nn.Module
    symmetry: Symmetry
    batches: Fed | None


def align_and_write(options: ExpertsOptions, out: Path | str, progress: Progress = untold) -> dict[str, Any]:
    """Align, and write permutation, network, masks, and what is made of them on request, into `out`; once.

    Everything is checked before the folder is made. Raises InputError for a network without experts, masks that do not
    fit, options that cannot be or have no effect, or data that is not there.
    """
    given = _open(options)
    (sha256,) = given.subjects.sha256
    contents = {"sha256_network": sha256, "sha256_masks": [mask.hash for mask in given.masks.values()]}
    outputs = [PERMUTATION, PERMUTED, *given.masks]
    outputs += [MERGED] * (options.merge is not None) + [SHARED + name for name in given.masks if options.share_mask]
    if not (Path(out) / RESULT).exists():  # else a run of the same has been through this
        _ = given.traced
    work = partial(_align, options, Path(out), given, progress)
    config = {**without_default(asdict(options)), **contents}
    return run_once(out, config, work, outputs, but=("ckpt", "masks", "root"))


def _open(options: ExpertsOptions) -> _Given:
    check_known("--by", options.by, ALIGNED_BY)
    if options.merge is not None:
        check_known("--merge", options.merge, MERGES)
    if options.share_mask and not options.masks:
        raise InputError("--share-mask is given, but there is no mask to share: give --masks")
    if options.loss != CROSS_ENTROPY and not _measures(options):
        raise InputError(f"--loss is {options.loss}, but without --merge and --share-mask no loss is measured")
    subjects = Subjects(options, {"--ckpt": options.ckpt})
    masks = {Path(path).name: mask for path, mask in zip(options.masks, subjects.masks(options.masks), strict=True)}
    if len({*map(permutation_file, masks)}) < len(options.masks):
        raise InputError(f"masks {list(options.masks)} share a file name: the aligned ones would overwrite each other")
    for name in masks:
        if name in {CONFIG, RESULT, PERMUTATION, PERMUTED, MERGED}:
            raise InputError(f"mask {name} has the name of a file that experts writes: rename it")
    judge = judge_of(options.loss, "--loss")
    if _measures(options):
        (network,) = subjects.on_device()
        check_judged(network, subjects.test(), "--loss on the test set", judge)
    return _Given(options, subjects, masks, judge)


def _measures(options: ExpertsOptions) -> bool:
    return options.merge is not None or options.share_mask


def _align(options: ExpertsOptions, out: Path, given: _Given, progress: Progress) -> dict[str, Any]:
    progress("step", 0, 3)
    network, symmetry, batches = given.traced
    found = align_experts(network, symmetry, by=options.by, batches=batches, expert=options.expert)
    progress("step", 1, 3)
    state = symmetry.permute(network, found.permutation)
    masks = {name: mask.permuted(symmetry, found.permutation) for name, mask in given.masks.items()}
    _write(options, out, given, symmetry, found, state, masks)
    progress("step", 2, 3)
    result: dict[str, Any] = {
        "by": options.by,
        "expert": options.expert,
        "mixtures": {
            mixture_label(mixture): {
                "experts": mixture.num_experts,
                "hidden_units": sum(symmetry.groups[group] for group in mixture.hidden[0]),
                **dict(zip(("before", "after"), found.similarity[mixture_label(mixture)], strict=True)),
            }
            for mixture in found.mixtures
        },
    }
    if _measures(options):
        states = _measured(options, given, symmetry, network, state, masks)
        result |= judged_in_result(given.judge.judged)
        result["losses"] = _losses(network, states, given)
    return result


def _write(
    options: ExpertsOptions,
    out: Path,
    given: _Given,
    symmetry: Symmetry,
    found: AlignedExperts,
    state: Mapping[str, Tensor],
    masks: Mapping[str, Mask],
) -> None:
    loaded, origin = given.subjects.networks[0], {"stage": "experts", "source": options.ckpt}
    (sha256,) = given.subjects.sha256
    found.permutation.save(out / PERMUTATION, method=f"experts by {options.by}", source_sha256=sha256)
    own = None if loaded.mask is None else symmetry.permute(loaded.mask, found.permutation)
    write_changed(out / PERMUTED, loaded, state, own, origin)
    if options.merge is not None:
        write_changed(out / MERGED, loaded, merged_experts(state, symmetry), None, origin)
    for name, mask in masks.items():
        mask.save(out / name, **origin)
        if options.share_mask:
            with_mask_of(mask, symmetry, options.expert).save(out / f"{SHARED}{name}", **origin)


def _measured(
    options: ExpertsOptions,
    given: _Given,
    symmetry: Symmetry,
    network: nn.Module,
    state: Mapping[str, Tensor],
    masks: Mapping[str, Mask],
) -> dict[str, Mapping[str, Tensor]]:
    """The networks to measure, by what was done: each without alignment, and after it."""
    before = {name: tensor for name, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    states: dict[str, Mapping[str, Tensor]] = {"as it is": before, "aligned": state}
    if options.merge is not None:
        states |= {
            "merged without alignment": merged_experts(before, symmetry),
            "merged after it": merged_experts(state, symmetry),
        }
    for name, moved in masks.items() if options.share_mask else ():
        mask = given.masks[name]
        states |= {
            f"{name}": mask.applied_to(before),
            f"{name}, shared without alignment": with_mask_of(mask, symmetry, options.expert).applied_to(before),
            f"{name}, shared after it": with_mask_of(moved, symmetry, options.expert).applied_to(state),
        }
    return states


def _losses(network: nn.Module, states: Mapping[str, Mapping[str, Tensor]], given: _Given) -> dict[str, Any]:
    """Loss and error on the test images, by what was done."""
    found = {}
    changed = copy.deepcopy(network).eval()
    for name, state in states.items():
        changed.load_state_dict({**network.state_dict(), **state})
        (measured,) = evaluate([changed], given.subjects.test(), loss=given.judge)
        found[name] = measured._asdict()
    return found
