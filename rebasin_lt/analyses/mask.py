"""Analyse a mask: its profile and degrees, its overlap with others, and the units that it leaves dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import load_networks
from rebasin_lt.lit.checkpoint import LoadedNetwork
from rebasin_lt.pruning.dead_units import find_dead_units
from rebasin_lt.pruning.degrees import degree_report
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import expected_overlap, overlap_report
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.run_folder import check_folder, finished, run_once
from rebasin_lt.symmetry.trace import trace_symmetry

SUFFIX = ".mask.safetensors"


@dataclass(frozen=True)
class MaskAnalysis:
    """Which mask to analyse, against which others, in which network; see the options of `rebasin-lt mask`."""

    mask: str
    others: tuple[str, ...] = ()
    ckpt: str | None = None
    model: str | None = None
    width: float = 1
    num_classes: int = 10


def analyse_mask(
    settings: MaskAnalysis, out: Path | str, progress: Callable[[str, int, int], None] | None = None
) -> dict[str, Any]:
    """What `settings` ask of a mask, as primitives, in `out/result.json` as well; a complete folder is kept.

    Everything is computed before the folder is made. Raises InputError for masks of other names or shapes than the
    network or each other, SymmetryError where the network's symmetry cannot be found.
    """
    mask, others = Mask.load(settings.mask), [Mask.load(path) for path in settings.others]
    labels = short_names(settings.others)
    network = _network(settings)
    if network is not None:
        mask = _in_order(mask, network.network)
    config = {**asdict(settings), "sha256": mask.hash, "sha256_others": [other.hash for other in others]}
    if network is not None:
        config["sha256_network"] = hash_tensors(network.network.state_dict())
    check_folder(out, config)
    result = finished(out)
    tell = progress or (lambda *_: None)
    if result is None:
        tell("step", 0, 2)
        result = _describe(mask, dict(zip(labels, others, strict=True)))
        tell("step", 1, 2)
        if network is not None:
            result["dead_units"] = _dead_units(network, settings.model, mask)
    return run_once(out, config, lambda: result)


def short_names(paths: Sequence[str]) -> list[str]:
    """A label per mask file: its name without the suffix, or its path where names are shared.

    Raises InputError for a path given twice.
    """
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise InputError(f"--other has {twice[0]} twice: give each mask once")
    stems = [Path(path).name.removesuffix(SUFFIX) for path in paths]
    counts = Counter(stems)
    return [stem if counts[stem] == 1 else path.removesuffix(SUFFIX) for stem, path in zip(stems, paths, strict=True)]


def _in_order(mask: Mask, network: nn.Module) -> Mask:
    """The mask with its names in the order of the network; files are in alphabetical order."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    mask.check_fits(parameters)
    return Mask({name: mask[name] for name in parameters if name in mask})


def _network(settings: MaskAnalysis) -> LoadedNetwork | None:
    if settings.ckpt is None:
        return None
    return load_networks({"--ckpt": settings.ckpt}, settings.model, settings.width, settings.num_classes)[0]


def _describe(mask: Mask, others: Mapping[str, Mask]) -> dict[str, Any]:
    return {
        "weights": mask.num_weights,
        "kept": mask.num_kept,
        "sparsity": mask.sparsity,
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


def _dead_units(loaded: LoadedNetwork, model: str | None, mask: Mask) -> dict[str, Any]:
    """Dead units by group, and what the mask keeps beside their weights."""
    images = torch.randn(2, *loaded.image_shape(model))
    found = find_dead_units(loaded.network, trace_symmetry(loaded.network, images), mask)
    return {
        "groups": found.report(),
        "effective_kept": found.effective.num_kept,
        "effective_sparsity": found.effective.sparsity,
    }
