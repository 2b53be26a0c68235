"""Analyse a mask: its profile and degrees, its overlap with others, and the units that it leaves dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.before import Beginning, beginning_of, fit_of, memory_of, reading, settings_with
from rebasin_lt.experiment.subjects import Subjects
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.lit.checkpoint import LoadedNetwork
from rebasin_lt.process.progress import Progress, untold
from rebasin_lt.pruning.dead_units import find_dead_units
from rebasin_lt.pruning.degrees import degree_report
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import expected_overlap, overlap_report
from rebasin_lt.settings.options import MaskOptions
from rebasin_lt.storage.run_folder import check_folder, finished, run_once
from rebasin_lt.symmetry.trace import trace_symmetry

SUFFIX = ".mask.safetensors"
_MOVED = "init memory is that of the mask before it was permuted: `permute` printed it"


def analyse_mask(options: MaskOptions, out: Path | str, progress: Progress = untold) -> dict[str, Any]:
    """What the options ask of a mask, as primitives, in `out/result.json` as well; a complete folder is kept.

    Everything is computed before the folder is made. Raises InputError for masks of other names or shapes than the
    network or each other, SymmetryError where the network's symmetry cannot be found.
    """
    subjects = Subjects(options, {} if options.ckpt is None else {"--ckpt": options.ckpt})
    (mask,) = subjects.masks([options.mask])
    moved = Mask.load_with_metadata(options.mask)[1].get("stage") == "permute"
    beginning = _beginning(options, mask, moved)
    others, labels = [Mask.load(path) for path in options.others], short_names(options.others)
    settings = settings_with(options, beginning)
    config = {**settings, "sha256": mask.hash, "sha256_others": [other.hash for other in others]}
    for loaded in subjects.networks:
        mask = _in_order(mask, loaded.network)
        (config["sha256_network"],) = subjects.sha256
    check_folder(out, config)
    result = finished(out)
    if result is None:
        progress("step", 0, 2)
        result = _describe(mask, dict(zip(labels, others, strict=True)))
        progress("step", 1, 2)
        for loaded in subjects.networks:
            result["dead_units"] = _dead_units(loaded, subjects.example(), mask)
        if beginning is not None:
            result["before_training"] = _before(mask, beginning, subjects.networks[0].network if moved else None)
    return run_once(out, config, lambda: result)


def _beginning(options: MaskOptions, mask: Mask, moved: bool) -> Beginning | None:
    """What is known of the training that the mask comes from; None where no network is given."""
    if moved:
        if options.init_a is not None:
            raise InputError(
                f"--mask {options.mask} is in the order of another network's units, so --init-a {options.init_a} says "
                "nothing of it: give the mask that was permuted"
            )
        return None if options.ckpt is None else Beginning(None, None, (_MOVED,))
    if options.ckpt is None and options.init_a is None:
        return None
    return beginning_of(options.ckpt, options.init_a, [mask])


def _before(mask: Mask, beginning: Beginning, network_b: nn.Module | None) -> dict[str, Any]:
    """What is known of the mask before anything is trained under it; beside B, if it was moved to B."""
    found = memory_of(mask, beginning)
    if network_b is not None:
        found |= fit_of(mask, network_b.state_dict())
    return {**found, "reading": reading(found), "missing": list(beginning.missing)}


def short_names(paths: Sequence[str]) -> list[str]:
    """A label per mask file: its name without the suffix, or its path where names are shared.

    Raises InputError for a path given twice.
    """
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise InputError(f"--others has {twice[0]} twice: give each mask once")
    stems = [Path(path).name.removesuffix(SUFFIX) for path in paths]
    counts = Counter(stems)
    return [stem if counts[stem] == 1 else path.removesuffix(SUFFIX) for stem, path in zip(stems, paths, strict=True)]


def _in_order(mask: Mask, network: nn.Module) -> Mask:
    """The mask with its names in the order of the network; files are in alphabetical order."""
    names = [name for name, _ in network.named_parameters(remove_duplicate=False) if name in mask]
    return Mask({name: mask.content[name] for name in names})


def _describe(mask: Mask, others: Mapping[str, Mask]) -> dict[str, Any]:
    return {
        "weights": mask.num_weights,
        "kept": mask.num_kept,
        "sparsity": mask.sparsity,
        "signed": mask.is_signed,
        "layers": mask.report(),
        "degrees": degree_report(mask),
        "overlap": {
            label: {
                "overlap": mask.overlap(other),
                "expected_overlap": expected_overlap(mask, other),
                "layers": overlap_report(mask, other),
            }
            for label, other in others.items()
        },
    }


def _dead_units(loaded: LoadedNetwork, example: ForwardCall, mask: Mask) -> dict[str, Any]:
    """Dead units by group, and what the mask keeps beside their weights."""
    symmetry = trace_symmetry(loaded.network, example.args, example.kwargs)
    found = find_dead_units(loaded.network, symmetry, mask)
    return {
        "groups": found.report(),
        "effective_kept": found.effective.num_kept,
        "effective_sparsity": found.effective.sparsity,
    }
