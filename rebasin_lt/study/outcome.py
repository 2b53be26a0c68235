"""What there is of a study, complete or not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import DIVERGED, mask_name
from rebasin_lt.experiment.metrics import metrics_of
from rebasin_lt.storage.run_folder import finished
from rebasin_lt.study.folder import read_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.ledger import images_per_epoch, ledger
from rebasin_lt.study.plan import plan
from rebasin_lt.study.stage import Stage
from rebasin_lt.study.state import State


@dataclass(frozen=True)
class StudyOutcome:
    """What there is of a study, complete or not. Accuracies and errors are fractions in [0, 1].

    Every list holds one mapping per run:

    - `stages`: kind, path, epochs, images, done (bool), in the order of the plan; diverged (True) where training did,
      or what was measured is not finite: no other list has it
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
    """Read a study's folder, complete or not.

    Raises InputError if no study lies there, BrokenFileError for files in it that cannot be read.
    """
    study = read_study(folder)
    state = State.of(plan(study), folder, unsaid=True)
    images = None if study.recipe.own_data else images_per_epoch(study)  # a folder may not choose code to import
    outcome = StudyOutcome(study.title, study.primitives(), ledger(state.plan, state.done, images))
    for stage, row in zip(state.plan.values(), outcome.stages, strict=True):
        result = finished(folder / stage.path) if stage.path in state.done else None
        if not _is_finite(result or {}) or (result is None and (folder / stage.path / DIVERGED).is_file()):
            row["diverged"] = True
        elif result is not None:
            _READERS[stage.kind](outcome, study, stage, result)
    return outcome


def _is_finite(result: Mapping[str, Any]) -> bool:
    """Whether the test metrics and curves of a stage are numbers: null stands for what is not, and once NaN did."""
    measured = [value for name, value in result.items() if name.startswith("test/")]
    for curve in result.get("curves", ()):
        measured += [*curve["loss"], *curve["error"], curve["loss_barrier"], curve["error_barrier"]]
    return all(value is not None and math.isfinite(value) for value in measured)


def _dense(outcome: StudyOutcome, study: Study, stage: Stage, result: dict[str, Any]) -> None:
    about = {"width": stage.width, "seed": stage.settings["repetition"], "role": stage.settings["role"]}
    outcome.dense.append({**about, **_accuracy(result)})


def _imp(outcome: StudyOutcome, study: Study, stage: Stage, result: dict[str, Any]) -> None:
    """The ticket of the last target: the others are not tested."""
    about = {"width": stage.width, "seed": stage.settings["repetition"], "role": stage.settings["role"]}
    outcome.pruned.append({**about, "target": study.recipe.targets[-1], **_accuracy(result)})


def _sparse(outcome: StudyOutcome, study: Study, stage: Stage, result: dict[str, Any]) -> None:
    settings = stage.settings
    if settings["a"] != settings["b"]:
        return  # a member of an ensemble, no cell of the grid
    names = ("method", "sparsity", "rewind")
    about = {"width": stage.width, "seed": settings["b"], **{name: settings[name] for name in names}}
    outcome.sparse.append({**about, **_accuracy(result)})


def _match(outcome: StudyOutcome, study: Study, stage: Stage, result: dict[str, Any]) -> None:
    settings = stage.settings
    if settings["repetition"] is None:
        return
    masks = [
        {"target": target, **{name: result["masks"][mask_name(target)][name] for name in _OVERLAPS}}
        for target in study.recipe.targets
    ]
    about = {"width": stage.width, "seed": settings["repetition"], "matcher": settings["matcher"]}
    outcome.matches.append({**about, "objective": result["objective"], "sizes": result["sizes"], "masks": masks})


def _barrier(outcome: StudyOutcome, study: Study, stage: Stage, result: dict[str, Any]) -> None:
    about = {"width": stage.width, "seed": stage.settings["repetition"], "matcher": stage.settings["matcher"]}
    for curve in result["curves"]:
        values = {name: curve[name] for name in ("split", "correction", *_CURVE)}
        outcome.barriers.append({**about, "when": curve["alignment"], **values})


def _diversity(outcome: StudyOutcome, study: Study, stage: Stage, result: dict[str, Any]) -> None:
    about = {"width": stage.width, "sparsity": stage.settings["sparsity"], "rewind": stage.settings["rewind"]}
    for setting, found in result["settings"].items():
        accuracies = found["member_accuracy"]
        outcome.diversity.append({
            **{**about, "setting": setting, "members": len(accuracies), "accuracy": statistics.fmean(accuracies)},
            "accuracy_std": statistics.stdev(accuracies),
            **{name: found[name] for name in ("disagreement", "kl", "js")},
            "ensemble": found["ensemble_accuracy"],
        })


def _accuracy(result: dict[str, Any]) -> dict[str, float | None]:
    """Fractions; top-5 is missing where there are fewer classes."""
    return metrics_of(result)


_OVERLAPS = ("permuted", "unpermuted", "independent")
_CURVE = ("alphas", "loss", "error", "loss_barrier", "error_barrier")
_READERS: Mapping[str, Callable[[StudyOutcome, Study, Stage, dict[str, Any]], None]] = {
    "dense": _dense,
    "imp": _imp,
    "match": _match,
    "control": lambda *_: None,
    "sparse": _sparse,
    "barrier": _barrier,
    "diversity": _diversity,
}
