"""What there is of a study, complete or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.run_folder import CONFIG, read_config


@dataclass(frozen=True)
class StudyOutcome:
    """What there is of a study, complete or not. Accuracies and errors are fractions in [0, 1].

    Every list holds one mapping per run:

    - `stages`: kind, path, epochs, images, done (bool), in the order of the plan
    - `dense`: width, seed, role ("a" or "b"), top1, top5; `pruned`, the IMP tickets, also target
    - `sparse`: width, seed, method, sparsity (the target), rewind ("0it", "20ep"), top1, top5
    - `matches`: width, seed, matcher, objective and sizes by group, masks (target, and the overlaps (IoU) with B's
      one-shot mask: permuted, unpermuted, and by chance independent)
    - `barriers`: width, seed, matcher, split, correction, when ("before" or "after"), alphas, loss, error,
      loss_barrier, error_barrier
    - `diversity`: width, sparsity, rewind, setting, members, accuracy, accuracy_std, ensemble, disagreement, kl, js
    """

    title: str
    settings: Mapping[str, Any]
    stages: list[dict[str, Any]] = field(default_factory=list)
    dense: list[dict[str, Any]] = field(default_factory=list)
    pruned: list[dict[str, Any]] = field(default_factory=list)
    sparse: list[dict[str, Any]] = field(default_factory=list)
    matches: list[dict[str, Any]] = field(default_factory=list)
    barriers: list[dict[str, Any]] = field(default_factory=list)
    diversity: list[dict[str, Any]] = field(default_factory=list)


def collect(folder: Path) -> StudyOutcome:
    """Read a study's folder. Raises InputError if it is none."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is not a study: it holds no {CONFIG}; give the folder that `study` wrote")
    settings = read_config(folder / CONFIG)
    if "methods" not in settings:
        raise InputError(f"{folder} is not a study: its {CONFIG} names no methods; give the folder that `study` wrote")
    return StudyOutcome(folder.name, settings)
